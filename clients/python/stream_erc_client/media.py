"""Recordings and films of other formats than WAV, through PyAV. Needs `stream-erc-client[formats]`."""

from __future__ import annotations

import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from stream_erc_client.audio import CHUNK_MS, WavFile, from_floats, mean_of_channels
from stream_erc_client.errors import AudioError

RATES_HZ: Final = (8_000, 48_000)
TOLERANCE_S: Final = 0.08  # timestamps jitter
LONGEST_GAP_S: Final = 3_600.0  # beyond it, and beyond the next one, a clock was set anew
LONGEST_OVERLAP_S: Final = 10.0
WITHOUT_TIMESTAMPS: Final = frozenset({"wav", "w64", "flac", "mp3", "aac", "aiff", "au", "caf"})
ORIGIN_IS_0: Final = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})


class MediaFile:
    """An audio or video file that PyAV decodes, converted to a session's rate.

    Samples stand where the container's timestamps put them: gaps are silence, and what overlaps is left out.

    Args:
        path: the file; its default audio track is read.
        sample_rate_hz: the rate to convert to; None for its own, if a session can have it.

    Attributes:
        sample_rate_hz: the rate of the chunks.
        channels: the number of its channels.

    Raises:
        AudioError: no such file, no audio, or PyAV is not installed.
    """

    def __init__(self, path: Path | str, sample_rate_hz: int | None = None) -> None:
        self.path = Path(path)
        self._av = _pyav(self.path)
        try:
            self._container = self._av.open(f"file:{path}", metadata_errors="replace")
        except (self._av.FFmpegError, ValueError) as error:
            raise AudioError(f"{path}: expected audio or video, got {error}") from error
        streams = self._container.streams.audio
        if not streams:
            self._container.close()
            raise AudioError(f"{path}: expected an audio track, got none")
        default = self._av.stream.Disposition.default
        self._stream = next((stream for stream in streams if stream.disposition & default), streams[0])
        own_hz = self._stream.codec_context.sample_rate
        self.sample_rate_hz: int = sample_rate_hz or min(max(own_hz, RATES_HZ[0]), RATES_HZ[1])
        self.channels: int = self._stream.codec_context.layout.nb_channels

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def chunks(self, chunk_ms: int = CHUNK_MS, *, separate: bool = False) -> Iterator[bytes]:
        """Yield signed 16-bit little-endian samples in chunks of `chunk_ms`; the last one may be shorter.

        Args:
            chunk_ms: length of a chunk.
            separate: whether channels stay separate, interleaved; otherwise two are averaged, and more are
                mixed as films are.
        """
        frame_bytes = 2 * (self.channels if separate else 1)
        size = max(1, self.sample_rate_hz * chunk_ms // 1000) * frame_bytes
        held = bytearray()
        for piece in self._pieces(separate):
            held += piece
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
        if held:
            yield bytes(held)

    def _pieces(self, separate: bool) -> Iterator[bytes]:
        """Yield the decoded audio, with silence for the gaps in its timestamps."""
        clock, convert = _Clock(self._origin_s()), self._converter(separate)
        timed = self._container.format.name not in WITHOUT_TIMESTAMPS
        second = bytes(2 * self.sample_rate_hz * (self.channels if separate else 1))
        for frame in self._frames():
            late_s = clock.late_s(frame.time) if timed and frame.time is not None else 0.0
            if late_s < 0:
                continue
            if late_s > 0:
                yield from convert.rest()
                convert = self._converter(separate)
                yield from (second for _ in range(int(late_s)))
                part = round(late_s % 1 * self.sample_rate_hz)
                yield second[: part * len(second) // self.sample_rate_hz]
            clock.position_s += late_s + frame.samples / frame.sample_rate
            frame.pts = None
            yield from convert.push(frame)
        if clock.position_s == 0:
            raise AudioError(f"{self.path}: expected audio, got a track without samples")
        yield from convert.rest()

    def _frames(self) -> Iterator[Any]:
        """Yield what can be decoded."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except self._av.FFmpegError:  # a damaged packet
                    continue
        except self._av.FFmpegError:  # the rest is damaged
            return

    def _origin_s(self) -> float:
        start_s = float(self._container.start_time or 0) / 1e6
        on_time_line = self._container.format.name in ORIGIN_IS_0 and 0 < start_s <= LONGEST_GAP_S
        return 0.0 if on_time_line or -0.25 <= start_s < 0 else start_s

    def _converter(self, separate: bool) -> _Converter:
        layout = self._stream.codec_context.layout
        return _Converter(self._av, layout, self.sample_rate_hz, separate)


class _Clock:
    """The end of the audio so far, on the recording's clock."""

    def __init__(self, origin_s: float) -> None:
        self._origin_s, self.position_s, self._last_s = origin_s, 0.0, origin_s

    def late_s(self, timestamp_s: float) -> float:
        """Return the silence before a frame; 0 if it follows, less if it is to be left out."""
        back_s, self._last_s = self._last_s - timestamp_s, timestamp_s
        late_s = timestamp_s - self._origin_s - self.position_s
        restarts = back_s > 0.5 and timestamp_s - self._origin_s <= TOLERANCE_S
        if restarts or late_s > LONGEST_GAP_S or late_s < -LONGEST_OVERLAP_S:
            self._origin_s += late_s
            return 0.0
        return late_s if abs(late_s) >= TOLERANCE_S else 0.0


class _Converter:
    """Converts frames to 16 bits at a rate."""

    def __init__(self, library: Any, layout: Any, sample_rate_hz: int, separate: bool) -> None:
        places_known = layout.name != f"{layout.nb_channels} channels"
        self._film = places_known and layout.nb_channels > 2 and not separate
        self._mixes = not separate and not self._film
        form, to = ("flt", "mono") if self._film else ("s16", layout)  # floats keep the level of dialogue
        self._resampler = library.AudioResampler(form, to, sample_rate_hz)

    def push(self, frame: Any) -> Iterator[bytes]:
        """Yield what is ready."""
        for converted in self._resampler.resample(frame):
            packed = converted.to_ndarray().tobytes()
            if self._film:
                yield from_floats(array.array("f", packed))
            else:
                yield mean_of_channels(packed, converted.layout.nb_channels) if self._mixes else packed

    def rest(self) -> Iterator[bytes]:
        """End the stream; yield what was held."""
        yield from self.push(None)


def open_audio(path: Path | str, sample_rate_hz: int | None = None) -> WavFile | MediaFile:
    """Open a recording: a WAV file as it is, anything else through PyAV.

    Args:
        path: the file.
        sample_rate_hz: the session's rate, to which PyAV converts.

    Raises:
        AudioError: it cannot be read; where PyAV is needed and missing, the error names the extra.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise AudioError(f"{path}: expected audio, got {error.strerror or error}") from error
    if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        return WavFile(path)
    return MediaFile(path, sample_rate_hz)


def _pyav(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        wanted = "pip install 'stream-erc-client[formats]'"
        raise AudioError(f"{path}: expected a WAV file; for other formats, {wanted}") from error
    return av
