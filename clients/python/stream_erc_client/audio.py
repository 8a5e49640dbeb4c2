"""WAV files as 16-bit audio."""

from __future__ import annotations

import array
import math
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from stream_erc_client.errors import AudioError

CHUNK_MS: Final = 40
TO_SIGNED: Final = bytes(value ^ 0x80 for value in range(256))  # 8-bit samples are the only unsigned ones

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
"""WAVE format tags. The last one says that the real one stands in the format's extension."""

STREAMED: Final = 0x7FFF_F000
"""Sizes from here on mean that the writer did not know the size: the samples last to the end of the file."""


@dataclass(frozen=True)
class WavFormat:
    """The form of the samples of a WAV file.

    Attributes:
        tag: `PCM`, `FLOAT`, `ALAW` or `MULAW`.
        channels: the number of interleaved channels.
        sample_rate_hz: the sample rate.
        width: bytes of a sample.
    """

    tag: int
    channels: int
    sample_rate_hz: int
    width: int


class WavFile:
    """A WAV file of integers or floats of any usual width, or of A-law or mu-law.

    Args:
        path: the file.

    Attributes:
        sample_rate_hz: its sample rate.
        channels: the number of its channels.
        duration_ms: the duration in its header.

    Raises:
        AudioError: no such file, not a WAV file, another sample format, or no samples.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise AudioError(f"{path}: expected a WAV file, got {error.strerror or error}") from error
        try:
            form, self._left = _header(self._file, self.path)
        except BaseException:
            self._file.close()
            raise
        self._form = form
        self.sample_rate_hz, self.channels = form.sample_rate_hz, form.channels
        self.duration_ms = self._left // (form.width * form.channels) * 1000 / form.sample_rate_hz

    def __enter__(self) -> WavFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def chunks(self, chunk_ms: int = CHUNK_MS, *, separate: bool = False) -> Iterator[bytes]:
        """Yield signed 16-bit little-endian samples in chunks of `chunk_ms`; the last one may be shorter.

        Args:
            chunk_ms: length of a chunk.
            separate: whether channels stay separate, interleaved; otherwise they are averaged.
        """
        frame_bytes, convert = self._form.width * self.channels, _converter(self._form)
        size = max(1, self.sample_rate_hz * chunk_ms // 1000) * frame_bytes
        while data := self._file.read(min(size, self._left)):
            self._left -= len(data)
            whole = len(data) // frame_bytes * frame_bytes  # a file may end within a frame
            samples = convert(data[:whole])
            yield samples if separate else mean_of_channels(samples, self.channels)


def _header(file: BinaryIO, path: Path) -> tuple[WavFormat, int]:
    """Read up to the first sample; return the format, and how many bytes of samples there are."""
    riff = file.read(12)
    if riff[:4] not in (b"RIFF", b"RF64") or riff[8:] != b"WAVE":
        raise AudioError(f"{path}: expected a WAV file, got {'another' if riff else 'an empty'} file")
    form: WavFormat | None = None
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            begin, end = file.tell(), file.seek(0, 2)
            file.seek(begin)
            if form is None:
                break
            known = 0 < size < STREAMED
            there = min(size, end - begin) if known else end - begin
            if not there:
                raise AudioError(f"{path}: expected audio, got a file without samples")
            return form, there
        if name == b"fmt ":
            form = _format(file.read(size), path)
            file.seek(size % 2, 1)
        else:
            file.seek(size + size % 2, 1)
    raise AudioError(f"{path}: expected a WAV file, got one without a format and samples")


def _format(data: bytes, path: Path) -> WavFormat:
    if len(data) < 16:
        raise AudioError(f"{path}: expected a WAV file, got one with a format of {len(data)} bytes")
    tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", data[:16])
    if tag == EXTENSIBLE and len(data) >= 26:
        tag = int.from_bytes(data[24:26], "little")
    width = (bits + 7) // 8
    widths = {PCM: (1, 2, 3, 4), FLOAT: (4, 8), ALAW: (1,), MULAW: (1,)}
    if width not in widths.get(tag, ()):
        expected = "integers, floats, A-law or mu-law"
        raise AudioError(f"{path}: expected a WAV file of {expected}, got format {tag} of {bits} bits")
    if not channels or not rate_hz:
        raise AudioError(f"{path}: expected audio, got {channels} channels at {rate_hz} Hz")
    return WavFormat(tag, channels, rate_hz, width)


def _converter(form: WavFormat) -> Callable[[bytes], bytes]:
    """Return what makes 16-bit samples of the bytes of a file."""
    if form.tag == FLOAT:
        kind = "f" if form.width == 4 else "d"
        return lambda data: from_floats(_array(kind, data))
    if form.tag in (ALAW, MULAW):
        values = [(_alaw if form.tag == ALAW else _mulaw)(code) & 0xFFFF for code in range(256)]
        low, high = bytes(value & 0xFF for value in values), bytes(value >> 8 for value in values)
        return lambda data: _interleaved(data.translate(low), data.translate(high))
    return lambda data: _sixteen_bits(data, form.width)


def _sixteen_bits(data: bytes, width: int) -> bytes:
    """Return the two upper bytes of every sample."""
    if width == 2:
        return data
    high = data.translate(TO_SIGNED) if width == 1 else data[width - 1 :: width]
    return _interleaved(bytes(len(high)) if width == 1 else data[width - 2 :: width], high)


def _interleaved(low: bytes, high: bytes) -> bytes:
    both = bytearray(2 * len(high))
    both[0::2], both[1::2] = low, high
    return bytes(both)


def _alaw(code: int) -> int:
    """Decode a byte of G.711 A-law to 16 bits."""
    code ^= 0x55
    segment, magnitude = (code >> 4) & 7, ((code & 15) << 4) + 8
    if segment:
        magnitude = (magnitude + 256) << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


def _mulaw(code: int) -> int:
    """Decode a byte of G.711 mu-law to 16 bits."""
    code = ~code & 0xFF
    magnitude = ((((code & 15) << 3) + 132) << ((code >> 4) & 7)) - 132
    return -magnitude if code & 0x80 else magnitude


def from_floats(values: array.array[float]) -> bytes:
    """Return floats, full scale at 1, as 16-bit little-endian samples; what is no number is silence."""
    scaled = (value * 32_768 if math.isfinite(value) else 0.0 for value in values)
    return _bytes(array.array("h", (max(-32_768, min(32_767, round(value))) for value in scaled)))


def mean_of_channels(data: bytes, channels: int) -> bytes:
    """Return the mean of interleaved channels, 16-bit little-endian."""
    if channels == 1:
        return data
    samples = _array("h", data)
    by_channel = [samples[channel::channels] for channel in range(channels)]
    return _bytes(array.array("h", (sum(frame) // channels for frame in zip(*by_channel))))  # noqa: B905


def _array(kind: str, data: bytes) -> array.array[float]:
    values: array.array[float] = array.array(kind, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _bytes(samples: array.array[int]) -> bytes:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
