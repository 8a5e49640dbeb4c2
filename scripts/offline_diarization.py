"""Plain offline diarization with the shipped networks, beside which online diarization is measured.

As in pyannote's pipeline (Bredin, 2023), with average linkage: every second, segmentation of a window of
10 s; a voice vector of each of its speakers from where nobody else speaks; clustering of all vectors of the
recording; then as many speakers at each moment as the windows count on average, those whom most windows hear.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from dialogues import Spoken
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from stream_erc.audio import SAMPLE_RATE
from stream_erc.core.speaker_change import FIRST_FRAME, FRAME
from stream_erc.events import Samples, Vector
from stream_erc.inference.speaker_encoder import MIN_SPEECH_MS, SpeakerEncoder
from stream_erc.inference.speaker_segmentation import SpeakerSegmentation

WINDOW = 10 * SAMPLE_RATE
STEP = SAMPLE_RATE


@dataclass(frozen=True, eq=False)
class LocalSpeaker:
    """A speaker of one window.

    Attributes:
        start: the first sample of the window.
        active: whether the speaker speaks in each frame, (F,).
        voice: voice vector (D,).
    """

    start: int
    active: NDArray[np.bool_]
    voice: Vector


def local_speakers(
    samples: Samples, segmentation: SpeakerSegmentation, encoder: SpeakerEncoder
) -> list[LocalSpeaker]:
    """Find the speakers of all windows of a recording (N,) who speak long enough for a voice vector."""
    found = []
    for start in _starts(len(samples)):
        window = samples[start : start + WINDOW]
        active = segmentation(window)
        alone = active.sum(1) == 1
        for k in range(active.shape[1]):
            solo = active[:, k] & alone
            voice = None
            for frames in (solo, active[:, k]):
                if voice is None and frames.sum() * FRAME >= MIN_SPEECH_MS * SAMPLE_RATE // 1000:
                    voice = encoder.embed([_cut(window, frames)])[0]
            if voice is not None:
                found.append(LocalSpeaker(start, active[:, k], voice))
    return found


def cluster(speakers: Sequence[LocalSpeaker], threshold: float, duration: int) -> list[Spoken]:
    """Return who speaks when.

    Args:
        speakers: of all windows, as `local_speakers` returns them.
        threshold: the mean cosine from which two groups of voices are one person.
        duration: the length of the recording in samples.
    """
    if not speakers:
        return []
    groups = np.zeros(len(speakers), dtype=int)
    if len(speakers) > 1:
        voices = np.stack([speaker.voice for speaker in speakers])
        groups = fcluster(linkage(voices, "average", metric="cosine"), 1 - threshold, "distance") - 1
    heard = np.zeros((duration // FRAME + 1, groups.max() + 1))
    windows = np.zeros(len(heard))
    for speaker, group in zip(speakers, groups, strict=True):
        first = round(speaker.start / FRAME)
        heard[first : first + len(speaker.active), group] += speaker.active[: len(heard) - first]
    for start in _starts(duration):
        windows[round(start / FRAME) :][: len(speakers[0].active)] += 1
    share = heard / np.maximum(windows, 1)[:, None]
    rank = np.argsort(np.argsort(-share, axis=1, kind="stable"), axis=1)
    active = (rank < np.rint(share.sum(1))[:, None]) & (heard > 0)
    turns = []
    for group in range(active.shape[1]):
        edges = np.diff(np.concatenate([[0], active[:, group].astype(int), [0]]))
        for begin, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            bounds = ((FIRST_FRAME - FRAME // 2 + FRAME * int(edge)) / SAMPLE_RATE for edge in (begin, end))
            turns.append((*bounds, f"speaker_{group + 1}"))
    return sorted(turns)


def _starts(duration: int) -> list[int]:
    """Return the first sample of each window; the last window ends with the recording."""
    last = max(0, duration - WINDOW)
    return [*range(0, last, STEP), last]


def _cut(samples: Samples, frames: NDArray[np.bool_]) -> Samples:
    """Return the samples of the chosen frames, one after another."""
    kept = np.zeros(len(samples), dtype=bool)
    for frame in np.flatnonzero(frames):
        middle = FIRST_FRAME + FRAME * int(frame)
        kept[max(0, middle - FRAME // 2) : middle + FRAME // 2] = True
    return samples[kept]
