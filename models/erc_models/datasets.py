"""Corpora as dialogues of labelled utterances.

One reader for the JSON Lines layout that every corpus is kept in (optionally gzipped), one dialogue a
line: ``{"corpus", "dialogue", "turns": [{"speaker", "text", "emotion"}, ...]}``; other keys are ignored.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MELD_LABELS = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
"""The seven emotions of MELD (Poria et al., 2018), most frequent first."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One labelled turn of a corpus.

    Attributes:
        speaker: who speaks, unique within the dialogue only.
        text: the transcript.
        emotion: the gold label, or None where the corpus gives none.
    """

    speaker: str
    text: str
    emotion: str | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation of a corpus, its utterances in time order."""

    corpus: str
    name: str
    utterances: tuple[Utterance, ...]

    def speaker_ids(self) -> list[int]:
        """Dialogue-local speaker index of each utterance, by order of appearance."""
        order: dict[str, int] = {}
        return [order.setdefault(u.speaker, len(order)) for u in self.utterances]


def read_jsonl(path: Path) -> list[Dialogue]:
    """Read a corpus file.

    Raises:
        ValueError: a line is not a dialogue; the message names the file, the line and the missing key.
    """
    return list(_dialogues(path))


def _dialogues(path: Path) -> Iterator[Dialogue]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                utterances = tuple(_utterance(turn) for turn in record["turns"])
                yield Dialogue(record.get("corpus", path.stem), str(record["dialogue"]), utterances)
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected a dialogue with 'dialogue' and 'turns' "
                    f"of speaker and text, got {error!r}"
                ) from error


def _utterance(turn: dict) -> Utterance:
    return Utterance(
        speaker=str(turn["speaker"]),
        text=repair_text(turn["text"]),
        emotion=turn.get("emotion"),
    )


_REPAIRS = str.maketrans(
    {"\x91": "'", "\x92": "'", "\x93": '"', "\x94": '"', "\x85": "...", "\x97": " - ", "\u2019": "'"}
)


def repair_text(text: str) -> str:
    """Undo the Windows-1252 control characters that MELD and EmoryNLP carry for quotes and dashes."""
    return re.sub(r"\s+", " ", text.translate(_REPAIRS)).strip()


def label_counts(dialogues: Iterable[Dialogue]) -> dict[str, int]:
    """How often each emotion label occurs."""
    counts: dict[str, int] = {}
    for dialogue in dialogues:
        for utterance in dialogue.utterances:
            if utterance.emotion is not None:
                counts[utterance.emotion] = counts.get(utterance.emotion, 0) + 1
    return counts
