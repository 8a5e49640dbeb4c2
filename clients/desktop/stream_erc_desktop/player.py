"""A recording as a source of audio: WAV by the standard library, other formats if PyAV is installed."""

import asyncio
import wave
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Literal

from stream_erc_client.errors import AudioError
from stream_erc_client.media import MediaFile

from stream_erc_desktop.channels import carry_different_speech, mix
from stream_erc_desktop.sources import BLOCK_MS, SAMPLE_RATE_HZ, SourceError, silent

ChannelChoice = Literal["auto", "mix", "separate"]
MAX_CHANNELS = 8  # the protocol's limit
LOOK_BLOCK_MS = 1_000  # when its channels are compared
REPLAY_BLOCK_MS = 200  # when it is sent as fast as the server works
WAV_RATES_HZ = range(8_000, 48_001)  # the protocol's limits


class Recording:
    """An audio or video file, in real time or as fast as it is read.

    Args:
        live: whether to read it in real time, as if it were spoken now.
        choice: what becomes of its channels; `auto` separates two that carry different speech.

    Attributes:
        sample_rate_hz, duration_ms: known once it is open; the duration is None if the file does not say.
    """

    def __init__(self, path: Path, *, live: bool = True, choice: ChannelChoice = "auto") -> None:
        self.path, self.live, self._choice = path, live, choice
        self.name = path.name
        self.channels: tuple[str | None, ...] | None = None
        self.tell: Callable[[str], None] = silent
        self.sample_rate_hz = SAMPLE_RATE_HZ
        self.duration_ms: int | None = None
        self._wav = False
        self._stopped = False
        self._going: asyncio.Event | None = None
        self._paused = False

    def open(self) -> None:
        """Find out the format, and what becomes of the channels.

        Raises:
            SourceError: there is no such file, or no decoder for it.
        """
        if not self.path.is_file():
            raise SourceError(f"expected a file, got {self.path}")
        try:
            with wave.open(str(self.path), "rb") as file:
                rate_hz, frames, channels = file.getframerate(), file.getnframes(), file.getnchannels()
                self._wav = file.getsampwidth() == 2 and rate_hz in WAV_RATES_HZ
        except (wave.Error, EOFError, OSError):
            self._wav = False
        if self._wav:
            self.sample_rate_hz, self.duration_ms = rate_hz, frames * 1_000 // rate_hz
        else:
            self.duration_ms, channels = _probe(self.path)
        self.channels = (None,) * channels if self._separates(channels) else None

    def _separates(self, channels: int) -> bool:
        if not 1 < channels <= MAX_CHANNELS or self._choice == "mix":
            return False
        if self._choice == "separate":
            return True
        return channels == 2 and carry_different_speech(self._read(LOOK_BLOCK_MS, True), self.sample_rate_hz)

    def pause(self, paused: bool) -> None:
        """Pause or continue; call it in the thread that iterates."""
        self._paused = paused
        if self._going is not None:
            self._going.clear() if paused else self._going.set()

    def stop(self) -> None:
        """End the iteration."""
        self._stopped = True
        self.pause(False)

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio: 16 bits, little-endian, at `sample_rate_hz`, separate channels in turn.

        Raises:
            SourceError: reading failed.
        """
        self._going = asyncio.Event()
        self.pause(self._paused)
        loop = asyncio.get_running_loop()
        due = loop.time()
        separate = self.channels is not None
        count = len(self.channels or (None,))
        for block in self._read(BLOCK_MS if self.live else REPLAY_BLOCK_MS, separate):
            if not self._going.is_set():
                await self._going.wait()
                due = max(due, loop.time())
            if self._stopped:
                return
            yield block
            due += len(block) / 2 / count / self.sample_rate_hz
            # After the machine slept, continue in real time rather than catch up.
            due = max(due, loop.time() - 1.0)
            await asyncio.sleep(max(0.0, due - loop.time()) if self.live else 0)

    def _read(self, block_ms: int, separate: bool) -> Iterator[bytes]:
        read = _read_wav if self._wav else _decode
        return read(self.path, block_ms, separate)


def _read_wav(path: Path, block_ms: int, separate: bool) -> Iterator[bytes]:
    try:
        with wave.open(str(path), "rb") as file:
            channels, frames = file.getnchannels(), file.getframerate() * block_ms // 1_000
            while data := file.readframes(frames):
                yield data if separate else mix(data, channels)
    except (wave.Error, EOFError, OSError, ValueError) as error:
        raise SourceError(f"{path.name}: expected a whole WAV file, got: {error}") from error


def _probe(path: Path) -> tuple[int | None, int]:
    """Return the duration in a recording's header, in milliseconds, and the number of its channels."""
    try:
        import av
    except ImportError:
        raise SourceError(
            f"{path.name}: expected WAV of 16 bits, 8 to 48 kHz; other formats need the package av "
            "(pip install av)"
        ) from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise SourceError(f"{path.name}: expected a recording, got a file without audio")
            duration_ms = None if container.duration is None else container.duration // 1_000
        with MediaFile(path) as file:
            return duration_ms, file.channels
    except (AudioError, av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"{path.name}: expected an audio or video file, got: {error}") from error


def _decode(path: Path, block_ms: int, separate: bool) -> Iterator[bytes]:
    try:
        with MediaFile(path, SAMPLE_RATE_HZ) as file:
            yield from file.chunks(block_ms, separate=separate)
    except (AudioError, OSError, ValueError) as error:
        raise SourceError(f"{path.name}: reading the recording failed: {error}") from error
