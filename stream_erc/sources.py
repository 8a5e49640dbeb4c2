"""Where audio comes from: a file, decoded as a stream, or the microphone.

A shell: it may touch the clock and the sound card. Both give 16 kHz mono `Samples`, chunk by chunk.
"""

import logging
import queue
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypedDict, overload

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE, Resampler
from stream_erc.containers import cut_short, declares_duration
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, ConfigError, DeviceError

log = logging.getLogger(__name__)

EXPECTED = "expected an audio or video file"
FULL_SCALE = {
    "u8": 2.0**7,
    "s16": 2.0**15,
    "s32": 2.0**31,
    "flt": 1.0,
    "dbl": 1.0,
}  # of libav's sample formats
SHORTFALL_S = 0.25  # lossy encoders declare their padding too: less than this is nothing lost
LOSSLESS_SHORTFALL_S = 0.02
QUEUE_MS = 10_000  # what a slow consumer may be behind the microphone
POLL_S = 0.1  # how soon the end of a device is seen


class AudioFile:
    """An audio or video file of any container, rate and channel count that libav reads.

    Memory stays flat: the file is decoded while `chunks` is consumed.

    Args:
        path: the file; of several audio streams the first is read.

    Attributes:
        duration_s: what the file declares, in seconds; None where it declares nothing.

    Raises:
        AudioError: no such file, a folder, empty, not audio, or without an audio stream.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        _require_file(self.path)
        container, stream = self._open()
        with container:
            self.duration_s = _duration_s(container, stream)
            self._format = container.format.name

    def chunks(self, chunk_ms: int = 100) -> Iterator[Samples]:
        """Decode from the beginning.

        Args:
            chunk_ms: length of the chunks in milliseconds; the last one may be shorter.

        Raises:
            AudioError: after everything before the fault has been given: truncated, corrupt, no samples.
        """
        return _rechunk(self._decoded(), chunk_ms * SAMPLE_RATE // 1_000)

    def _open(self) -> tuple[InputContainer, AudioStream]:
        try:
            # The prefix keeps a colon in a name from being taken for a protocol.
            container = av.open(f"file:{self.path}", metadata_errors="replace")
        except av.FFmpegError as error:
            raise AudioError(f"{self.path}: {EXPECTED}, got {_reason(error)}") from error
        if not container.streams.audio:
            found = ", ".join(stream.type for stream in container.streams) or "no streams"
            container.close()
            raise AudioError(f"{self.path}: expected an audio stream, got {found} only")
        return container, container.streams.audio[0]

    def _decoded(self) -> Iterator[Samples]:
        """What the frames hold at 16 kHz mono, then the fault if there was one."""
        container, stream = self._open()
        resampler: Resampler | None = None
        decoded_s, fault = 0.0, None
        with container:
            try:
                for frame in container.decode(stream):
                    rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
                    if resampler is None or (resampler.rate_hz, resampler.channels) != (rate_hz, channels):
                        if resampler is not None:  # chained streams may change their format
                            yield resampler.flush()
                        resampler = Resampler(rate_hz, channels)
                    decoded_s += frame.samples / rate_hz
                    yield resampler.push(self._floats(frame))
            except av.FFmpegError as error:
                fault = _reason(error)
        if resampler is not None:
            yield resampler.flush()
        self._check(decoded_s, fault)

    def _floats(self, frame: AudioFrame) -> NDArray[np.float32]:
        """The samples of a frame, (N, channels), full scale at 1."""
        name = frame.format.name
        scale = FULL_SCALE.get(name.removesuffix("p"))
        if scale is None:
            raise AudioError(f"{self.path}: expected samples as one of {', '.join(FULL_SCALE)}, got {name}")
        array = frame.to_ndarray()  # planar (C, N), packed (1, N * C)
        shaped = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
        offset = scale if name.startswith("u8") else 0.0
        with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, the resampler's business
            return (shaped.astype(np.float32) - np.float32(offset)) / np.float32(scale)

    def _check(self, decoded_s: float, fault: str | None) -> None:
        """Raise what was wrong with a file that has now been read to its end."""
        at = f"after {decoded_s:.3f} s"
        if fault is not None:
            raise AudioError(f"{self.path}: expected intact audio, got {fault} {at}")
        if decoded_s == 0.0:
            raise AudioError(f"{self.path}: expected audio, got a stream without samples")
        try:
            cut = cut_short(self.path, self._format)
            declared = self.duration_s is not None and declares_duration(self.path, self._format)
        except OSError as error:  # it was moved or unmounted while it was heard
            raise AudioError(f"{self.path}: expected the file to stay, got {error.strerror} {at}") from error
        if cut is not None:
            raise AudioError(f"{self.path}: expected a complete file, got {cut} {at}")
        if self.duration_s is None or not declared:
            return
        shortfall_s = LOSSLESS_SHORTFALL_S if self._format in ("wav", "flac") else SHORTFALL_S
        if decoded_s < self.duration_s - shortfall_s:
            raise AudioError(
                f"{self.path}: expected {self.duration_s:.3f} s as declared, got {decoded_s:.3f} s"
            )


def paced(
    chunks: Iterable[Samples],
    speed: float | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Samples]:
    """Give each chunk when a live source would have: once its last sample has been heard.

    Args:
        chunks: 16 kHz mono.
        speed: 1.0 is real time, 2.0 twice as fast; None as fast as it is asked for.
        clock: seconds from any origin.
        sleep: takes seconds.

    Raises:
        ConfigError: a speed that is not positive.
    """
    if speed is not None and not 0 < speed < float("inf"):
        raise ConfigError(f"speed: expected max or a positive number, got {speed}")
    return iter(chunks) if speed is None else _paced(chunks, speed, clock, sleep)


def _paced(
    chunks: Iterable[Samples], speed: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[Samples]:
    began, heard = clock(), 0
    for chunk in chunks:
        heard += len(chunk)
        early_s = began + heard / SAMPLE_RATE / speed - clock()
        if early_s > 0:
            sleep(early_s)
        yield chunk


def _require_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{path}: {EXPECTED}, got a folder")
        if not stat.S_ISREG(mode):
            raise AudioError(f"{path}: {EXPECTED}, got a device or pipe")
        with path.open("rb") as file:
            first = file.read(1)
    except FileNotFoundError as error:
        raise AudioError(f"{path}: {EXPECTED}, got nothing there") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path!s:.200}: expected a readable file, got {reason}") from error
    if not first:
        raise AudioError(f"{path}: {EXPECTED}, got an empty file")


def _reason(error: av.FFmpegError) -> str:
    return (error.strerror or str(error)).splitlines()[0].lower()


def _duration_s(container: InputContainer, stream: AudioStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:  # else it may be the video's
        return container.duration / av.time_base
    return None


def _rechunk(pieces: Iterable[Samples], size: int) -> Iterator[Samples]:
    """The same samples in chunks of `size`; those before an exception come before it."""
    held: list[Samples] = []
    held_samples = 0
    source = iter(pieces)
    fault: AudioError | None = None
    while fault is None:
        try:
            piece = next(source)
        except StopIteration:
            break
        except AudioError as error:
            fault = error
            break
        held.append(piece)
        held_samples += len(piece)
        if held_samples >= size:
            joined = np.concatenate(held)
            whole = held_samples - held_samples % size
            for first in range(0, whole, size):
                yield joined[first : first + size]
            held, held_samples = [joined[whole:]], held_samples - whole
    if held_samples:
        yield np.concatenate(held)
    if fault is not None:
        raise fault


# --- the microphone -------------------------------------------------------------------------------


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
