"""Corpora as dialogues of labelled utterances.

`read_jsonl` reads the common layout: JSON Lines, optionally gzipped, one dialogue a line: ``{"corpus",
"dialogue", "turns": [{"speaker", "text", "emotion"?, "start_ms"?, "end_ms"?, "prosody"?}, ...]}``; other keys
are ignored. `erc_models.data.releases` reads any layout, including those of the corpora's releases.
"""

import gzip
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from erc_models.formats.text import repair_text

DESCRIPTORS = (
    "duration",
    "avg_intensity",
    "intensity_variation",
    "avg_pitch",
    "pitch_std",
    "pitch_range",
    "articulation_rate",
    "mean_hnr",
)
"""The prosodic descriptors of MELD, as the runtime measures them: s, dB, dB, Hz, Hz, Hz, syllables/s, dB."""

MELD_LABELS = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
"""The seven emotions of MELD (Poria et al., 2018), most frequent first."""

EMORYNLP_LABELS = ("neutral", "joyful", "scared", "mad", "peaceful", "powerful", "sad")
"""The seven emotions of EmoryNLP (Zahiri and Choi, 2018), most frequent first."""

DAILYDIALOG_LABELS = ("no_emotion", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
"""The labels of DailyDialog (Li et al., 2017), in the order of its numeric codes 0 to 6."""

IEMOCAP_LABELS = ("frustrated", "neutral", "angry", "sad", "excited", "happy")
"""The six classes of IEMOCAP (Busso et al., 2008) that are scored, most frequent first."""

CORPUS_LABELS: Mapping[str, tuple[str, ...]] = {
    "meld": MELD_LABELS,
    "emorynlp": EMORYNLP_LABELS,
    "dailydialog": DAILYDIALOG_LABELS,
    "iemocap": IEMOCAP_LABELS,
}

DAILYDIALOG_TO_MELD: Mapping[str, str] = {
    "no_emotion": "neutral",
    "happiness": "joy",
    **{label: label for label in ("anger", "disgust", "fear", "sadness", "surprise")},
}
"""DailyDialog's labels -> MELD's names; both use Ekman's six emotions."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One labelled turn of a corpus.

    Attributes:
        speaker: the speaker's name, unique within the dialogue only.
        text: the transcript.
        emotion: the gold label, or None for an unlabelled turn.
        start_ms: its start in the recording, or None if unknown.
        end_ms: its end.
        prosody: the values of `stream_erc.inference.prosody.DESCRIPTORS` in their units, NaN for a value that
            was not measured; None if the corpus has no prosody.
    """

    speaker: str
    text: str
    emotion: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    prosody: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation of a corpus, its utterances in time order."""

    corpus: str
    name: str
    utterances: tuple[Utterance, ...]

    def speaker_ids(self) -> list[int]:
        """Return the dialogue-local speaker index of each utterance, by order of appearance."""
        order: dict[str, int] = {}
        return [order.setdefault(u.speaker, len(order)) for u in self.utterances]


def read_jsonl(path: Path) -> list[Dialogue]:
    """Read a corpus file of JSON Lines.

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
                corpus = str(record.get("corpus", path.stem))
                utterances = tuple(_utterance(turn, corpus) for turn in record["turns"])
                yield Dialogue(corpus, str(record["dialogue"]), utterances)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected a dialogue with 'dialogue' and 'turns' "
                    f"of speaker and text, got {error!r}"
                ) from error


def _utterance(turn: dict, corpus: str) -> Utterance:
    text = repair_text(turn["text"])
    start_ms, end_ms, prosody = (turn.get(name) for name in ("start_ms", "end_ms", "prosody"))
    return Utterance(
        speaker=str(turn["speaker"]),
        text=untokenise(text) if corpus == "dailydialog" else text,
        emotion=turn.get("emotion"),
        start_ms=None if start_ms is None else int(start_ms),
        end_ms=None if end_ms is None else int(end_ms),
        prosody=None if prosody is None else tuple(_number(prosody.get(name)) for name in DESCRIPTORS),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


WORD = r"[^\W_]+(?:'[^\W_]+)*"
"""Regular expression of a word: letters or digits, apostrophes inside."""


def normalise(text: str) -> str:
    """Return the words in lower case without punctuation, for counting word errors and repeats."""
    return " ".join(re.findall(WORD, text.replace("\u2019", "'").lower()))


_CLITIC = re.compile(r"(?<=\w) ?' ?(s|t|m|d|ll|re|ve|clock)\b", re.IGNORECASE)
_BEFORE_MARK = re.compile(r" +(?=(?:[,?!;:%)]|\.+)(?:\s|$|[\"')]))")
_RUN_TOGETHER = re.compile(r"(?<=[a-z][.?!,])(?=[A-Z])")


def untokenise(text: str) -> str:
    """Undo DailyDialog's tokenisation: ``I ' m fine , Jim .`` becomes ``I'm fine, Jim.`` again."""
    text = _CLITIC.sub(lambda found: "'" + found[1].lower(), text)
    return _RUN_TOGETHER.sub(" ", _BEFORE_MARK.sub("", text))


def relabel(dialogues: Iterable[Dialogue], names: Mapping[str, str]) -> list[Dialogue]:
    """Rename the emotions of dialogues.

    Raises:
        ValueError: an emotion is not in `names`.
    """
    return [
        replace(d, utterances=tuple(replace(u, emotion=_renamed(u, d, names)) for u in d.utterances))
        for d in dialogues
    ]


def _renamed(utterance: Utterance, dialogue: Dialogue, names: Mapping[str, str]) -> str | None:
    if utterance.emotion is None:
        return None
    if utterance.emotion not in names:
        raise ValueError(
            f"dialogue {dialogue.name} of {dialogue.corpus}: expected an emotion of {', '.join(names)}, "
            f"got {utterance.emotion!r}"
        )
    return names[utterance.emotion]


def label_counts(dialogues: Iterable[Dialogue]) -> dict[str, int]:
    """Count the utterances of each emotion."""
    counts: dict[str, int] = {}
    for dialogue in dialogues:
        for utterance in dialogue.utterances:
            if utterance.emotion is not None:
                counts[utterance.emotion] = counts.get(utterance.emotion, 0) + 1
    return counts
