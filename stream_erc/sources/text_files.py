"""Lines, CSV rows and JSON of text files; every fault is a `TurnsError` that names its place.

Files are read lazily, and an error is raised only after everything before the fault.
"""

import codecs
import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from stream_erc.exceptions import TurnsError

MAX_FILE_BYTES = 64 * 2**20  # of a file that is read at once: all but JSONL and dialogue CSV
MAX_LINE_BYTES = 16 * 2**20


def suffix(path: Path) -> str:
    """Return the suffix in lower case, ignoring a final ``.gz``."""
    return Path(path.name[: -len(".gz")] if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def read_lines(
    path: Path, limit: int | None = None, on_other: Callable[[int, int], None] | None = None
) -> Generator[str, None, None]:
    """Yield lines with their line ends; raise an error after all complete lines before the fault.

    A caller that may stop early must close the generator (`contextlib.closing`), which closes the file.

    Args:
        path: the file.
        limit: its greatest size in bytes.
        on_other: called with the line's number and the byte where the first line is not UTF-8; such lines are
            then read as Windows-1252. None: they are an error.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(_decoded(path, cast(BinaryIO, stream), limit, on_other), 1):
                if "\0" in line:
                    raise TurnsError(f"{path}, line {number}: expected text, got a zero byte")
                yield line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TurnsError(f"{path}: expected gzip data, got: {error}") from error
    except OSError as error:
        raise TurnsError(f"{path}: expected a readable file, got: {error.strerror or error}") from error


def _decoded(
    path: Path, stream: BinaryIO, limit: int | None, on_other: Callable[[int, int], None] | None
) -> Iterator[str]:
    """Decode UTF-8 line by line, and UTF-16, whose line ends cannot be found in bytes, at once."""
    line, offset = stream.readline(MAX_LINE_BYTES + 1), 0
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = line + stream.read(MAX_FILE_BYTES)
        if len(data) > MAX_FILE_BYTES:
            raise TurnsError(f"{path}: expected at most {MAX_FILE_BYTES >> 20} MiB of UTF-16, got more")
        try:
            yield from io.StringIO(data.decode("utf-16"))
        except UnicodeDecodeError as error:
            good = data[: error.start].decode("utf-16")
            yield from io.StringIO(good[: good.rfind("\n") + 1])
            raise TurnsError(f"{path}: expected UTF-16, got {error.reason} at byte {error.start}") from error
        return
    if line.startswith(codecs.BOM_UTF8):
        line, offset = line[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
    told = False
    for number in itertools.count(1):
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise TurnsError(f"{path}, line {number}: expected at most {MAX_LINE_BYTES >> 20} MiB, got more")
        if limit is not None and offset + len(line) > limit:
            raise TurnsError(f"{path}: expected at most {limit >> 20} MiB, got more")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            if on_other is not None:
                if not told:
                    on_other(number, line[error.start])
                told = True
                yield line.decode("cp1252", errors="replace")
                offset, line = offset + len(line), stream.readline(MAX_LINE_BYTES + 1)
                continue
            raise TurnsError(
                f"{path}, line {number}: expected UTF-8 (or UTF-16 with a byte order mark), "
                f"got byte 0x{line[error.start]:02x} at byte {offset + error.start}"
            ) from error
        offset += len(line)
        line = stream.readline(MAX_LINE_BYTES + 1)


def parse_json(path: Path, text: str, line: int = 1) -> object:
    """Parse `text`, which begins at `line` of the file."""
    try:
        return cast(object, json.loads(text))
    except json.JSONDecodeError as error:
        at = f"{path}, line {line + error.lineno - 1}, column {error.colno}"
        raise TurnsError(f"{at}: expected JSON, got: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets 10,000 deep
        raise TurnsError(f"{path}, line {line}: expected JSON, got: {error}") from error


def read_rows(
    path: Path, lines: Iterator[str], known: Sequence[str], wanted: Sequence[Sequence[str]]
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the rows of a CSV file, each with its place in the file for messages.

    Args:
        path: for messages.
        lines: lines with their line ends, from `read_lines`; separators are commas, semicolons or tabs.
        known: all allowed columns.
        wanted: groups of columns; the file needs at least one column of each group.
    """
    blank = 0
    for first in lines:
        if first.strip():
            break
        blank += 1
    else:
        return
    reader = csv.reader(itertools.chain([first], lines), delimiter=max(",;\t", key=first.count), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            at = f"{path}, line {blank + reader.line_num}"
            if not header:
                header = [cell.strip().lower() for cell in cells]
                _check_header(at, header, known, wanted)
            elif any(cell.strip() for cell in cells):
                if len(cells) != len(header):
                    raise TurnsError(f"{at}: expected {len(header)} cells, got {len(cells)}")
                yield at, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise TurnsError(f"{path}, line {blank + reader.line_num}: expected CSV, got: {error}") from error


def _check_header(
    at: str, header: Sequence[str], known: Sequence[str], wanted: Sequence[Sequence[str]]
) -> None:
    for name in header:
        if name not in known:
            raise TurnsError(f"{at}: expected columns among {', '.join(known)}, got {short(name)}")
        if header.count(name) > 1:
            raise TurnsError(f"{at}: expected each column once, got {name} {header.count(name)} times")
    for names in wanted:
        if not set(names) & set(header):
            raise TurnsError(f"{at}: expected a column {' or '.join(names)}, got {', '.join(header)[:60]}")


def short(value: object) -> str:
    """Shorten a value for a one-line message."""
    if isinstance(value, Mapping):
        return f"an object with {', '.join(map(repr, value)) or 'nothing'}"[:80]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
