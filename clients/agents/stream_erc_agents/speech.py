"""Positions of transcripts in the audio, and mixing to mono."""

import sys
from array import array
from bisect import bisect
from collections import deque
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""The first sample, and the one after the last."""


class SpeechSpans:
    """Spans of speech found by a voice activity detector and not yet assigned to a transcript.

    Args:
        sample_rate_hz: of the audio; positions are in samples.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._shortest = sample_rate_hz * 3 // 10  # anything shorter belongs to the previous transcript
        self._longest_gap = sample_rate_hz * 2  # speech before a longer gap had no words
        self._ended: list[Span] = []
        self._since: int | None = None

    def started(self, at: int) -> None:
        """Record that speech began at a sample."""
        if self._since is not None:
            return
        self._since = max(at, 0)
        if self._ended and self._since - self._ended[-1][1] > self._longest_gap:
            self._ended.clear()

    def stopped(self, at: int) -> None:
        """Record that speech ended at a sample."""
        if self._since is not None and at - self._since >= self._shortest:
            self._ended.append((self._since, at))
        self._since = None

    def take(self, now: int) -> Span | None:
        """Return and remove the span of a transcript that arrives now, None if no speech was recorded.

        It spans all speech that has ended; if none has, the current speech so far, whose rest belongs to the
        next transcript.

        Args:
            now: the current position in samples.
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
    """The arrival times of audio: maps a time to the sample that arrived then.

    Args:
        remembered_s: how far back it reaches.
    """

    def __init__(self, remembered_s: float = 120.0) -> None:
        self._remembered_s = remembered_s
        self._marks: deque[tuple[float, int]] = deque()

    def heard(self, at_s: float, position: int) -> None:
        """Record that audio up to a sample has arrived at a time; times must not decrease."""
        self._marks.append((at_s, position))
        while self._marks[0][0] < at_s - self._remembered_s:
            self._marks.popleft()

    def position(self, at_s: float) -> int:
        """Return the sample that arrived at a time: the oldest known one for earlier times, 0 if none is."""
        if not self._marks:
            return 0
        k = bisect(self._marks, at_s, key=lambda mark: mark[0])
        return self._marks[max(k - 1, 0)][1]


def to_mono(pcm: bytes, channels: int) -> bytes:
    """Mix interleaved channels of 16-bit little-endian samples to mono; drop an incomplete last frame."""
    whole = pcm[: len(pcm) // (2 * channels) * 2 * channels]
    if channels == 1:
        return whole
    samples = array("h", whole)
    if sys.byteorder == "big":
        samples.byteswap()
    by_channel = [samples[channel::channels] for channel in range(channels)]
    mean = array("h", (sum(frame) // channels for frame in zip(*by_channel, strict=True)))
    if sys.byteorder == "big":
        mean.byteswap()
    return mean.tobytes()
