"""Readers of corpora in the layouts of their releases.

- MELD (Poria et al., 2018): ``train_sent_emo.csv`` and so on, one utterance a row.
- EmoryNLP (Zahiri and Choi, 2018), as CSV files like MELD's: a dialogue is a scene of an episode.
- IEMOCAP (Busso et al., 2008): ``SessionN/dialog/transcriptions`` and ``SessionN/dialog/EmoEvaluation``.
- DailyDialog (Li et al., 2017): ``dialogues_text.txt`` and ``dialogues_emotion.txt``, or the unpacked folders
  ``train``, ``validation`` and ``test``; one dialogue a line, in which two speakers alternate.
"""

import ast
import csv
import io
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from erc_models.data.datasets import (
    CORPUS_LABELS,
    DAILYDIALOG_LABELS,
    Dialogue,
    Utterance,
    read_jsonl,
    untokenise,
)
from erc_models.formats.text import repair_text

MELD_COLUMNS = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)
EMORYNLP_COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Utterance_ID", "Season", "Episode")

IEMOCAP_CODES: Mapping[str, str] = {
    "fru": "frustrated",
    "neu": "neutral",
    "ang": "angry",
    "sad": "sad",
    "exc": "excited",
    "hap": "happy",
}
"""Codes -> the six classes; turns with other codes (surprise, fear, disgust, no majority) are unlabelled."""

MISFITS = 0.01
"""The tolerated share of DailyDialog's lines whose labels do not fit their text (its release has one)."""

_MARK = "__eou__"
_TIME = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})")
_SPOKEN = re.compile(r"(Ses\d\d[FM]_\w+_([FM])\w+) \[(\d+\.\d+)-(\d+\.\d+)\]: *(.*)")
_JUDGED = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\s+(\w+)\s+(\w{3})\b")

_log = logging.getLogger(__name__)


def read(path: Path) -> list[Dialogue]:
    """Read a corpus in any known layout.

    Args:
        path: a ``.jsonl`` or ``.jsonl.gz`` file, MELD's or EmoryNLP's CSV file, a folder of IEMOCAP
            (which holds ``Session1`` ..., or is one of them), a folder with one split of DailyDialog.

    Raises:
        ValueError: the path is none of these, or a file has an error.
    """
    if not path.exists():
        raise ValueError(f"{path}: expected a corpus file or folder, got a path that does not exist")
    if path.is_file() and path.name.endswith((".jsonl", ".jsonl.gz")):
        return read_jsonl(path)
    return read_release(path)


def read_release(path: Path) -> list[Dialogue]:
    """Read a corpus in the layout of its release.

    Raises:
        ValueError: the layout is unknown; the message lists the known ones and what was found.
    """
    if path.is_file():
        if path.suffix.lower() == ".csv":
            return _read_csv(path)
        raise ValueError(
            f"{path}: expected a file .jsonl, .jsonl.gz or .csv, or a folder, got a {path.suffix} file"
        )
    if _sessions(path):
        return list(_iemocap(path))
    texts = [
        text
        for text in sorted(path.glob("dialogues_*.txt"))
        if _is_text(text) and _emotions_of(text).exists()
    ]
    if len(texts) == 1:
        return list(_dailydialog(path, texts[0]))
    found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "an empty folder"
    raise ValueError(
        f"{path}: expected a folder with Session1 ... (IEMOCAP), or with dialogues_*.txt and their "
        f"dialogues_emotion*.txt of one split (DailyDialog), got {found}"
    )


# --- MELD and EmoryNLP ----------------------------------------------------------------------------


def _read_csv(path: Path) -> list[Dialogue]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    if {"Dialogue_ID", "Utterance"} <= set(columns):
        corpus, needed = "meld", {"Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID"}
    elif {"Scene_ID", "Utterance"} <= set(columns):
        corpus, needed = "emorynlp", set(EMORYNLP_COLUMNS)
    else:
        raise ValueError(
            f"{path}: expected the columns of MELD ({', '.join(MELD_COLUMNS)}) or of EmoryNLP "
            f"({', '.join(EMORYNLP_COLUMNS)}), got {', '.join(columns) or 'no columns'}"
        )
    missing = sorted(needed - set(columns))
    if missing:
        raise ValueError(
            f"{path}: expected also the columns {', '.join(missing)} of {corpus}, got {', '.join(columns)}"
        )
    dialogues: dict[str, list[tuple[int, Utterance]]] = defaultdict(list)
    for row in rows:
        try:
            place, utterance = int(row["Utterance_ID"]), _csv_utterance(row, corpus)
            dialogues[_csv_name(row, corpus, path)].append((place, utterance))
        except (AttributeError, SyntaxError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {rows.line_num}: expected an utterance, got {error}") from error
    return [
        Dialogue(corpus, name, tuple(utterance for _, utterance in sorted(turns, key=lambda turn: turn[0])))
        for name, turns in dialogues.items()
    ]


def _csv_name(row: Mapping[str, str], corpus: str, path: Path) -> str:
    if corpus == "meld":  # dialogues are numbered anew in each split
        return f"{path.stem.split('_')[0]}_{int(row['Dialogue_ID'])}"
    return f"s{int(row['Season']):02}_e{int(row['Episode']):02}_c{int(row['Scene_ID']):02}"


def _csv_utterance(row: Mapping[str, str], corpus: str) -> Utterance:
    emotion = row["Emotion"].strip().lower()
    if emotion not in CORPUS_LABELS[corpus]:
        raise ValueError(f"the emotion {row['Emotion']!r} (one of {', '.join(CORPUS_LABELS[corpus])})")
    speaker = repair_text(row["Speaker"])
    if corpus == "emorynlp":
        speaker = " and ".join(sorted(ast.literal_eval(speaker)))
    return Utterance(
        speaker=speaker,
        text=repair_text(row["Utterance"]),
        emotion=emotion,
        start_ms=_milliseconds(row.get("StartTime")),  # EmoryNLP's are not times of these utterances
        end_ms=_milliseconds(row.get("EndTime")),
    )


def _milliseconds(time: str | None) -> int | None:
    """Convert ``0:12:43,012`` to milliseconds; None for an empty time."""
    if not time or not time.strip():
        return None
    parts = _TIME.fullmatch(time.strip())
    if parts is None:
        raise ValueError(f"the time {time!r} (h:mm:ss,mmm)")
    hours, minutes, seconds, thousandths = parts.groups()
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(thousandths.ljust(3, "0"))


# --- IEMOCAP --------------------------------------------------------------------------------------


def _sessions(path: Path) -> list[Path]:
    folders = [path] if re.fullmatch(r"Session\d", path.name) else sorted(path.glob("Session[0-9]"))
    return [folder for folder in folders if (folder / "dialog").is_dir()]


def _iemocap(path: Path) -> Iterator[Dialogue]:
    for session in _sessions(path):
        transcripts = _visible(session / "dialog" / "transcriptions")
        if not transcripts:
            raise ValueError(f"{session}: expected transcripts in dialog/transcriptions/*.txt, got none")
        for transcript in transcripts:
            judged = session / "dialog" / "EmoEvaluation" / transcript.name
            if not judged.is_file():
                raise ValueError(f"{transcript}: expected its labels in {judged}, got no such file")
            labels = dict(_JUDGED.findall(judged.read_text(encoding="utf-8", errors="replace")))
            yield Dialogue("iemocap", transcript.stem, tuple(_iemocap_turns(transcript, labels)))


def _visible(folder: Path) -> list[Path]:
    """List the text files of a folder without the hidden files of a file manager in the release."""
    return sorted(file for file in folder.glob("*.txt") if not file.name.startswith("."))


def _iemocap_turns(transcript: Path, labels: Mapping[str, str]) -> list[Utterance]:
    """Return the turns in time order, without lines that have no times (asides of the actors)."""
    found = _SPOKEN.findall(transcript.read_text(encoding="utf-8", errors="replace"))
    if not found:
        raise ValueError(f"{transcript}: expected lines like 'Ses01F_impro01_F000 [1.0-2.0]: ...', got none")
    turns = [
        Utterance(
            speaker=f"{name[:5]}_{who}",
            text=repair_text(text),
            emotion=IEMOCAP_CODES.get(labels.get(name, "")),
            start_ms=round(1000 * float(start)),
            end_ms=round(1000 * float(end)),
        )
        for name, who, start, end, text in found
    ]
    return sorted(turns, key=lambda turn: (turn.start_ms or 0, turn.end_ms or 0))


# --- DailyDialog ----------------------------------------------------------------------------------


def _is_text(file: Path) -> bool:
    """Return whether a file ``dialogues_*.txt`` holds the words."""
    return file.stem.split("_")[1] not in ("act", "emotion", "topic")


def _emotions_of(text: Path) -> Path:
    """Return the file with the emotions of ``dialogues_train.txt`` or ``dialogues_text.txt``."""
    kind = text.stem.removeprefix("dialogues_")
    return text.with_name("dialogues_emotion.txt" if kind == "text" else f"dialogues_emotion_{kind}.txt")


def _dailydialog(path: Path, text: Path) -> Iterator[Dialogue]:
    emotions = _emotions_of(text)
    said, felt = (file.read_text(encoding="utf-8").splitlines() for file in (text, emotions))
    said = [line for line in said if line.strip()]
    felt = [line for line in felt if line.strip()]
    if len(said) != len(felt):
        raise ValueError(
            f"{path}: expected a line of emotions for each of {len(said)} dialogues, got {len(felt)}"
        )
    split = text.stem.removeprefix("dialogues_")
    misfits = []
    for place, (line, codes) in enumerate(zip(said, felt, strict=True)):
        texts = [part.strip() for part in line.strip().removesuffix(_MARK).split(_MARK)]
        labels = _labels(codes.split(), f"{emotions}, line {place + 1}")
        if len(texts) != len(labels):
            misfits.append(place + 1)
            continue
        turns = zip(texts, labels, strict=True)
        yield Dialogue(
            "dailydialog",
            f"{split}_{place}",
            tuple(Utterance("AB"[k % 2], untokenise(repair_text(t)), e) for k, (t, e) in enumerate(turns)),
        )
    if len(misfits) > max(1, MISFITS * len(said)):
        raise ValueError(
            f"{path}: expected an emotion for each utterance, got other numbers in {len(misfits)} lines"
        )
    if misfits:
        _log.warning("%s: skipped lines %s: number of emotions differs from utterances", text, misfits)


def _labels(codes: Sequence[str], place: str) -> list[str]:
    wrong = [code for code in codes if code not in {str(k) for k in range(len(DAILYDIALOG_LABELS))}]
    if wrong:
        raise ValueError(f"{place}: expected codes 0 to {len(DAILYDIALOG_LABELS) - 1}, got {wrong[0]!r}")
    return [DAILYDIALOG_LABELS[int(code)] for code in codes]
