"""Examples of labels, read from a folder or a file and checked.

A folder contains a subfolder for each label. In it, a ``.txt`` file has one example per line, and any other
file is a recording; a ``.txt`` file with the name of a recording is its transcript. Names that begin with a
dot are ignored.

A file has ``label``, and ``text`` or ``audio`` or both, as columns of ``.csv`` or ``.tsv`` or as keys of
``.jsonl``, one object per line; a path in ``audio`` is relative to the file. It may end in ``.gz``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError, LabelsError, TurnsError
from stream_erc.inference.prosody import speech_span
from stream_erc.sources.text_files import MAX_FILE_BYTES, parse_json, read_lines, read_rows, short, suffix

COLUMNS = ("label", "text", "audio")
NEEDS = (("label",), ("text", "audio"))
MAX_LABEL = 32  # characters, to fit beside a turn
MAX_EXAMPLE_S = 60

Decode = Callable[[Path], Iterable[Samples]]
"""A function that opens a recording and yields chunks of 16 kHz mono, such as `AudioFile(path).chunks()`."""


@dataclass(frozen=True, slots=True)
class LabelExample:
    """One turn that expresses a label: its words, its voice, or both.

    Attributes:
        label: the expressed label.
        text: its words, "" if unknown.
        audio: its recording, or None.
        at: its place in the folder or file, for messages.
    """

    label: str
    text: str
    audio: Path | None
    at: str


def read_label_examples(path: Path) -> list[LabelExample]:
    """Read all examples, grouped by label: in a folder sorted by name, in a file by first appearance.

    Raises:
        LabelsError: nothing there, an example that cannot be read, fewer than two labels, or a label without
            examples. Recordings are not opened yet, see `load_speech`.
    """
    try:
        examples = _folder(path) if path.is_dir() else _file(path)
    except TurnsError as error:
        raise LabelsError(str(error)) from error
    except OSError as error:
        raise LabelsError(f"{path}: expected a readable folder, got {error.strerror}") from error
    labels = dict.fromkeys(example.label for example in examples)
    if len(labels) < 2:
        raise LabelsError(f"{path}: expected two labels or more, got {', '.join(labels) or 'none'}")
    return sorted(examples, key=lambda example: list(labels).index(example.label))


def load_speech(example: LabelExample, decode: Decode) -> Samples:
    """Load the speech of an example's recording, with as much silence around it as a segment has.

    Raises:
        LabelsError: the recording cannot be read, or is too long.
    """
    assert example.audio is not None, example
    chunks: list[Samples] = []
    samples = 0
    try:
        for chunk in decode(example.audio):
            chunks.append(chunk)
            samples += len(chunk)
            if samples > MAX_EXAMPLE_S * SAMPLE_RATE:
                raise AudioError(f"{example.audio}: expected at most {MAX_EXAMPLE_S} s, got more")
    except AudioError as error:
        place = "" if example.at == str(example.audio) else f"{example.at}: "
        raise LabelsError(f"{place}{error}") from error
    whole = np.concatenate(chunks)
    start, end = speech_span(whole)
    return whole[max(0, start - SAMPLE_RATE // 5) : end + SAMPLE_RATE * 2 // 5]


# --- folders --------------------------------------------------------------------------------------


def _folder(path: Path) -> list[LabelExample]:
    examples: list[LabelExample] = []
    for folder in _visible(path):
        if not folder.is_dir():
            raise LabelsError(f"{folder}: expected a folder for each label, got a file")
        found = list(_label_folder(folder, _label(f"{folder}", _unicode(folder.name))))
        if not found:
            raise LabelsError(f"{folder}: expected examples of the label in text or audio files, got none")
        examples += found
    if not examples:
        raise LabelsError(f"{path}: expected a folder for each label in it, got none")
    return examples


def _label_folder(folder: Path, label: str) -> Iterator[LabelExample]:
    files = _visible(folder)
    texts = {file.stem: file for file in files if file.suffix.lower() == ".txt"}
    spoken = set()
    for file in files:
        if file.is_dir():
            raise LabelsError(f"{file}: expected text and audio files, got a folder")
        if file in texts.values():
            continue
        text = ""
        if file.stem in texts:
            text = " ".join(said for _, said in _lines(texts[file.stem]))
            spoken.add(texts[file.stem])
        yield LabelExample(label, text, file, f"{file}")
    for file in texts.values():
        if file not in spoken:
            for number, said in _lines(file):
                yield LabelExample(label, said, None, f"{file}, line {number}")


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, numbered."""
    for number, line in enumerate(read_lines(path, MAX_FILE_BYTES), 1):
        if said := _clean(line):
            yield number, said


# --- files ----------------------------------------------------------------------------------------


def _file(path: Path) -> list[LabelExample]:
    kind = suffix(path)
    rows: Iterator[tuple[str, dict[str, object]]]
    if kind in (".csv", ".tsv"):
        rows = read_rows(path, read_lines(path, MAX_FILE_BYTES), COLUMNS, NEEDS)
    elif kind == ".jsonl":
        rows = _objects(path)
    else:
        raise LabelsError(
            f"{path}: expected a folder of labels, .jsonl, .csv or .tsv, got "
            f"{kind or 'no suffix' if path.exists() else 'nothing there'}"
        )
    return [_example(path, at, row) for at, row in rows]


def _objects(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(read_lines(path, MAX_FILE_BYTES), 1):
        if not line.strip():
            continue
        at = f"{path}, line {number}"
        row = parse_json(path, line, number)
        if not isinstance(row, dict):
            raise LabelsError(f"{at}: expected an object with {', '.join(COLUMNS)}, got {short(row)}")
        for key in row:
            if key not in COLUMNS:
                raise LabelsError(f"{at}: expected keys among {', '.join(COLUMNS)}, got {short(key)}")
        yield at, row


def _example(path: Path, at: str, row: Mapping[str, object]) -> LabelExample:
    values = {}
    for name in COLUMNS:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise LabelsError(f"{at}: expected a string as {name}, got {short(value)}")
        values[name] = _clean(value or "") if name != "audio" else (value or "").strip()
    if not values["text"] and not values["audio"]:
        raise LabelsError(f"{at}: expected a text or an audio file, got neither")
    audio = path.parent / values["audio"] if values["audio"] else None
    return LabelExample(_label(at, values["label"]), values["text"], audio, at)


# --- words ----------------------------------------------------------------------------------------


def _label(at: str, name: str) -> str:
    label = _clean(name)
    if not label or len(label) > MAX_LABEL:
        came = f"{len(label)}: {short(label)}" if label else "none"
        raise LabelsError(f"{at}: expected a label of 1 to {MAX_LABEL} characters, got {came}")
    return label


def _clean(text: str) -> str:
    """Join the text to one line without control characters and lone surrogates."""
    return " ".join(_unicode(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)).split())


def _unicode(name: str) -> str:
    """Replace the parts of a name that are not valid Unicode."""
    return name.encode(errors="replace").decode()
