"""The microphone as a source of audio."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_erc_desktop.sound_card import SoundLibrary, sound_library
from stream_erc_desktop.sources import BLOCK_MS, SAMPLE_RATE_HZ, SourceError

QUEUE_BLOCKS = 10_000 // BLOCK_MS  # queued for a slow connection; more is replaced by silence
DEVICE_TIMEOUT_S = 2.0  # after this long without audio, check that the device is still there
MAX_RATE_HZ = 48_000


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

    def __init__(
        self, microphone: Microphone, *, talking: bool = True, library: SoundLibrary | None = None
    ) -> None:
        self.microphone, self.name = microphone, microphone.name
        self.talking = talking  # read by PortAudio's thread
        self.sample_rate_hz = SAMPLE_RATE_HZ
        self._library = library
        self._channels = 1
        self._stream: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._lost = 0  # bytes dropped since the last queued block

    def open(self) -> None:
        """Open the device, at 16 kHz if it can, or else at its own rate.

        Raises:
            SourceError: it cannot be opened.
        """
        sound = self._library if self._library is not None else sound_library("The microphone")
        own_hz = self.microphone.rate_hz
        failed: Exception | None = None
        for rate_hz, channels in ((SAMPLE_RATE_HZ, 1), (own_hz, 1), (own_hz, self.microphone.channels)):
            if rate_hz > MAX_RATE_HZ:
                continue
            try:
                self._stream = sound.RawInputStream(
                    device=self.microphone.index,
                    samplerate=rate_hz,
                    channels=channels,
                    dtype="int16",
                    blocksize=rate_hz * BLOCK_MS // 1_000,
                    callback=self._hear,
                )
            except (sound.PortAudioError, ValueError) as error:
                failed = error
            else:
                self.sample_rate_hz, self._channels = rate_hz, channels
                return
        raise SourceError(f"The microphone {self.name} cannot be opened: {failed}") from failed

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio as it is recorded.

        Raises:
            SourceError: the device was disconnected.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._stream.start()
            while True:
                try:
                    block = await asyncio.wait_for(self._queue.get(), DEVICE_TIMEOUT_S)
                except TimeoutError:
                    if not self._stream.active:
                        raise SourceError(f"The microphone {self.name} was disconnected") from None
                    continue
                if block is None:
                    return
                yield block
        finally:
            self.close()

    def pause(self, paused: bool) -> None:
        """Send silence instead of the microphone's audio, or stop doing so."""
        self.talking = not paused

    def stop(self) -> None:
        """Stop recording; audio recorded so far is still yielded."""
        self._queue.put_nowait(None)

    def close(self) -> None:
        """Close the device."""
        self._loop = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _hear(self, data: Any, frames: int, when: object, status: object) -> None:
        """Queue recorded audio; called in PortAudio's thread, must not block."""
        loop = self._loop
        if loop is None:
            return
        if not self.talking:
            block = bytes(2 * frames)
        elif self._channels == 1:
            block = bytes(data)
        else:
            samples = np.frombuffer(data, "<i2").reshape(-1, self._channels)
            block = samples.mean(1).astype("<i2").tobytes()
        try:
            loop.call_soon_threadsafe(self._take, block)
        except RuntimeError:  # the loop was closed meanwhile
            self._loop = None

    def _take(self, block: bytes) -> None:
        if self._queue.qsize() >= QUEUE_BLOCKS:
            self._lost += len(block)
            return
        if self._lost:  # silence in place of dropped audio, so that times stay right
            self._queue.put_nowait(bytes(self._lost))
            self._lost = 0
        self._queue.put_nowait(block)
