"""Audio from a file: decoded as a stream of 16 kHz chunks, and paced like a live source if asked to.

A shell: it may use the clock.
"""

import logging
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE, Resampler, SeparateChannels, ms_to_samples
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, ConfigError
from stream_erc.sources.containers import cut_short, declares_duration

log = logging.getLogger(__name__)

EXPECTED = "expected an audio or video file"
FULL_SCALE = {
    "u8": 2.0**7,
    "s16": 2.0**15,
    "s32": 2.0**31,
    "flt": 1.0,
    "dbl": 1.0,
}  # of libav's sample formats
SHORTFALL_S = 0.25  # lossy encoders count their padding too: less than this is not a loss
LOSSLESS_SHORTFALL_S = 0.02


class AudioFile:
    """An audio or video file of any container, rate and channel count that libav reads.

    Its memory use is constant: the file is decoded while `chunks` is consumed.

    Args:
        path: the file; the first of its audio streams is read.

    Attributes:
        duration_s: the declared duration in seconds, None if the file declares none.
        channels: the number of its channels.

    Raises:
        AudioError: no such file, a folder, empty, not audio, or without an audio stream.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        _require_file(self.path)
        container, stream = self._open()
        with container:
            self.duration_s = _duration_s(container, stream)
            self.channels = stream.codec_context.layout.nb_channels
            self._format = container.format.name

    def chunks(self, chunk_ms: int = 100, *, separate: bool = False) -> Iterator[Samples]:
        """Decode from the beginning, to mono, (N,), or to separate channels, (N, channels).

        Args:
            chunk_ms: length of the chunks in milliseconds; the last one may be shorter.
            separate: whether channels stay separate; by default they are mixed.

        Raises:
            AudioError: truncated, corrupt, or without samples; raised after all samples before the fault. If
                channels stay separate, another number of them further on.
        """
        return _rechunk(self._decoded(separate), ms_to_samples(chunk_ms))

    def frames(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Decode from the beginning; yield the sample rate and the samples, (N, C), as they are stored.

        Raises:
            AudioError: as from `chunks`.
        """
        container, stream = self._open()
        decoded_s, fault = 0.0, None
        with container:
            try:
                for frame in container.decode(stream):
                    decoded_s += frame.samples / frame.sample_rate
                    yield frame.sample_rate, self._floats(frame)
            except av.FFmpegError as error:
                fault = _reason(error)
        self._check(decoded_s, fault)

    def _open(self) -> tuple[InputContainer, AudioStream]:
        try:
            # With the prefix, a colon in the name is not read as a protocol.
            container = av.open(f"file:{self.path}", metadata_errors="replace")
        except av.FFmpegError as error:
            raise AudioError(f"{self.path}: {EXPECTED}, got {_reason(error)}") from error
        if not container.streams.audio:
            found = ", ".join(stream.type for stream in container.streams) or "no streams"
            container.close()
            raise AudioError(f"{self.path}: expected an audio stream, got {found} only")
        return container, container.streams.audio[0]

    def _decoded(self, separate: bool) -> Iterator[Samples]:
        """Yield the decoded audio at 16 kHz, then raise the fault, if any."""
        resampler: Resampler | SeparateChannels | None = None
        form: tuple[int, int] | None = None  # sample rate, channels
        fault: AudioError | None = None
        try:
            for rate_hz, samples in self.frames():
                if form != (rate_hz, samples.shape[1]):
                    if resampler is not None:  # chained streams may change their format
                        yield resampler.flush()
                    resampler, form = None, (rate_hz, samples.shape[1])
                    resampler = self._resampler(*form, separate)
                assert resampler is not None
                yield resampler.push(samples)
        except AudioError as error:
            fault = error
        if resampler is not None:
            yield resampler.flush()
        if fault is not None:
            raise fault

    def _resampler(self, rate_hz: int, channels: int, separate: bool) -> Resampler | SeparateChannels:
        if not separate:
            return Resampler(rate_hz, channels)
        if channels != self.channels:
            raise AudioError(f"{self.path}: expected {self.channels} channels throughout, got {channels}")
        return SeparateChannels([Resampler(rate_hz) for _ in range(channels)])

    def _floats(self, frame: AudioFrame) -> NDArray[np.float32]:
        """Convert the samples of a frame to float, (N, channels), full scale at 1."""
        name = frame.format.name
        scale = FULL_SCALE.get(name.removesuffix("p"))
        if scale is None:
            raise AudioError(f"{self.path}: expected samples as one of {', '.join(FULL_SCALE)}, got {name}")
        array = frame.to_ndarray()  # planar (C, N), packed (1, N * C)
        shaped = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
        offset = scale if name.startswith("u8") else 0.0
        with np.errstate(over="ignore"):  # a double may overflow to infinity, which the resampler handles
            return (shaped.astype(np.float32) - np.float32(offset)) / np.float32(scale)

    def _check(self, decoded_s: float, fault: str | None) -> None:
        """Raise an error if the file, now read to its end, was faulty or truncated."""
        at = f"after {decoded_s:.3f} s"
        if fault is not None:
            raise AudioError(f"{self.path}: expected intact audio, got {fault} {at}")
        if decoded_s == 0.0:
            raise AudioError(f"{self.path}: expected audio, got a stream without samples")
        try:
            cut = cut_short(self.path, self._format)
            declared = self.duration_s is not None and declares_duration(self.path, self._format)
        except OSError as error:  # the file was moved or unmounted meanwhile
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
    """Yield each chunk when a live source would: at the time of its last sample.

    Args:
        chunks: 16 kHz.
        speed: 1.0 is real time, 2.0 twice as fast; None does not pace.
        clock: returns seconds from any origin.
        sleep: waits for some seconds.

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
    if (
        container.duration is not None and len(container.streams) == 1
    ):  # otherwise it may be that of the video
        return container.duration / av.time_base
    return None


def _rechunk(pieces: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Yield the samples in chunks of `size`; an error is raised after all samples before it."""
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
