"""The clock of a recording: decoded audio placed where its timestamps say, with silence for what is missing.

Time 0 is the container's. MP4, MOV and Matroska have a time line with an origin; the clocks of others, as of
MPEG-TS, begin anywhere, and 0 is where their first stream does, be it the picture or the sound.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

TOLERANCE_S = 0.08
"""Deviation of timestamps from the number of samples that is left as it is.

Timestamps jitter by the length of a frame or so (20 ms of Opus, 64 ms of AAC at 16 kHz), and viewers accept
sound 90 ms ahead of its picture (ITU-R BT.1359). Below it, audio stays as it was decoded, bit for bit. What
adds up to it, a clock that drifts or packets that are lost one by one, is corrected then.
"""

LONGEST_GAP_S = 3_600.0
"""A longer gap is a clock that was set anew: it is left out, not filled with silence."""

LONGEST_OVERLAP_S = 10.0
"""The same for a longer jump back: what comes then is other audio, not the same again."""

RESTART_S = 0.5
"""The same for a longer jump back to the beginning of the clock: the next of several recordings."""

PIECE_S = 1.0
"""Silence comes in pieces of this length, so that memory stays flat."""

PRIMING_S = 0.25
"""Audio from so much before 0 is what an encoder needed to begin, which players leave out."""

ORIGIN_IS_0 = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""libav's names of the formats whose time line begins at 0, also where no stream does."""


def origin_s(format_name: str, start_s: float) -> float:
    """Return what the timestamps show at time 0.

    Args:
        format_name: libav's name of the container's format.
        start_s: the earliest timestamp of any stream.
    """
    if -PRIMING_S <= start_s < 0 or (format_name in ORIGIN_IS_0 and 0 < start_s <= LONGEST_GAP_S):
        return 0.0
    return start_s


class Timeline:
    """Places the audio of one stream on the recording's clock.

    Gaps become silence, and what overlaps with earlier audio is cut, so that nothing is heard twice and time
    never runs backwards. A clock that is set anew (the next of several recordings in one file, a timestamp
    that cannot be) goes on where the audio before ended.

    Args:
        origin_s: what the timestamps show at time 0.
        warn: is told of a clock that is set anew.

    Attributes:
        position_s: the end of the audio so far.
    """

    def __init__(self, origin_s: float, warn: Callable[[str], None]) -> None:
        self._origin_s, self._warn = origin_s, warn
        self._first_s = self._last_s = float("inf")  # the first timestamp of this clock, and the last one
        self._overlaps = False
        self._base_s, self._rate_hz, self._samples = 0.0, 1, 0  # since the last change of the rate

    @property
    def position_s(self) -> float:
        """The end of the audio so far, in seconds."""
        return self._base_s + self._samples / self._rate_hz

    def place(
        self, timestamp_s: float | None, samples: NDArray[np.float32], rate_hz: int
    ) -> Iterator[NDArray[np.float32]]:
        """Yield a frame's samples, (N, C), after the silence before them, without what overlaps.

        Args:
            timestamp_s: when they are to be heard, None where the next samples simply follow.
            samples: of one frame.
            rate_hz: their rate.
        """
        if rate_hz != self._rate_hz:
            self._base_s, self._rate_hz, self._samples = self.position_s, rate_hz, 0
        late = 0 if timestamp_s is None else round(self._late_s(timestamp_s) * rate_hz)
        piece = round(PIECE_S * rate_hz)
        while late > 0:
            silence = np.zeros((min(late, piece), samples.shape[1]), dtype=np.float32)
            late -= len(silence)
            self._samples += len(silence)
            yield silence
        heard = samples[-late:] if late else samples
        self._overlaps = not len(heard)
        self._samples += len(heard)
        if len(heard):
            yield heard

    def _late_s(self, timestamp_s: float) -> float:
        """Return how much later than the audio so far a frame is to be heard; 0 if it simply follows."""
        self._first_s = min(self._first_s, timestamp_s)
        back_s, self._last_s = self._last_s - timestamp_s, timestamp_s
        late_s = timestamp_s - self._origin_s - self.position_s
        restarts = RESTART_S < back_s < float("inf") and timestamp_s <= self._first_s + TOLERANCE_S
        if restarts or late_s > LONGEST_GAP_S or late_s < -LONGEST_OVERLAP_S:
            self._set_clock(timestamp_s, late_s)
            return 0.0
        within = 0.0 if self._overlaps and late_s < 0 else TOLERANCE_S  # an overlap is cut to its end
        return late_s if abs(late_s) >= within else 0.0

    def _set_clock(self, timestamp_s: float, late_s: float) -> None:
        at = f"at {self.position_s:.3f} s"
        self._warn(f"expected timestamps that go on {at}, got a jump by {late_s:.3f} s, which is left out")
        self._origin_s += late_s
        self._first_s = timestamp_s
