"""Audio from the microphone, through PortAudio.

A shell: the only file that uses the sound card. It yields chunks of 16 kHz mono `Samples`.
"""

import logging
import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE, Resampler
from stream_erc.events import Samples
from stream_erc.exceptions import DeviceError

log = logging.getLogger(__name__)

QUEUE_MS = 10_000  # how far a slow consumer may lag behind the microphone
POLL_S = 0.1  # interval of checks that the device is still there
STALL_S = 2.0  # a device that brings no audio for so long is gone, whatever PortAudio says
AGAIN_S = 0.5  # between two attempts to open a device that was disconnected
RETURN_S = 60.0  # a device that is not back after so long is not waited for


class DeviceInfo(TypedDict):
    """The used part of sounddevice's description of a device."""

    index: int
    name: str
    max_input_channels: int
    default_samplerate: float


class SoundStream(Protocol):
    """The used part of `sounddevice.RawInputStream`."""

    @property
    def active(self) -> bool:
        """Whether the device is still there."""

    def start(self) -> None:
        """Start recording: call the callback with each block."""

    def close(self) -> None:
        """Stop recording and release the device."""


class SoundLibrary(Protocol):
    """The used part of the module `sounddevice`; tests pass their own."""

    @property
    def PortAudioError(self) -> type[Exception]:  # noqa: N802
        """The exception for failures of the sound system."""

    @overload
    def query_devices(self) -> Iterable[DeviceInfo]: ...
    @overload
    def query_devices(self, *, kind: str) -> DeviceInfo: ...

    @property
    def RawInputStream(self) -> Callable[..., SoundStream]:  # noqa: N802
        """The class that opens a device."""


class StreamFlags(Protocol):
    """The used part of `sounddevice.CallbackFlags`."""

    @property
    def input_overflow(self) -> bool:
        """Whether PortAudio lost samples before this block."""


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A microphone or another input device.

    Attributes:
        index: its number, by which `Microphone` can open it.
        rate_hz: its default sample rate.
    """

    index: int
    name: str
    channels: int
    rate_hz: int
    is_default: bool


def list_input_devices(library: SoundLibrary | None = None) -> list[InputDevice]:
    """Return the input devices, possibly none.

    Raises:
        DeviceError: no PortAudio library, or the sound system fails.
    """
    sound = library if library is not None else _import_sounddevice()
    try:
        devices = [device for device in sound.query_devices() if device["max_input_channels"] > 0]
    except sound.PortAudioError as error:
        raise DeviceError(f"expected a sound system that lists its devices, got {error}") from error
    try:
        default = sound.query_devices(kind="input")["index"]
    except (ValueError, sound.PortAudioError):  # there may be devices, but no default
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

    Iteration ends after `close`, which another thread may call. Audio that is lost because the consumer is
    too slow is logged and replaced by silence, so times stay correct.

    Args:
        device: index, name or part of a name; None for the system's default.
        chunk_ms: audio per chunk in milliseconds.
        library: replaces the module `sounddevice`, for tests.

    Raises:
        DeviceError: no PortAudio library, no such input device, or it cannot be opened.
    """

    def __init__(
        self, device: int | str | None = None, chunk_ms: int = 10, library: SoundLibrary | None = None
    ) -> None:
        self._library = library if library is not None else _import_sounddevice()
        self.device = _find_device(device, list_input_devices(self._library))
        self._chunk_ms = chunk_ms
        self._queue: queue.Queue[tuple[int, NDArray[np.float32]]] = queue.Queue(QUEUE_MS // chunk_ms)
        self._stream: SoundStream | None = None
        self._resampler = Resampler(SAMPLE_RATE)
        self._lost = 0  # frames dropped since the last queued block
        self._overflows = 0
        self._closed = False

    def __enter__(self) -> Self:
        """Open the device and start recording."""
        self._open(self.device)
        return self

    def _open(self, device: InputDevice) -> None:
        """Open a device, at 16 kHz if it can, or else at its own rate.

        Raises:
            DeviceError: it cannot be opened.
        """
        error: Exception | None = None
        own = device.rate_hz
        for rate_hz, channels in ((SAMPLE_RATE, 1), (own, 1), (own, device.channels)):
            self._resampler = Resampler(rate_hz, channels)
            try:
                self._stream = self._library.RawInputStream(
                    device=device.index,
                    samplerate=rate_hz,
                    channels=channels,
                    dtype="float32",
                    blocksize=rate_hz * self._chunk_ms // 1_000,
                    callback=self._on_block,
                )
                self._stream.start()
            except (self._library.PortAudioError, ValueError) as failed:
                error = failed
                self._release()
            else:
                log.info("microphone %s: %d Hz, %d channel(s)", device.name, rate_hz, channels)
                return
        raise DeviceError(f"expected input device {device.name!r} to open, got {error}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop recording; audio recorded so far can still be iterated over."""
        self._closed = True
        self._release()

    def __iter__(self) -> Iterator[Samples]:
        """Yield chunks as they are recorded, about `chunk_ms` each.

        A device that vanishes, or changes its rate, is opened again when it is back; until then there is
        silence, so that a turn ends and time goes on.

        Raises:
            DeviceError: the device did not come back in time.
        """
        quiet = 0  # polls since the last block
        away = 0  # polls since the device was lost
        while True:
            try:
                lost, block = self._queue.get(timeout=POLL_S)
            except queue.Empty:
                if self._closed:
                    break
                quiet += 1
                if away or self._gone(quiet):
                    away += 1
                    yield from self._wait(away)
                    quiet = quiet if self._stream is None else 0
                continue
            if away:
                log.warning("microphone %s: heard again after %.1f s", self.device.name, away * POLL_S)
            quiet = away = 0
            yield from self._heard(lost, block)
        yield self._resampler.flush()

    def _gone(self, quiet: int) -> bool:
        return self._stream is None or not self._stream.active or quiet * POLL_S >= STALL_S

    def _heard(self, lost: int, block: NDArray[np.float32]) -> Iterator[Samples]:
        """Yield a block, after silence for what was lost before it."""
        if self._overflows:
            log.warning("microphone: the sound system lost samples %d time(s)", self._overflows)
            self._overflows = 0
        if lost:
            rate_hz = self._resampler.rate_hz
            log.warning("microphone: %d ms lost, replaced by silence", lost * 1_000 // rate_hz)
            yield self._resampler.push(np.zeros((lost, self._resampler.channels), dtype=np.float32))
        yield self._resampler.push(block)

    def _wait(self, away: int) -> Iterator[Samples]:
        """Yield silence while the device is away, and try to open it from time to time.

        Args:
            away: number of polls since it was lost.

        Raises:
            DeviceError: it did not come back in time.
        """
        name = self.device.name
        if away == 1:
            log.warning("microphone %s: disconnected; listening goes on when it is back", name)
            self._release()
            yield self._resampler.flush()
        if away * POLL_S > RETURN_S:
            raise DeviceError(f"expected input device {name!r} to keep recording, got its end")
        yield np.zeros(round(POLL_S * SAMPLE_RATE), dtype=np.float32)
        if away % round(AGAIN_S / POLL_S) == 0:
            self._release()
            with suppress(DeviceError):
                self._open(self._found_again())

    def _found_again(self) -> InputDevice:
        """Return the same device as it is now; where it was the default one, the one that is the default now.

        Raises:
            DeviceError: it is not there.
        """
        with suppress(self._library.PortAudioError):  # else PortAudio lists the devices of its start
            for call in ("_terminate", "_initialize"):
                getattr(self._library, call, lambda: None)()
        found = list_input_devices(self._library)
        same = [device for device in found if device.name == self.device.name]
        instead = [device for device in found if device.is_default] if self.device.is_default else []
        if not same and not instead:
            raise DeviceError(f"expected input device {self.device.name!r}, got a system without it")
        return (*same, *instead)[0]

    def _on_block(self, data: memoryview, frames: int, when: object, status: StreamFlags) -> None:
        """Queue a recorded block. PortAudio's thread calls this, so it must not block or log."""
        self._overflows += bool(status.input_overflow)
        block = np.frombuffer(data, dtype=np.float32).reshape(-1, self._resampler.channels).copy()
        try:
            self._queue.put_nowait((self._lost, block))
            self._lost = 0
        except queue.Full:
            self._lost += frames

    def _release(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _find_device(device: int | str | None, devices: list[InputDevice]) -> InputDevice:
    """Return the device with this index or name, or the default for None."""
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
        got = f"{device!r}" if not matches else f"{device!r}, which matches {len(matches)}"
        raise DeviceError(f"expected one of the input devices {names}, got {got}")
    return matches[0]


def _import_sounddevice() -> SoundLibrary:
    """Import the module sounddevice, which opens PortAudio, so only when a microphone is needed."""
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
    except Exception as error:  # PortAudioError, which cannot be named before the import succeeds
        raise DeviceError(f"the microphone expected a working sound system, got {error}") from error
    library: SoundLibrary = sounddevice
    return library
