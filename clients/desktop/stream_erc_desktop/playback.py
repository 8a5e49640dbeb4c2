"""The last half hour of audio, for playing a turn again."""

import threading

import numpy as np
from PySide6.QtCore import QObject, Signal

from stream_erc_desktop.model import Turn
from stream_erc_desktop.sound_card import STREAMS, SoundLibrary, sound_library
from stream_erc_desktop.sources import SAMPLE_RATE_HZ, SourceError

KEPT = 30 * 60 * SAMPLE_RATE_HZ * 2  # bytes: 58 MB; less than half an hour at higher rates
STEP_MS = 50  # it can be stopped between steps
CLOSE_S = 2.0
NO_OUTPUT = "This computer has no sound output, so no turn can be heard again"


class Playback(QObject):
    """A store of the latest audio, from which it plays turns.

    Args:
        library: the module `sounddevice`; tests pass a stand-in.

    Signals:
        playing: the index of the turn being played, None for none.
        failed: why a turn cannot be played.
    """

    playing = Signal(object)
    failed = Signal(str)
    _ended = Signal(object)

    def __init__(self, library: SoundLibrary | None = None) -> None:
        super().__init__()
        self._library = library
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()  # of the turn played now or last
        self._turn: int | None = None
        self._ended.connect(self._on_ended)
        self.clear()

    def clear(self, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
        """Drop all audio, for a new source."""
        self.stop()
        self._rate_hz, self._pcm = sample_rate_hz, bytearray()
        self._from = 0  # bytes that are no longer kept

    def push(self, pcm: bytes) -> None:
        """Keep audio: mono, 16 bits, little-endian, whole samples."""
        self._pcm += pcm
        excess = len(self._pcm) - KEPT
        if excess > KEPT // 16:  # not with every block
            del self._pcm[:excess]
            self._from += excess

    def play(self, turn: Turn) -> None:
        """Play a turn, or stop it if it is playing."""
        again = turn.index == self._turn
        self.stop()
        if again:
            return
        if turn.start_ms is None or turn.end_ms is None:
            self.failed.emit("This turn came without audio")
            return
        first, last = (2 * (ms * self._rate_hz // 1_000) - self._from for ms in (turn.start_ms, turn.end_ms))
        if first < 0:
            self.failed.emit("The audio of this turn is no longer kept")
            return
        self._turn, self._stopping = turn.index, threading.Event()
        job = (bytes(self._pcm[first:last]), self._rate_hz, self._stopping)
        self._thread = threading.Thread(target=self._run, args=job, name="playback", daemon=True)
        self._thread.start()
        self.playing.emit(turn.index)

    def stop(self) -> None:
        """Stop playing."""
        self._stopping.set()
        if self._turn is not None:
            self._turn = None
            self.playing.emit(None)

    def close(self) -> None:
        """Stop playing, and wait a limited time for the sound card to close."""
        self.stop()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _on_ended(self, stopping: threading.Event) -> None:
        if stopping is self._stopping:
            self.stop()

    # --- in a thread of its own ---------------------------------------------------------------------

    def _run(self, pcm: bytes, rate_hz: int, stopping: threading.Event) -> None:
        try:
            with STREAMS.playing():
                self._write(self._library or sound_library("Hearing a turn again"), pcm, rate_hz, stopping)
        except SourceError as error:
            self.failed.emit(str(error))
        finally:
            self._ended.emit(stopping)

    def _write(self, sound: SoundLibrary, pcm: bytes, rate_hz: int, stopping: threading.Event) -> None:
        try:
            own_hz = round(sound.query_devices(kind="output")["default_samplerate"])
        except (sound.PortAudioError, ValueError) as error:
            raise SourceError(NO_OUTPUT) from error
        try:
            try:
                stream = sound.RawOutputStream(samplerate=rate_hz, channels=1, dtype="int16")
            except sound.PortAudioError:
                stream = sound.RawOutputStream(samplerate=own_hz, channels=1, dtype="int16")
                pcm, rate_hz = _resampled(pcm, rate_hz, own_hz), own_hz
            step = 2 * (rate_hz * STEP_MS // 1_000)
            with stream:  # closing it waits until all audio has been played
                for at in range(0, len(pcm), step):
                    if stopping.is_set():
                        stream.abort()
                        return
                    stream.write(pcm[at : at + step])
        except sound.PortAudioError as error:
            raise SourceError(f"The sound output cannot play the turn: {error}") from error


def _resampled(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    samples = np.frombuffer(pcm, "<i2")
    at = np.arange(len(samples) * to_hz // from_hz) * (from_hz / to_hz)
    return np.interp(at, np.arange(len(samples)), samples).astype("<i2").tobytes() if len(samples) else b""
