"""The sample rate of all stages, conversions of samples, and the streaming resampler."""

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, ProtocolMisuse
from stream_erc.mixing import Mixer

SAMPLE_RATE = 16_000
"""Every stage works on mono float32 at this rate, in Hz."""

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
"""Accepted input rates: anything outside is a corrupt header."""

TELEPHONE_HZ = 8_000
"""The sample rate of telephone calls (G.711)."""

MULAW_BIAS = 33 << 2  # G.711 works on 14 bits and adds 33; ours are 16 bits


def ms_to_samples(ms: int) -> int:
    """Return a duration in milliseconds as samples at 16 kHz."""
    return ms * SAMPLE_RATE // 1_000


def sanitize(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a copy clipped to [-1, 1], with NaN and infinities replaced by 0; any shape."""
    finite = np.where(np.isfinite(samples), samples, np.float32(0))
    return np.clip(finite, -1.0, 1.0).astype(np.float32, copy=False)


def from_pcm16(data: bytes | bytearray | memoryview) -> Samples:
    """Convert signed 16-bit little-endian samples to float32 in [-1, 1); channels stay interleaved.

    Raises:
        AudioError: an odd number of bytes.
    """
    if len(data) % 2:
        raise AudioError(f"expected 16-bit samples, an even number of bytes, got {len(data)} bytes")
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(32_768)


def from_float32(data: bytes | bytearray | memoryview) -> Samples:
    """Read 32-bit little-endian floats unchanged.

    Raises:
        AudioError: a number of bytes that is not divisible by 4.
    """
    if len(data) % 4:
        raise AudioError(f"expected 32-bit samples, a number of bytes divisible by 4, got {len(data)} bytes")
    return np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)


def to_pcm16(samples: Samples) -> bytes:
    """Convert float samples to signed 16-bit little-endian: the exact inverse of `from_pcm16`."""
    scaled = np.rint(sanitize(samples) * np.float32(32_768))
    pcm: NDArray[np.int16] = np.minimum(scaled, 32_767).astype("<i2")
    return pcm.tobytes()


def from_mulaw(data: bytes | bytearray | memoryview) -> Samples:
    """Decode G.711 mu-law bytes (telephony) to float32 in [-1, 1]."""
    return _mulaw_table()[np.frombuffer(data, dtype=np.uint8)]


@functools.cache
def _mulaw_table() -> Samples:
    """Build the table byte -> sample, (256,)."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = (((mantissa << 3) + MULAW_BIAS) << exponent) - MULAW_BIAS
    table = np.where(code & 0x80, -magnitude, magnitude).astype(np.float32) / np.float32(32_768)
    table.flags.writeable = False
    return table


def from_alaw(data: bytes | bytearray | memoryview) -> Samples:
    """Decode G.711 A-law bytes (telephony outside North America and Japan) to float32 in [-1, 1]."""
    return _alaw_table()[np.frombuffer(data, dtype=np.uint8)]


@functools.cache
def _alaw_table() -> Samples:
    """Build the table byte -> sample, (256,)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55  # every other bit is inverted on the line
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    steps = (mantissa << 4) + 8  # the middle of the step, in 16 bits
    magnitude = np.where(exponent == 0, steps, (steps + 256) << np.maximum(exponent, 1) - 1)
    table = np.where(code & 0x80, magnitude, -magnitude).astype(np.float32) / np.float32(32_768)
    table.flags.writeable = False
    return table


class Resampler:
    """A streaming converter of audio of any rate and channel count to 16 kHz mono.

    It sanitizes the samples, mixes the channels (see `Mixer`), then resamples with soxr's HQ filter. The
    output does not depend on the chunking of the input, bit for bit. The filter looks ahead: output lags
    by 30 ms from 8 kHz, 37 ms from 48 kHz and up to 84 ms from other rates; `flush` returns the rest. 16 kHz
    has no lag. From 8 kHz, the filter is soxr's for variable rates: the one for fixed rates collects blocks,
    and would lag by 115 ms. It is exact there; from other rates it would delay the signal by up to .1 ms.

    Args:
        rate_hz: sample rate of the input.
        channels: channels of the input.
        gains: of each channel, see `stream_erc.mixing.film_gains`; None gives the mean.

    Raises:
        AudioError: a rate outside `MIN_RATE_HZ` to `MAX_RATE_HZ`, or no channel.
    """

    def __init__(self, rate_hz: int, channels: int = 1, gains: Sequence[float] | None = None) -> None:
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise AudioError(f"expected a sample rate of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {rate_hz}")
        if channels < 1:
            raise AudioError(f"expected at least one channel, got {channels}")
        self.rate_hz = rate_hz
        self.channels = channels
        self._flushed = False
        self._mixer = Mixer(rate_hz, channels, gains)
        self._stream: soxr.ResampleStream | None = None
        if rate_hz != SAMPLE_RATE:
            self._stream = soxr.ResampleStream(
                rate_hz, SAMPLE_RATE, 1, dtype="float32", quality="HQ", vr=rate_hz == TELEPHONE_HZ
            )

    def push(self, chunk: NDArray[np.float32]) -> Samples:
        """Convert the next samples.

        Args:
            chunk: (N, channels), or (N,) for one channel; N may be 0.

        Returns:
            The samples that are ready at 16 kHz, (M,), possibly none.

        Raises:
            AudioError: another number of channels.
            ProtocolMisuse: after `flush`.
        """
        if self._flushed:
            raise ProtocolMisuse("expected no audio after flush(), got a chunk: make a new Resampler")
        mono = self._mix_down(chunk)
        return mono if self._stream is None else self._resample(self._stream, mono, last=False)

    def flush(self) -> Samples:
        """End the stream and return the samples that the filter still held, (M,); `push` may not follow."""
        if self._flushed or self._stream is None:
            self._flushed = True
            return np.zeros(0, dtype=np.float32)
        self._flushed = True
        return self._resample(self._stream, np.zeros(0, dtype=np.float32), last=True)

    def _mix_down(self, chunk: NDArray[np.float32]) -> Samples:
        """Return the sanitized samples as one channel, (N,)."""
        return self._mixer.push(sanitize(_by_channel(chunk, self.channels)))

    @staticmethod
    def _resample(stream: soxr.ResampleStream, mono: Samples, *, last: bool) -> Samples:
        resampled: Samples = stream.resample_chunk(mono, last=last)
        return np.clip(resampled, -1.0, 1.0)  # the filter overshoots at full scale


class MonoStream(Protocol):
    """A streaming converter of one channel to 16 kHz."""

    def push(self, chunk: Samples, /) -> Samples:
        """Convert the next samples, (N,), to (M,)."""

    def flush(self) -> Samples:
        """End the stream and return the rest."""


class SeparateChannels:
    """A streaming converter of several channels to 16 kHz, each as if it were alone.

    Args:
        streams: the converter of each channel.
    """

    def __init__(self, streams: Sequence[MonoStream]) -> None:
        self._streams = streams

    def push(self, chunk: Samples) -> Samples:
        """Convert the next samples, (N, C), to (M, C).

        Raises:
            AudioError: another number of channels.
        """
        shaped = _by_channel(chunk, len(self._streams))
        channels = [stream.push(shaped[:, number]) for number, stream in enumerate(self._streams)]
        return np.stack(channels, axis=1)

    def flush(self) -> Samples:
        """End the stream and return the rest, (M, C)."""
        return np.stack([stream.flush() for stream in self._streams], axis=1)


def _by_channel(chunk: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return a chunk as (N, channels)."""
    shaped = chunk[:, np.newaxis] if chunk.ndim == 1 else chunk
    if shaped.ndim != 2 or shaped.shape[1] != channels:
        raise AudioError(f"expected a chunk of shape (N, {channels}), got {chunk.shape}")
    return shaped
