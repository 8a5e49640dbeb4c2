"""Speech, and the positions of transcripts in the audio; mixing to mono."""

import sys
from array import array
from bisect import bisect
from collections import deque
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""The first sample, and the one after the last."""


SPEECH = 0.35
"""The speech probability from which somebody speaks."""

SOFT = 0.03
"""The speech probability below which nobody speaks, however softly: a turn reaches back to there."""

LEAD_S, SHORTEST_S, PAUSE_S = 0.3, 0.096, 0.2
"""How far a soft beginning reaches back at most, the shortest speech, and the pause that ends a span."""


class SpeechDetector:
    """Finds spans of speech from the speech probability of one window after the other.

    Args:
        sample_rate_hz: of the audio; positions are in samples.
        window_s: length of a window, in seconds.
    """

    def __init__(self, sample_rate_hz: int, window_s: float) -> None:
        self._window = window_s * sample_rate_hz
        self._lead, self._shortest, self._pause = (
            round(length_s / window_s) for length_s in (LEAD_S, SHORTEST_S, PAUSE_S)
        )
        self._spans = SpeechSpans(sample_rate_hz)
        self._heard = 0  # windows so far
        self._soft_from = 0  # beginning of the run of windows that may be soft speech
        self._since: int | None = None  # first window of the speech that goes on
        self._start = 0  # where it begins, softly
        self._until = 0  # end of its last window

    def hear(self, probability: float) -> None:
        """Receive the speech probability of the next window."""
        k, self._heard = self._heard, self._heard + 1
        if probability < SOFT:
            self._soft_from = k + 1
        if probability >= SPEECH:
            if self._since is None:
                self._since, self._start = k, max(self._soft_from, k - self._lead, self._until)
            self._until = k + 1
            if self._until - self._since >= self._shortest:
                self._spans.started(self._at(self._start))
        elif self._since is not None and self._heard - self._until >= self._pause:
            self._since = None
            self._spans.stopped(self._at(self._until))

    def take(self) -> Span | None:
        """Return and remove the span of a transcript that arrives now; see `SpeechSpans.take`."""
        return self._spans.take(self._at(self._until))

    def _at(self, window: int) -> int:
        return round(window * self._window)


class SpeechSpans:
    """Spans of speech found by a voice activity detector and not yet assigned to a transcript.

    Args:
        sample_rate_hz: of the audio; positions are in samples.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._shortest = sample_rate_hz * 3 // 10  # a shorter rest belongs to the previous transcript
        self._longest_gap = sample_rate_hz * 2  # speech before a longer gap had no words
        self._ended: list[Span] = []
        self._since: int | None = None
        self._is_rest = False  # of speech that was taken while it went on

    def started(self, at: int) -> None:
        """Record that speech began at a sample."""
        if self._since is not None:
            return
        self._since, self._is_rest = max(at, 0), False
        if self._ended and self._since - self._ended[-1][1] > self._longest_gap:
            self._ended.clear()

    def stopped(self, at: int) -> None:
        """Record that speech ended at a sample."""
        if self._since is not None and at - self._since >= (self._shortest if self._is_rest else 1):
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
        self._since, self._is_rest = now, True
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
