"""Crosstalk: a voice of one channel that leaks faintly into another one is not heard there a second time."""

import numpy as np
from numpy.typing import NDArray

from stream_erc.core.vad import WINDOW
from stream_erc.events import Samples

MAX_DELAY = 160
"""Samples (10 ms) that a leak may be late: some 3 m of air. An echo of a telephone line is later."""

MIN_LOUDER = 10**1.2
"""Ratio of power (12 dB) by which the source must be louder than its leak."""

MIN_EXPLAINED = 0.6
"""Share of a channel's power that one delayed copy of the source must explain."""

IN_A_ROW = 2
"""Windows that must look like a leak. The first is heard, which is too short for a turn."""


class CrosstalkGate:
    """Silences the windows of a channel that are a delayed and weaker copy of another channel.

    It compares the last two windows (64 ms) with the same time, and up to `MAX_DELAY` before it, of each
    louder channel; what looks like a leak `IN_A_ROW` times is one. Speech of two people is too unlike for
    that, however faint one of them is; where both are in one window, it stays as it is.

    Args:
        channels: the number of channels.
    """

    CONTEXT = (IN_A_ROW + 1) * WINDOW
    """Samples before a window on which its outcome depends."""

    def __init__(self, channels: int) -> None:
        self._past = np.zeros((2 * WINDOW, channels), dtype=np.float32)
        self._row = np.zeros(channels, dtype=np.int64)  # windows in a row that look like a leak

    def push(self, window: Samples) -> Samples:
        """Return the next 512 samples of each channel, (512, C), with leaks silenced."""
        heard = np.concatenate([self._past, window])
        self._past = heard[WINDOW:]
        exact = heard.astype(np.float64)
        channels = range(window.shape[1])
        like_leak = np.array(
            [
                any(
                    _is_leak(exact[WINDOW:, channel], exact[WINDOW - MAX_DELAY :, source])
                    for source in channels
                    if source != channel
                )
                for channel in channels
            ]
        )
        self._row = np.where(like_leak, self._row + 1, 0)
        leaks = self._row >= IN_A_ROW
        if not leaks.any():
            return window
        clean = window.copy()
        clean[:, leaks] = 0
        return clean


def _is_leak(leak: NDArray[np.float64], source: NDArray[np.float64]) -> bool:
    """Return whether `leak` (N,) is a delayed, weaker copy of `source` (`MAX_DELAY` + N,)."""
    power = float((leak**2).sum())
    if power == 0 or float((source**2).sum()) < MIN_LOUDER * power:
        return False
    sums = np.concatenate([[0.0], np.cumsum(source**2)])
    source_power = np.maximum(sums[len(leak) :] - sums[: -len(leak)], 1e-12)  # at each delay, longest first
    explained = np.correlate(source, leak, "valid") ** 2 / source_power
    best = int(explained.argmax())
    return bool(explained[best] >= MIN_EXPLAINED * power and source_power[best] >= MIN_LOUDER * power)
