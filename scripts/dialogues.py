"""Conversations with known ground truth: they are simulated, read, and compared with what was heard.

The scripts that evaluate speakers share this.
"""

import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pyannote.core import Annotation, Segment
from scipy.optimize import linear_sum_assignment

COLLAR_S = 0.25
"""The collar of a diarization error rate as pyannote counts it: half of it before and after each boundary."""

CORPORA = ("ravdess", "tess", "speechocean762")
"""Folders of clips with labels.csv (file, speaker, text, and perhaps emotion)."""

Spoken: TypeAlias = tuple[float, float, str]
"""Start and end of a turn in seconds, and its speaker."""


def simulate(
    simulator: Path, data: Path, folder: Path, chosen: Callable[[str, int], bool], options: Sequence[str]
) -> Path:
    """Simulate dialogues under `folder` unless they exist.

    Args:
        simulator: simulate_dialogues.py.
        data: the folder of the corpora.
        folder: a folder for this set of dialogues.
        chosen: returns whether to use the clips of a corpus' speaker, told by the digits of its name.
        options: the simulator's, such as ``["--speakers", "2-4"]``.

    Returns:
        The folder of the dialogues: FLAC, RTTM and JSON files.
    """
    made = folder / "dialogues"
    if made.is_dir():
        return made
    clips = folder / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    with open(clips / "labels.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "speaker", "text", "emotion"], extrasaction="ignore")
        writer.writeheader()
        for corpus in CORPORA:
            with open(data / corpus / "labels.csv", newline="") as lines:
                for row in csv.DictReader(lines):
                    if chosen(corpus, int("0" + "".join(c for c in row["speaker"] if c.isdigit()))):
                        path = (data / corpus / row["file"]).resolve()
                        writer.writerow({"emotion": "", **row, "file": str(path)})
    command = [sys.executable, str(simulator), "--clips", str(clips), "--out", str(made), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made


def read_truth(folder: Path) -> dict[str, list[Spoken]]:
    """Read who speaks in each recording, in order of start, from the RTTM files of a folder."""
    truth: dict[str, list[Spoken]] = {}
    for path in sorted(folder.glob("*.rttm")):
        for line in path.read_text().splitlines():
            _, name, _, start, duration, _, _, speaker, *_ = line.split()
            truth.setdefault(name, []).append((float(start), float(start) + float(duration), speaker))
    return {name: sorted(turns) for name, turns in truth.items()}


def annotate(turns: Iterable[Spoken]) -> Annotation:
    """Convert turns to a pyannote annotation; they may overlap."""
    made = Annotation()
    for track, (start, end, speaker) in enumerate(turns):
        made[Segment(start, end), track] = speaker
    return made


def best_names(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return the one-to-one mapping from found to true speakers that makes most pairs right.

    Args:
        pairs: true and found speaker of each turn.
    """
    counts = Counter(pairs)
    names, found = (sorted({pair[i] for pair in counts}) for i in (0, 1))
    table = np.array([[counts[a, b] for b in found] for a in names]).reshape(len(names), len(found))
    rows, columns = linear_sum_assignment(-table)
    return {found[column]: names[row] for row, column in zip(rows, columns, strict=True)}


def count_right(pairs: Sequence[tuple[str, str]]) -> int:
    """Count the pairs of true and found speaker that are right under `best_names`."""
    names = best_names(pairs)
    return sum(names.get(found) == true for true, found in pairs)


def overlap_s(turn: Spoken, other: Spoken) -> float:
    """Return the seconds that two turns share."""
    return max(0.0, min(turn[1], other[1]) - max(turn[0], other[0]))


def main_speaker(turn: Spoken, truth: Iterable[Spoken]) -> str | None:
    """Return the true speaker with the most speech within a turn, None if nobody speaks in it."""
    shares: Counter[str] = Counter()
    for spoken in truth:
        shares[spoken[2]] += overlap_s(turn, spoken)  # type: ignore[assignment]
    return max(shares, key=lambda speaker: shares[speaker]) if any(shares.values()) else None
