"""Changes of speaker in running speech: one person's turn ends, another's begins, and nobody pauses.

Two kinds of evidence about the running speech, both values from networks outside:

- who speaks when among at most three local speakers, from speaker segmentation (Bredin, 2023,
  arXiv:2310.13025): it finds changes to the tenth of a second, and overlap;
- voice vectors of short stretches, one after the other: they find the changes between similar speakers, whom
  the segmentation takes for one.

All functions are pure. `scripts/tune_diarization` measures what the constants are worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.core.vad import WINDOW
from stream_erc.events import Vector

LOCAL_SPEAKERS = 3
"""Speakers that the segmentation tells apart within one piece of audio, in no order."""

FRAME = 270
"""Samples (17 ms) from one frame of the segmentation to the next."""

FIRST_FRAME = 495
"""The sample in the middle of the first frame."""

LONGEST = 10 * SAMPLE_RATE
"""Audio that is segmented at once: the length that the network was trained on."""

SHORTEST = SAMPLE_RATE // 2

HOP = 24 * WINDOW
"""Samples (768 ms) of running speech after which is asked again who speaks."""

LAG = 4 * WINDOW
"""Samples (128 ms) after which the answer takes effect: there is that much time to compute it."""

STRETCH = 40 * WINDOW
"""Samples (1.28 s) of speech for one voice vector."""

TAKEOVER = ms_to_samples(700)
"""Speech after which somebody has taken over the turn. What is shorter may be a remark within it."""

LAST_WORD = ms_to_samples(250)
"""The same at the end of the speech: a short answer, after which everybody is silent."""

LEAST = ms_to_samples(250)
"""Speech that the person before must have been heard with."""

BREATH = ms_to_samples(300)
"""Gaps in somebody's speech that do not divide it."""

CHANGE = 0.58
"""Two stretches are by different people if they are less similar than this share of what is expected."""

HALF_LIKE = 1.2
"""Seconds of speech at which voice vectors have half of their full similarity."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of speaker: one turn ends at sample `end`, the next begins at `start`.

    It begins before that end if they overlap.
    """

    end: int
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """The voice (D,) of the samples [start, end)."""

    start: int
    end: int
    voice: Vector


@dataclass(frozen=True, slots=True, eq=False)
class Speaking:
    """The activity of local speakers: bool (F, `LOCAL_SPEAKERS`), frames from sample `first` on."""

    first: int
    active: NDArray[np.bool_]

    def between(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the middles of the frames in samples [start, end), and who speaks in them."""
        middles = self.first + FIRST_FRAME + FRAME * np.arange(len(self.active))
        inside = (middles >= start) & (middles < end)
        return middles[inside], self.active[inside]

    def overlap(self, start: int, end: int) -> float:
        """Return the share of the speech in samples [start, end) with more than one speaker."""
        count = self.between(start, end)[1].sum(1)
        spoken = int((count > 0).sum())
        return float((count > 1).sum() / spoken) if spoken else 0.0

    def extend(self, start: int, end: int, earliest: int, latest: int) -> tuple[int, int]:
        """Return samples [start, end) with the speech that goes on without a gap on either side.

        Args:
            start: where another detector found that speech begins.
            end: where it found that it ends.
            earliest: the sample that the beginning may reach.
            latest: the sample that the end may reach.
        """
        lead = _leading(self.between(earliest, start)[1][::-1])
        trail = _leading(self.between(end, latest)[1])
        return max(earliest, start - lead), min(latest, end + trail)


def expected_similarity(a_s: float, b_s: float) -> float:
    """Return the cosine of two voice vectors of one person, from seconds of speech, if long ones have 1."""
    return float(np.sqrt(a_s / (a_s + HALF_LIKE) * b_s / (b_s + HALF_LIKE)))


def find_takeover(speaking: Speaking, start: int, end: int, least: int) -> Change | None:
    """Find the first change of speaker in samples [start, end), None if one person holds the turn.

    A person has taken over who has spoken for `least` samples since the one before fell silent. So a remark
    within somebody's turn does not divide it.
    """
    middles, active = speaking.between(start, end)
    last = [
        int(spoken[-1]) if len(spoken := np.flatnonzero(active[:, k])) else -1 for k in range(LOCAL_SPEAKERS)
    ]
    changes = []
    for before in range(LOCAL_SPEAKERS):
        for after in range(LOCAL_SPEAKERS):
            if last[before] < 0 or last[after] <= last[before]:
                continue
            if active[last[before] + 1 :, after].sum() * FRAME < least:
                continue
            began = next(run[0] for run in _runs(active[:, after]) if run[1] > last[before] + 1)
            if active[:began, before].sum() * FRAME >= LEAST:
                half = FRAME // 2
                changes.append(Change(int(middles[last[before]]) + half, int(middles[began]) - half))
    return min(changes, key=lambda change: change.end, default=None)


def find_other_voice(stretches: Sequence[Stretch]) -> int | None:
    """Find the sample near which the voice changes, None if all stretches sound like one person.

    Args:
        stretches: of the running turn, in order of time; they may overlap.
    """
    overlap = ms_to_samples(256)
    changes = []
    for number, stretch in enumerate(stretches):
        before = stretches[max(0, number - 3) : number + 1]
        after = [other for other in stretches if other.start >= stretch.end - overlap]
        if not after:
            break
        lengths = [min(4.0, (part[-1].end - part[0].start) / SAMPLE_RATE) for part in (before, after)]
        means = [np.sum([one.voice for one in part], axis=0) for part in (before, after)]
        similarity = means[0] @ means[1] / (np.linalg.norm(means[0]) * np.linalg.norm(means[1]) + 1e-12)
        changes.append(
            (float(similarity) / expected_similarity(*lengths), (stretch.end + after[0].start) // 2)
        )
    share, at = min(changes, default=(1.0, 0))
    return at if share < CHANGE else None


def _leading(active: NDArray[np.bool_]) -> int:
    """Return the samples of the first frames (F, K) until nobody speaks."""
    silent = np.flatnonzero(~active.any(axis=1))
    return FRAME * int(silent[0] if len(silent) else len(active))


def _runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs [from, to) of frames, joined over gaps of `BREATH`."""
    edges = np.diff(np.concatenate([[0], active.astype(np.int8), [0]]))
    runs: list[tuple[int, int]] = []
    for begin, end in zip(
        np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True
    ):
        if runs and (begin - runs[-1][1]) * FRAME <= BREATH:
            begin = runs.pop()[0]
        runs.append((begin, end))
    return runs
