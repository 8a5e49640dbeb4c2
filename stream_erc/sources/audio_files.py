"""Audio from a file or a pipe: decoded as a stream of 16 kHz chunks on the recording's clock."""

import logging
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from stream_erc.audio import Resampler, SeparateChannels, ms_to_samples
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, ProtocolMisuse
from stream_erc.mixing import film_gains
from stream_erc.sources.containers import (
    SELF_CONTAINED,
    WITHOUT_TIMESTAMPS,
    cut_short,
    declares_duration,
    is_streamed_wav,
)
from stream_erc.sources.raw_audio import RawFormat
from stream_erc.sources.standard_input import NAME, StandardInput
from stream_erc.sources.timeline import Timeline, origin_s
from stream_erc.sources.tracks import choose_track, tracks_of

log = logging.getLogger(__name__)

EXPECTED = "expected an audio or video file"
STREAMED = "expected audio that can be read as it arrives"
FULL_SCALE = {
    "u8": 2.0**7,
    "s16": 2.0**15,
    "s32": 2.0**31,
    "flt": 1.0,
    "dbl": 1.0,
}  # of libav's sample formats
SHORTFALL_S = 0.25  # lossy encoders count their padding too: less than this is not a loss
LOSSLESS_SHORTFALL_S = 0.02
PROBE = {"probesize": "65536", "analyzeduration": "500000"}
"""Options for a pipe: how many bytes and microseconds may be read before the first audio is decoded."""

PIECE_BYTES = 4_096  # that are asked for at a time: they may be a second of a telephone's audio


@dataclass(frozen=True, slots=True, eq=False)
class DecodedAudio:
    """Consecutive samples as they are stored.

    Attributes:
        rate_hz: their sample rate.
        samples: (N, channels), full scale at 1.
        layout: libav's name of each channel's loudspeaker.
    """

    rate_hz: int
    samples: NDArray[np.float32]
    layout: tuple[str, ...]


class AudioFile:
    """An audio or video file of any container, rate and channel count that libav reads.

    Its memory use is constant: the file is decoded while `chunks` is consumed. Samples stand where the
    container's timestamps put them (see `Timeline`).

    Args:
        path: the file.
        track: the audio track to read, see `choose_track`.
        raw: the form of its samples, if it has no header.
        pipe: is read in place of the file, once, while it arrives.
        self_contained: whether only formats are read that name no other files, as playlists do: for a file of
            somebody who may not read the others.
        warn: is told, once, what is wrong with a file that can be read; logs it by default.

    Attributes:
        duration_s: the declared end of the audio in seconds, None if the file declares none.
        channels: the number of its channels.
        tracks: its audio tracks.
        track: the one that is read.
        repeatable: whether it can be read more than once.

    Raises:
        AudioError: no such file, a folder, empty, not audio, or without an audio stream.
        ConfigError: no such track.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        track: str | None = None,
        raw: RawFormat | None = None,
        pipe: StandardInput | None = None,
        self_contained: bool = False,
        warn: Callable[[str], None] = log.warning,
    ) -> None:
        self._warn, self._told, self._self_contained = warn, set[str](), self_contained
        self.path, self.repeatable = Path(path), pipe is None
        self._raw, self._pipe = raw, pipe
        self.name = str(path) if pipe is None else NAME
        if pipe is None:
            _require_file(self.path)
        container = self._open()
        try:
            self.tracks = tracks_of(container)
            self.track = choose_track(self.tracks, track)
            stream = container.streams.audio[self.track.number - 1]
            self._format = container.format.name
            self._origin_s = origin_s(self._format, (container.start_time or 0) / av.time_base)
            self.channels = stream.codec_context.layout.nb_channels
            unknown = pipe is not None and is_streamed_wav(pipe.head)
            self.duration_s = None if unknown else self._declared_s(container)
        except BaseException:
            container.close()
            raise
        self._opened: InputContainer | None = container
        if pipe is None:
            container.close()
            self._opened = None

    def chunks(self, chunk_ms: int = 100, *, separate: bool = False) -> Iterator[Samples]:
        """Decode from the beginning, to mono, (N,), or to separate channels, (N, channels).

        A file that is damaged, or shorter than it declares, is told of by a warning, after all that can be
        read of it.

        Args:
            chunk_ms: length of the chunks in milliseconds; the last one may be shorter.
            separate: whether channels stay separate; by default they are mixed.

        Raises:
            AudioError: without samples, or moved meanwhile. If channels stay separate, another number of
                them further on, after all samples before.
        """
        return _rechunk(self._decoded(separate), ms_to_samples(chunk_ms))

    def frames(self) -> Iterator[DecodedAudio]:
        """Decode from the beginning; yield the samples as they are stored, on the recording's clock.

        Raises:
            AudioError: as from `chunks`.
        """
        container, self._opened = self._opened or self._reopen(), None
        stream = container.streams.audio[self.track.number - 1]
        timeline = Timeline(self._origin_s, self._tell)
        timed = self._format not in WITHOUT_TIMESTAMPS and self._raw is None
        damaged, reason, decoded = 0, "", 0
        with container:
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                except StopIteration:
                    break
                except av.FFmpegError as error:  # no more can be found
                    damaged, reason = damaged + 1, _reason(error)
                    break
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    damaged, reason = damaged + 1, _reason(error)
                    continue
                for frame in frames:
                    assert isinstance(frame, AudioFrame)
                    decoded += frame.samples
                    at_s = frame.time if timed else None
                    layout = tuple(channel.name for channel in frame.layout.channels)
                    for samples in timeline.place(at_s, self._floats(frame), frame.sample_rate):
                        yield DecodedAudio(frame.sample_rate, samples, layout)
        if self._pipe is not None and self._pipe.interrupt is not None:
            raise self._pipe.interrupt
        self._check(decoded, timeline.position_s, damaged, reason)

    def _tell(self, problem: str) -> None:
        """Pass on a problem, unless an earlier reading came to it."""
        if problem not in self._told:
            self._told.add(problem)
            self._warn(f"{self.name}: {problem}")

    def _reopen(self) -> InputContainer:
        if self._pipe is not None:
            raise ProtocolMisuse(f"{self.name}: expected to be read once, got a second time")
        return self._open()

    def _open(self) -> InputContainer:
        options = {} if self._raw is None else self._raw.options()
        form = None if self._raw is None else self._raw.encoding
        file: str | StandardInput = f"file:{self.path}"  # so, a colon in the name is not read as a protocol
        if self._pipe is not None:
            file, options = self._pipe, options | PROBE
        if self._self_contained:
            options = options | {"format_whitelist": ",".join(SELF_CONTAINED)}
        try:
            container = av.open(
                file, "r", format=form, options=options, metadata_errors="replace", buffer_size=PIECE_BYTES
            )
        except av.FFmpegError as error:
            expected = EXPECTED if self._pipe is None else STREAMED
            foreign = self._self_contained and isinstance(error, av.ArgumentError)
            reason = "one of a format that is not taken here" if foreign else _reason(error)
            raise AudioError(f"{self.name}: {expected}, got {reason}") from error
        if not container.streams.audio:
            found = ", ".join(stream.type for stream in container.streams) or "no streams"
            container.close()
            raise AudioError(f"{self.name}: expected an audio stream, got {found} only")
        return container

    def _declared_s(self, container: InputContainer) -> float | None:
        """Return the end of the audio that the container declares, on its clock."""
        stream = container.streams.audio[self.track.number - 1]
        timed = self._format not in WITHOUT_TIMESTAMPS
        origin_s = self._origin_s if timed else 0.0
        if stream.duration is not None and stream.time_base is not None:
            counts_from_0 = not timed or self._format == "ogg"
            start = 0 if counts_from_0 else stream.start_time or 0
            return float((start + stream.duration) * stream.time_base) - origin_s
        if container.duration is not None and len(container.streams) == 1:  # else that of the video, maybe
            return container.duration / av.time_base - origin_s
        return None

    def _decoded(self, separate: bool) -> Iterator[Samples]:
        """Yield the decoded audio at 16 kHz, then raise the fault, if any."""
        resampler: Resampler | SeparateChannels | None = None
        form: tuple[int, tuple[str, ...]] | None = None
        fault: AudioError | None = None
        try:
            for audio in self.frames():
                if form != (audio.rate_hz, audio.layout):
                    if resampler is not None:  # chained streams may change their format
                        yield resampler.flush()
                    resampler, form = None, (audio.rate_hz, audio.layout)
                    resampler = self._resampler(*form, separate)
                assert resampler is not None
                yield resampler.push(audio.samples)
        except AudioError as error:
            fault = error
        if resampler is not None:
            yield resampler.flush()
        if fault is not None:
            raise fault

    def _resampler(
        self, rate_hz: int, layout: tuple[str, ...], separate: bool
    ) -> Resampler | SeparateChannels:
        channels = len(layout)
        if not separate:
            return Resampler(rate_hz, channels, film_gains(layout))
        if channels != self.channels:
            raise AudioError(f"{self.name}: expected {self.channels} channels throughout, got {channels}")
        return SeparateChannels([Resampler(rate_hz) for _ in range(channels)])

    def _floats(self, frame: AudioFrame) -> NDArray[np.float32]:
        """Convert the samples of a frame to float, (N, channels), full scale at 1."""
        name = frame.format.name
        scale = FULL_SCALE.get(name.removesuffix("p"))
        if scale is None:
            raise AudioError(f"{self.name}: expected samples as one of {', '.join(FULL_SCALE)}, got {name}")
        array = frame.to_ndarray()  # planar (C, N), packed (1, N * C)
        shaped = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
        offset = scale if name.startswith("u8") else 0.0
        with np.errstate(over="ignore"):  # a double may overflow to infinity, which the resampler handles
            return (shaped.astype(np.float32) - np.float32(offset)) / np.float32(scale)

    def _check(self, decoded: int, end_s: float, damaged: int, reason: str) -> None:
        """Warn if the file, now read to its end, was damaged or truncated.

        Raises:
            AudioError: it had no samples, or is not there any more.
        """
        if not decoded:
            got = f"{reason} and no samples" if damaged else "a stream without samples"
            expected = "expected audio" if self.repeatable else STREAMED
            raise AudioError(f"{self.name}: {expected}, got {got}")
        declared_s = self.duration_s
        try:
            cut = cut_short(self.path, self._format) if self.repeatable and self._raw is None else None
            declares = self.repeatable and declares_duration(self.path, self._format)
        except OSError as error:  # the file was moved or unmounted meanwhile
            at = f"after {end_s:.3f} s"
            raise AudioError(f"{self.name}: expected the file to stay, got {error.strerror} {at}") from error
        lossless = self._format in ("wav", "flac")
        shortfall_s = LOSSLESS_SHORTFALL_S if lossless else SHORTFALL_S
        short = declared_s is not None and declares and end_s < declared_s - shortfall_s
        heard = f"{end_s:.3f} s" + (f" of {declared_s:.3f} s as declared" if short else "")
        if damaged:
            parts = "a part" if damaged == 1 else f"{damaged} parts"
            self._tell(f"expected intact audio, got {parts} that cannot be read ({reason}); read {heard}")
        elif cut is not None:
            self._tell(f"expected a complete file, got {cut}; read {heard}")
        elif short:
            self._tell(f"expected a complete file, got {heard}")


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
