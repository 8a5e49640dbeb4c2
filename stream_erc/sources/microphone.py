"""Audio from the microphone, through PortAudio.

A shell: the only file that touches the sound card. It gives 16 kHz mono `Samples`, chunk by chunk.
"""

import logging
import queue
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE, Resampler
from stream_erc.events import Samples
from stream_erc.exceptions import DeviceError

log = logging.getLogger(__name__)

QUEUE_MS = 10_000  # what a slow consumer may be behind the microphone
POLL_S = 0.1  # how soon the end of a device is seen


class DeviceInfo(TypedDict):
    """What is used of a device as sounddevice describes it."""

    index: int
    name: str
    max_input_channels: int
    default_samplerate: float


class SoundStream(Protocol):
    """What is used of `sounddevice.RawInputStream`."""

    @property
    def active(self) -> bool:
        """False once the device is gone."""

    def start(self) -> None:
        """Begin to call back."""

    def close(self) -> None:
        """Stop, and let the device go."""


class SoundLibrary(Protocol):
    """What is used of the module `sounddevice`; a test gives its own."""

    @property
    def PortAudioError(self) -> type[Exception]:  # noqa: N802
        """What it raises where the sound system fails."""

    @overload
    def query_devices(self) -> Iterable[DeviceInfo]: ...
    @overload
    def query_devices(self, *, kind: str) -> DeviceInfo: ...

    @property
    def RawInputStream(self) -> Callable[..., SoundStream]:  # noqa: N802
        """Opens a device."""


class StreamFlags(Protocol):
    """What is used of `sounddevice.CallbackFlags`."""

    @property
    def input_overflow(self) -> bool:
        """Whether PortAudio lost samples before this block."""


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A microphone or another device that records.

    Attributes:
        index: what `Microphone` takes, as well as the name or a part of it.
        rate_hz: its own sample rate.
    """

    index: int
    name: str
    channels: int
    rate_hz: int
    is_default: bool


def list_input_devices(library: SoundLibrary | None = None) -> list[InputDevice]:
    """The devices that record, possibly none.

    Raises:
        DeviceError: no PortAudio library, or a sound system that fails.
    """
    sound = library if library is not None else _sounddevice()
    try:
        devices = [device for device in sound.query_devices() if device["max_input_channels"] > 0]
    except sound.PortAudioError as error:
        raise DeviceError(f"expected a sound system that lists its devices, got {error}") from error
    try:
        default = sound.query_devices(kind="input")["index"]
    except (ValueError, sound.PortAudioError):  # there may be devices and yet no default
        default = -1
    return [
        InputDevice(
            index=device["index"],
            name=device["name"],
            channels=device["max_input_channels"],
            rate_hz=round(device["default_samplerate"]),
            is_default=device["index"] == default,
        )
        for device in devices
    ]


class Microphone:
    """Live audio of an input device, as a context manager and an iterator of 16 kHz mono chunks.

    Iteration ends after `close`, which another thread may call. What the consumer is too slow for is logged
    and becomes silence, so that times stay true.

    Args:
        device: index, name or a part of one; None for the system's default.
        chunk_ms: audio per chunk in milliseconds.
        library: stands in for the module `sounddevice`.

    Raises:
        DeviceError: no PortAudio library, no input device, not this one, or one that does not open.
    """

    def __init__(
        self, device: int | str | None = None, chunk_ms: int = 32, library: SoundLibrary | None = None
    ) -> None:
        self._library = library if library is not None else _sounddevice()
        self.device = _chosen(device, list_input_devices(self._library))
        self._chunk_ms = chunk_ms
        self._queue: queue.Queue[tuple[int, NDArray[np.float32]]] = queue.Queue(QUEUE_MS // chunk_ms)
        self._stream: SoundStream | None = None
        self._resampler = Resampler(SAMPLE_RATE)
        self._lost = 0  # frames since the last block that found room
        self._overflows = 0
        self._closed = False

    def __enter__(self) -> Self:
        """Open the device and begin to record."""
        error: Exception | None = None
        own = self.device.rate_hz
        for rate_hz, channels in ((SAMPLE_RATE, 1), (own, 1), (own, self.device.channels)):
            self._resampler = Resampler(rate_hz, channels)
            try:
                self._stream = self._library.RawInputStream(
                    device=self.device.index,
                    samplerate=rate_hz,
                    channels=channels,
                    dtype="float32",
                    blocksize=rate_hz * self._chunk_ms // 1_000,
                    callback=self._hear,
                )
                self._stream.start()
            except (self._library.PortAudioError, ValueError) as failed:
                error = failed
                self._let_go()
            else:
                log.info("microphone %s: %d Hz, %d channel(s)", self.device.name, rate_hz, channels)
                return self
        raise DeviceError(f"expected input device {self.device.name!r} to open, got {error}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop recording; what was heard until now can still be iterated over."""
        self._closed = True
        self._let_go()

    def __iter__(self) -> Iterator[Samples]:
        """Chunks as they are heard, about `chunk_ms` each.

        Raises:
            DeviceError: the device went away.
        """
        while True:
            try:
                lost, block = self._queue.get(timeout=POLL_S)
            except queue.Empty:
                if self._closed:
                    break
                if self._stream is None or not self._stream.active:
                    name = self.device.name
                    raise DeviceError(f"expected input device {name!r} to go on, got its end") from None
                continue
            if self._overflows:
                log.warning("microphone: the sound system lost samples %d time(s)", self._overflows)
                self._overflows = 0
            if lost:
                log.warning("microphone: %d ms lost, made silence", lost * 1_000 // self._resampler.rate_hz)
                yield self._resampler.push(np.zeros((lost, self._resampler.channels), dtype=np.float32))
            yield self._resampler.push(block)
        yield self._resampler.flush()

    def _hear(self, data: memoryview, frames: int, when: object, status: StreamFlags) -> None:
        """Called by PortAudio's thread: no waiting, no logging."""
        self._overflows += bool(status.input_overflow)
        block = np.frombuffer(data, dtype=np.float32).reshape(-1, self._resampler.channels).copy()
        try:
            self._queue.put_nowait((self._lost, block))
            self._lost = 0
        except queue.Full:
            self._lost += frames

    def _let_go(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _chosen(device: int | str | None, devices: list[InputDevice]) -> InputDevice:
    """The one device that is meant."""
    if not devices:
        raise DeviceError("expected an input device, got a system without one: connect a microphone")
    if device is None:
        return next((found for found in devices if found.is_default), devices[0])
    names = ", ".join(f"{found.index} {found.name!r}" for found in devices)
    if isinstance(device, int) or device.isdecimal():
        matches = [found for found in devices if found.index == int(device)]
    else:
        wanted = device.casefold()
        matches = [found for found in devices if found.name.casefold() == wanted]
        matches = matches or [found for found in devices if wanted in found.name.casefold()]
    if len(matches) != 1:
        got = f"{device!r}" if not matches else f"{device!r}, which is {len(matches)} of them"
        raise DeviceError(f"expected one of the input devices {names}, got {got}")
    return matches[0]


def _sounddevice() -> SoundLibrary:
    """The module, imported only where a microphone is asked for: the import itself opens PortAudio."""
    try:
        import sounddevice
    except ImportError as error:
        raise DeviceError(
            "the microphone expected the package sounddevice: pip install sounddevice"
        ) from error
    except OSError as error:
        raise DeviceError(
            f"the microphone expected the PortAudio library, got {error}: "
            "install it (Debian: apt install libportaudio2, macOS: brew install portaudio)"
        ) from error
    except Exception as error:  # its own PortAudioError, which has no name before the import succeeds
        raise DeviceError(f"the microphone expected a working sound system, got {error}") from error
    library: SoundLibrary = sounddevice
    return library
