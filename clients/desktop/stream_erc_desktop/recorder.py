"""The microphone as a source of audio."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_erc_desktop.sound_card import STREAMS, SoundLibrary, sound_library
from stream_erc_desktop.sources import BLOCK_MS, SAMPLE_RATE_HZ, SourceError, silent

QUEUE_BLOCKS = 10_000 // BLOCK_MS  # queued for a slow connection; more is replaced by silence
DEVICE_TIMEOUT_S = 2.0  # a device that brings no audio for so long is gone
AGAIN_S = 0.5  # between two attempts to open a device that was disconnected
RETURN_S = 60.0  # a device that is not back after so long is not waited for
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
        self._channels = 1
        self._stopped = False
        self._stream: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._lost = 0  # bytes dropped since the last queued block

    def open(self) -> None:
        """Open the device, at 16 kHz if it can, or else at its own rate.

        Raises:
            SourceError: it cannot be opened.
        """
        own_hz = self.microphone.rate_hz
        self._open(self.microphone, (SAMPLE_RATE_HZ, 1), (own_hz, 1), (own_hz, self.microphone.channels))

    def _open(self, microphone: Microphone, *ways: tuple[int, int]) -> None:
        """Open a device in the first of these ways, (sample rate, channels), that it takes."""
        sound = self._sound()
        failed: Exception | None = None
        for rate_hz, channels in ways:
            if rate_hz > MAX_RATE_HZ:
                continue
            try:
                self._stream = sound.RawInputStream(
                    device=microphone.index,
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
                STREAMS.opened()
                return
        raise SourceError(f"The microphone {self.name} cannot be opened: {failed}") from failed

    @property
    def _called(self) -> str:
        return f"The microphone {self.name}"

    def _sound(self) -> SoundLibrary:
        return self._library if self._library is not None else sound_library("The microphone")

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio as it is recorded; a device that was disconnected is taken up when it is back.

        Raises:
            SourceError: the device cannot be started, or did not come back.
        """
        self._loop = loop = asyncio.get_running_loop()
        lost_at: float | None = None
        try:
            self._start()
            while True:
                try:
                    block = await asyncio.wait_for(self._queue.get(), DEVICE_TIMEOUT_S)
                except TimeoutError:  # also where the device changed its rate, and no error says so
                    if lost_at is None:
                        lost_at = loop.time()
                        self.tell(f"{self._called} was disconnected; listening goes on when it is back.")
                    await self._come_back(lost_at + RETURN_S)
                    continue
                if block is None:
                    return
                if lost_at is not None:
                    lost_at = None
                    self.tell(f"{self._called} is heard again.")
                yield block
        finally:
            self.close()

    def _start(self) -> None:
        try:
            self._stream.start()
        except self._sound().PortAudioError as error:
            raise SourceError(f"{self._called} cannot be started: {error}") from error

    async def _come_back(self, until: float) -> None:
        """Wait for the device, and open it again at the rate of the conversation.

        Raises:
            SourceError: it did not come back in time, on the clock of the loop.
        """
        loop = asyncio.get_running_loop()
        self._release()
        while not self._stopped:
            if loop.time() > until:
                raise SourceError(f"{self._called} was disconnected")
            try:
                self._take_up(await asyncio.to_thread(find_microphones, self._library))
            except SourceError:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    def _take_up(self, found: list[Microphone]) -> None:
        """Open the same device; where it was the default one, the one that is the default now.

        Raises:
            SourceError: it is not there, or does not open at the rate of the conversation.
        """
        same = [microphone for microphone in found if microphone.name == self.microphone.name]
        instead = [m for m in found if m.is_default] if self.microphone.is_default else []
        for microphone in (*same, *instead)[:1]:
            self._open(microphone, (self.sample_rate_hz, 1), (self.sample_rate_hz, microphone.channels))
            try:
                self._start()
            except SourceError:
                self._release()
                raise
            return
        raise SourceError(f"{self._called} is not there")

    def pause(self, paused: bool) -> None:
        """Send silence instead of the microphone's audio, or stop doing so."""
        self.talking = not paused

    def stop(self) -> None:
        """Stop recording; audio recorded so far is still yielded."""
        self._stopped = True
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
