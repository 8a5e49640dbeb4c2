"""Encoders of G.711, which `stream_erc.audio` only decodes."""

import functools

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import MULAW_BIAS, to_pcm16
from stream_erc.events import Samples

MULAW_CLIP = 32_635  # the largest magnitude that the bias leaves within 15 bits


def to_mulaw(samples: Samples) -> bytes:
    """Encode float samples as G.711 mu-law bytes."""
    pcm = np.frombuffer(to_pcm16(samples), dtype="<i2").astype(np.int32)
    return _codes()[pcm + 32_768].tobytes()


@functools.cache
def _codes() -> NDArray[np.uint8]:
    """Build the table 16-bit sample + 32768 -> byte, (65536,)."""
    pcm = np.arange(-32_768, 32_768, dtype=np.int32)
    magnitude = np.minimum(np.abs(pcm), MULAW_CLIP) + MULAW_BIAS
    exponent = np.log2(magnitude).astype(np.int32) - 7  # the highest bit is one of 7 ... 14
    mantissa = (magnitude >> (exponent + 3)) & 15
    sign = np.where(pcm < 0, 0x80, 0)
    table: NDArray[np.uint8] = (~(sign | exponent << 4 | mantissa) & 0xFF).astype(np.uint8)
    return table


def to_alaw(samples: Samples) -> bytes:
    """Encode float samples as G.711 A-law bytes: the nearest of the 256 values that there are."""
    values, codes = _alaw_values()
    steps = (values[1:] + values[:-1]) / 2
    return codes[np.searchsorted(steps, samples)].tobytes()


@functools.cache
def _alaw_values() -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Build the values that A-law has, in order, and the byte of each, from the standard's table 1a."""
    known = []
    for code in range(256):
        bits = code ^ 0x55
        segment, step = (bits >> 4) & 7, bits & 15
        first, width = (0, 2) if segment == 0 else (32 << (segment - 1), 2 << (segment - 1))
        magnitude = (first + width * step + width / 2) / 4_096  # of 13 bits with the sign
        known.append((magnitude if bits & 0x80 else -magnitude, code))
    values, codes = zip(*sorted(known), strict=True)
    return np.array(values), np.array(codes, dtype=np.uint8)
