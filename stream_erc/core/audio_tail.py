"""The most recent audio of a session, and the quietest place in it."""

from collections import deque

import numpy as np

from stream_erc.events import Samples

HOP = 128  # samples (8 ms): the places that `quietest` compares
QUIET_HOPS = 12
"""Length of a quiet place (96 ms): longer than the closure of most stops, which are quiet within words."""


class AudioTail:
    """The most recent audio of a session; samples that are no longer needed are dropped.

    Attributes:
        start, end: the range of samples that is kept.
    """

    def __init__(self, position: int) -> None:
        self.start = self.end = position
        self._windows: deque[Samples] = deque()

    def push(self, window: Samples) -> None:
        """Append samples."""
        self._windows.append(window)
        self.end += len(window)

    def trim(self, keep_from: int) -> None:
        """Drop whole windows that end before `keep_from`."""
        while self._windows and self.start + len(self._windows[0]) <= keep_from:
            self.start += len(self._windows.popleft())

    def cut(self, start: int, end: int) -> Samples:
        """Return a copy of samples [start, end), as far as they are kept."""
        if not self._windows:
            return np.zeros(0, dtype=np.float32)
        first, windows = self.start, []
        for window in self._windows:
            if first < end and first + len(window) > start:
                windows.append(window[max(0, start - first) : max(0, end - first)])
            first += len(window)
        return np.concatenate(windows) if windows else np.zeros(0, dtype=np.float32)

    def quietest(self, start: int, end: int) -> int:
        """Return the middle of the quietest 96 ms of samples [start, end), the last among equals.

        It is the samples' differences that are measured, so that a fricative, weak and high, is not quiet.
        """
        count = (end - start) // HOP
        if count < QUIET_HOPS:
            return (start + end) // 2
        samples = self.cut(start, start + count * HOP).astype(np.float64)
        energy = (np.diff(samples, prepend=samples[0]) ** 2).reshape(count, HOP).sum(axis=1)
        places = np.lib.stride_tricks.sliding_window_view(energy, QUIET_HOPS).sum(axis=1)
        last = len(places) - 1 - int(places[::-1].argmin())
        return start + (2 * last + QUIET_HOPS) * HOP // 2
