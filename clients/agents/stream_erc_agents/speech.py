"""Where in the audio a transcript was spoken, and audio as the server wants it."""

import sys
from array import array
from bisect import bisect
from collections import deque
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""First sample, and the one after the last."""


class SpeechSpans:
    """The stretches of speech that a voice activity detector told of, until a transcript takes them.

    Args:
        sample_rate_hz: of the audio that positions count.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._shortest = sample_rate_hz * 3 // 10  # less is the rest of speech that has its transcript
        self._longest_gap = sample_rate_hz * 2  # speech before a longer one had no words
        self._ended: list[Span] = []
        self._since: int | None = None

    def started(self, at: int) -> None:
        """Speech began at a sample."""
        if self._since is not None:
            return
        self._since = max(at, 0)
        if self._ended and self._since - self._ended[-1][1] > self._longest_gap:
            self._ended.clear()

    def stopped(self, at: int) -> None:
        """Speech ended at a sample."""
        if self._since is not None and at - self._since >= self._shortest:
            self._ended.append((self._since, at))
        self._since = None

    def take(self, now: int) -> Span | None:
        """The span of a transcript that came at a sample: all speech that ended, else the speech so far.

        Speech that goes on after it belongs to the next transcript. None where none was told of.
        """
        if self._ended:
            span = self._ended[0][0], self._ended[-1][1]
            self._ended.clear()
            return span
        if self._since is None or now - self._since < self._shortest:
            return None
        span = self._since, now
        self._since = now
        return span


class AudioClock:
    """When audio came in: from the clock's time to the sample that came then.

    Args:
        remembered_s: how far back it goes.
    """

    def __init__(self, remembered_s: float = 120.0) -> None:
        self._remembered_s = remembered_s
        self._marks: deque[tuple[float, int]] = deque()

    def heard(self, at_s: float, position: int) -> None:
        """Audio up to a sample has come in at a time; times never run back."""
        self._marks.append((at_s, position))
        while self._marks[0][0] < at_s - self._remembered_s:
            self._marks.popleft()

    def position(self, at_s: float) -> int:
        """The sample that came in at a time; the first known for what lies before it, 0 where none is."""
        if not self._marks:
            return 0
        k = bisect(self._marks, at_s, key=lambda mark: mark[0])
        return self._marks[max(k - 1, 0)][1]


def to_mono(pcm: bytes, channels: int) -> bytes:
    """16-bit little-endian samples: the mean of interleaved channels; what is no whole frame is cut off."""
    whole = pcm[: len(pcm) // (2 * channels) * 2 * channels]
    if channels == 1:
        return whole
    samples = array("h", whole)
    if sys.byteorder == "big":
        samples.byteswap()
    lanes = [samples[lane::channels] for lane in range(channels)]
    mean = array("h", (sum(frame) // channels for frame in zip(*lanes, strict=True)))
    if sys.byteorder == "big":
        mean.byteswap()
    return mean.tobytes()
