"""The entries of a file of turns, read by the kind of file that it is."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from stream_erc.exceptions import TurnsError
from stream_erc.sources.text_files import MAX_FILE_BYTES, parse_json, read_lines, short, suffix
from stream_erc.sources.turns.annotations import read_eaf, read_textgrid
from stream_erc.sources.turns.columns import Columns
from stream_erc.sources.turns.entries import Entry, Fault, Found
from stream_erc.sources.turns.json_files import (
    dialogue_entries,
    dialogue_name,
    is_dialogue,
    read_json,
    record_entry,
    several_dialogues,
)
from stream_erc.sources.turns.line_files import read_ctm, read_rttm
from stream_erc.sources.turns.parquet_files import read_parquet
from stream_erc.sources.turns.subtitles import read_cues
from stream_erc.sources.turns.tables import read_table
from stream_erc.sources.turns.text_kinds import read_text

KINDS = tuple(".rttm .srt .vtt .csv .tsv .parquet .json .jsonl .ctm .eaf .textgrid .txt".split())
"""Suffixes of the files that can be read."""

TABLES = (".csv", ".tsv")
PARQUET = ".parquet"
OF_RECORDINGS = (".rttm", ".ctm")
"""Suffixes of files that may hold several recordings, each with its name."""

Dialogue: TypeAlias = tuple[str | None, list[Found]]
"""A dialogue of a file with several: its name, and its entries."""


def whole_lines(path: Path) -> tuple[list[str], list[Fault]]:
    """Read a whole file of a known kind; one of Parquet has no lines.

    Raises:
        TurnsError: it is of no known kind, cannot be read, or is blank.
    """
    if suffix(path) not in KINDS:
        known = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"
        raise TurnsError(f"{path}: expected {known}, got {suffix(path) or 'no suffix'}")
    if suffix(path) == PARQUET:
        return [], []
    faults: list[Fault] = []
    lines = list(read_lines(path, MAX_FILE_BYTES, lambda line, byte: faults.append(not_utf8(line, byte))))
    if not any(line.strip() for line in lines):
        raise TurnsError(f"{path}: expected turns, got an empty file")
    return lines, faults


def not_utf8(line: int, byte: int) -> Fault:
    """Return what is to be said of the first line that is not UTF-8."""
    return Fault(
        f"line {line}", f"expected UTF-8, got byte 0x{byte:02x}: such lines are read as Windows-1252"
    )


def entries_of(path: Path, lines: Sequence[str]) -> Iterator[Found]:
    """Yield the entries of a whole file, and what is none.

    Raises:
        TurnsError: it is not of its kind.
    """
    kind, text = suffix(path), "".join(lines)
    try:
        if kind in (".srt", ".vtt"):
            yield from read_cues(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        elif kind in (".csv", ".tsv"):
            yield from read_table(lines)
        elif kind == PARQUET:
            yield from read_parquet(path)
        elif kind == ".json":
            yield from _json_document(path, lines)
        elif kind == ".jsonl":
            for item in json_lines(path, lines):
                yield from [item] if isinstance(item, Entry | Fault) else item[1]
        elif kind == ".rttm":
            yield from read_rttm(text.splitlines())
        elif kind == ".ctm":
            yield from read_ctm(text.splitlines())
        elif kind == ".eaf":
            yield from read_eaf(text)
        elif kind == ".textgrid":
            yield from read_textgrid(text)
        else:
            yield from read_text(lines)
    except TurnsError as error:
        raise placed(path, error) from error


def placed(path: Path, error: TurnsError) -> TurnsError:
    """Return a reader's error with the name of the file before it."""
    message = str(error)
    if message.startswith(str(path)):
        return error
    return TurnsError(f"{path}{', ' if message.startswith('line ') else ': '}{message}")


def _json_document(path: Path, lines: Sequence[str]) -> Iterator[Found]:
    """Yield the entries of a JSON file, which may also be one of JSON lines."""
    try:
        data = parse_json(path, "".join(lines))
    except TurnsError as error:
        rows = list(json_lines(path, lines)) if "Extra data" in str(error) else []
        if not any(isinstance(row, Entry | tuple) for row in rows):
            raise
        for row in rows:
            yield from [row] if isinstance(row, Entry | Fault) else row[1]
        return
    if (several := several_dialogues(data)) is not None:
        for item in _dialogues(several):
            yield from [item] if isinstance(item, Fault) else item[1]
    else:
        yield from dialogue_entries(data, "") if is_dialogue(data) else read_json(data)


def dialogues_of(path: Path, lines: Sequence[str]) -> Iterator[Fault | Dialogue] | None:
    """Return the dialogues of a JSON file ``{"dialogues": [...]}``, None if it is another one."""
    try:
        several = several_dialogues(parse_json(path, "".join(lines)))
    except TurnsError:
        return None  # JSON lines, perhaps
    return None if several is None else _dialogues(several)


def _dialogues(several: Sequence[object]) -> Iterator[Fault | Dialogue]:
    for number, data in enumerate(several, 1):
        yield _dialogue(data, f"dialogue {number}")


def _dialogue(data: object, at: str) -> Fault | Dialogue:
    """Return a dialogue with its name and entries."""
    if not isinstance(data, dict) or "turns" not in data:
        return Fault(at, f'expected {{"turns": [...]}}, got {short(data)}')
    if isinstance(name := dialogue_name(data), Fault):
        return Fault(at, name.reason)
    if not is_dialogue(data):
        return Fault(at, f"expected a list of turns, got {short(data['turns'])}")
    if not data["turns"]:
        return Fault(at, "expected at least one turn, got none")
    return name, list(dialogue_entries(data, f"{at}, "))


def json_lines(path: Path, lines: Iterable[str]) -> Iterator[Found | Dialogue]:
    """Yield the turns of JSON lines, or their dialogues: (name, entries)."""
    known: dict[tuple[str, ...], Columns] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        at = f"line {number}"
        try:
            data = parse_json(path, line, number)
        except TurnsError as error:
            yield Fault(at, str(error).removeprefix(f"{path}, {at}").lstrip(",: "))
            continue
        if isinstance(data, dict) and "turns" in data:
            yield _dialogue(data, at)
        else:
            yield record_entry(at, data, known, carry=True)
