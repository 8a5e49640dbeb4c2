"""The microphone as a source of audio."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import soxr

from stream_erc_desktop.channels import mix
from stream_erc_desktop.sound_card import STREAMS, SoundLibrary, sound_library
from stream_erc_desktop.sources import BLOCK_MS, SAMPLE_RATE_HZ, SourceError, silent

QUEUE_BLOCKS = 10_000 // BLOCK_MS  # queued for a slow connection; more is replaced by silence
DEVICE_TIMEOUT_S = 2.0  # a device that brings no audio for so long is gone
AGAIN_S = 0.5  # between two attempts to open a device that was disconnected
RETURN_S = 60.0  # a device that is not back after so long is not waited for
MAX_RATE_HZ = 48_000  # of the protocol; a faster device is resampled


@dataclass(frozen=True, slots=True)
class Microphone:
    """A recording device."""

    index: int
    name: str
    channels: int
    rate_hz: int
    is_default: bool


def find_microphones(library: SoundLibrary | None = None) -> list[Microphone]:
    """Return the recording devices.

    Raises:
        SourceError: there is none, with the reason.
    """
    sound = library if library is not None else sound_library("The microphone")
    STREAMS.look_again(sound)
    try:
        devices = [device for device in sound.query_devices() if device["max_input_channels"] > 0]
    except sound.PortAudioError as error:
        raise SourceError(f"The sound system does not respond: {error}") from error
    if not devices:
        raise SourceError("This computer has no microphone")
    default = getattr(getattr(sound, "default", None), "device", (-1, -1))[0]
    return [
        Microphone(
            index=int(device["index"]),
            name=str(device["name"]),
            channels=int(device["max_input_channels"]),
            rate_hz=round(device["default_samplerate"]),
            is_default=device["index"] == default,
        )
        for device in devices
    ]


class Recorder:
    """A microphone as a source, until `stop`.

    Args:
        talking: whether it is heard at first; if not, silence is sent, so that time advances.
    """

    live = True
    duration_ms: int | None = None  # unknown
    channels: tuple[str | None, ...] | None = None

    def __init__(
        self, microphone: Microphone, *, talking: bool = True, library: SoundLibrary | None = None
    ) -> None:
        self.microphone, self.name = microphone, microphone.name
        self.talking = talking  # read by PortAudio's thread
        self.sample_rate_hz = SAMPLE_RATE_HZ
        self.tell: Callable[[str], None] = silent
        self._library = library
        self._stream: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._lost = 0  # bytes dropped since the last queued block

    def open(self) -> None:
        """Open the device, at 16 kHz if it can, or else at its own rate.

        Raises:
            SourceError: it cannot be opened.
        """
        rate_hz = self._open(self.microphone)
        self.sample_rate_hz = rate_hz if rate_hz <= MAX_RATE_HZ else SAMPLE_RATE_HZ

    def _open(self, microphone: Microphone) -> int:
        """Open a device at the rate of the conversation if it can, or else at its own; return the rate."""
        sound, own_hz = self._sound(), microphone.rate_hz
        failed: Exception | None = None
        for rate_hz, channels in ((self.sample_rate_hz, 1), (own_hz, 1), (own_hz, microphone.channels)):
            try:
                self._stream = sound.RawInputStream(
                    device=microphone.index,
                    samplerate=rate_hz,
                    channels=channels,
                    dtype="int16",
                    blocksize=rate_hz * BLOCK_MS // 1_000,
                    callback=partial(self._hear, _Way(rate_hz, channels)),
                )
            except (sound.PortAudioError, ValueError) as error:
                failed = error
            else:
                STREAMS.opened()
                return rate_hz
        raise SourceError(f"The microphone {self.name} cannot be opened: {failed}") from failed

    @property
    def _called(self) -> str:
        return f"The microphone {self.name}"

    def _sound(self) -> SoundLibrary:
        return self._library if self._library is not None else sound_library("The microphone")

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio as it is recorded.

        A device that was disconnected, or changed its rate, is taken up when it is back. Until then there is
        silence, so that a turn ends, and another channel goes on.

        Raises:
            SourceError: the device cannot be started, or did not come back.
        """
        self._loop = loop = asyncio.get_running_loop()
        heard_at = told_at = opened_at = loop.time()  # of the last audio; of it or silence; of the opening
        away = False
        try:
            self._start()
            while True:
                try:
                    block = await asyncio.wait_for(self._queue.get(), AGAIN_S if away else DEVICE_TIMEOUT_S)
                except TimeoutError:  # also where the device changed its rate, and no error says so
                    now = loop.time()
                    if not away:
                        away = True
                        self.tell(f"{self._called} was disconnected; listening goes on when it is back.")
                    yield bytes(2 * round((now - told_at) * self.sample_rate_hz))
                    told_at = now
                    if self._stream is None or now - opened_at >= DEVICE_TIMEOUT_S:
                        await self._open_again(now - heard_at)
                        opened_at = loop.time()
                    continue
                if block is None:
                    return
                if away:
                    away = False
                    self.tell(f"{self._called} is heard again.")
                heard_at = told_at = opened_at = loop.time()
                yield block
        finally:
            self.close()

    def _start(self) -> None:
        try:
            self._stream.start()
        except self._sound().PortAudioError as error:
            raise SourceError(f"{self._called} cannot be started: {error}") from error

    async def _open_again(self, away_s: float) -> None:
        """Open the device again if it is there.

        Args:
            away_s: time since its last audio.

        Raises:
            SourceError: it did not come back in time.
        """
        if away_s > RETURN_S:
            raise SourceError(f"{self._called} was disconnected")
        self._release()
        with suppress(SourceError):
            self._take_up(await asyncio.to_thread(find_microphones, self._library))

    def _take_up(self, found: list[Microphone]) -> None:
        """Open the same device; where it was the default one, the one that is the default now.

        Raises:
            SourceError: it cannot be opened.
        """
        same = [microphone for microphone in found if microphone.name == self.microphone.name]
        instead = [m for m in found if m.is_default] if self.microphone.is_default else []
        for microphone in (*same, *instead)[:1]:
            self._open(microphone)
            try:
                self._start()
            except SourceError:
                self._release()
                raise

    def pause(self, paused: bool) -> None:
        """Send silence instead of the microphone's audio, or stop doing so."""
        self.talking = not paused

    def stop(self) -> None:
        """Stop recording; audio recorded so far is still yielded."""
        self._queue.put_nowait(None)

    def close(self) -> None:
        """Close the device."""
        self._loop = None
        self._release()

    def _release(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
            STREAMS.closed()

    def _hear(self, way: "_Way", data: Any, frames: int, when: object, status: object) -> None:
        """Queue recorded audio; called in PortAudio's thread, must not block."""
        loop = self._loop
        if loop is None:
            return
        block = bytes(data) if self.talking else bytes(2 * frames * way.channels)
        try:
            loop.call_soon_threadsafe(self._take, way, block)
        except RuntimeError:  # the loop was closed meanwhile
            self._loop = None

    def _take(self, way: "_Way", block: bytes) -> None:
        block = way.to_mono(block, self.sample_rate_hz)
        if self._queue.qsize() >= QUEUE_BLOCKS:
            self._lost += len(block)
            return
        if self._lost:  # silence in place of dropped audio, so that times stay right
            self._queue.put_nowait(bytes(self._lost))
            self._lost = 0
        self._queue.put_nowait(block)


class _Way:
    """A way in which a device is open: its rate and channels.

    Args:
        rate_hz: its sample rate.
        channels: their number.
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        self.rate_hz, self.channels = rate_hz, channels
        self._resampler: soxr.ResampleStream | None = None

    def to_mono(self, pcm: bytes, rate_hz: int) -> bytes:
        """Return its samples mixed, at another rate.

        Args:
            pcm: 16 bits, little-endian, the samples of the channels in turn.
            rate_hz: of the result, the same in every call.
        """
        pcm = mix(pcm, self.channels)
        if rate_hz == self.rate_hz:
            return pcm
        if self._resampler is None:
            self._resampler = soxr.ResampleStream(self.rate_hz, rate_hz, 1, dtype="int16")
        resampled: bytes = self._resampler.resample_chunk(np.frombuffer(pcm, "<i2")).tobytes()
        return resampled
