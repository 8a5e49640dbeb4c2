"""Mixing of channels to mono, without losing a signal that is inverted in one of two channels."""

import numpy as np
from numpy.typing import NDArray

from stream_erc.events import Samples

BLOCK_S = 0.02
DECAY = 0.98
"""Share of the past that remains after a block: the correlation is measured over about a second."""

INVERTED = -0.5
"""Correlation of two channels from which on one of them is inverted; it is taken as it is from 0 on again."""


class Mixer:
    """A streaming mixer of channels with equal weight.

    Of two channels that carry the same signal in opposite phase (a miswired cable, a "surround" effect), the
    second is inverted: their plain mean would be silence. The sign of a block follows from the blocks before
    it, so nothing is delayed, and the output does not depend on the chunking, bit for bit.

    Args:
        rate_hz: sample rate.
        channels: the number of channels.
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._channels, self._block = channels, max(1, round(rate_hz * BLOCK_S))
        self._part: list[NDArray[np.float32]] = []  # of the current block
        self._missing = self._block  # samples until it is complete
        self._cross = self._power = 0.0
        self._sign = np.float32(1)

    def push(self, samples: NDArray[np.float32]) -> Samples:
        """Mix the next samples, (N, C), finite, to (N,)."""
        if self._channels != 2:
            mono = samples[:, 0].copy()
            for channel in range(1, self._channels):  # np.mean's order of summation may change with N
                mono += samples[:, channel]
            return mono / np.float32(self._channels) if self._channels > 1 else mono
        mixed = np.empty(len(samples), dtype=np.float32)
        at = 0
        while at < len(samples):
            part = samples[at : at + self._missing]
            mixed[at : at + len(part)] = (part[:, 0] + self._sign * part[:, 1]) / np.float32(2)
            at += len(part)
            self._part.append(part)
            self._missing -= len(part)
            if not self._missing:
                self._measure(np.concatenate(self._part).astype(np.float64))
                self._part, self._missing = [], self._block
        return mixed

    def _measure(self, block: NDArray[np.float64]) -> None:
        """Decide the sign of the blocks after this one, (block, 2)."""
        left, right = block[:, 0], block[:, 1]
        self._cross = DECAY * self._cross + float((left * right).sum())
        self._power = DECAY * self._power + float((block**2).sum()) / 2
        if self._cross < INVERTED * self._power:
            self._sign = np.float32(-1)
        elif self._cross > 0:
            self._sign = np.float32(1)
