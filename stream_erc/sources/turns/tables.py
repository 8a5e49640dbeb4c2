"""Tables of turns: CSV and its kin, with any delimiter and the columns that people and programs give them."""

import csv
import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from stream_erc.exceptions import TurnsError
from stream_erc.sources.text_files import short
from stream_erc.sources.turns.columns import Columns, columns_of, entry_of, is_own
from stream_erc.sources.turns.entries import Fault, Found, clean, seconds_of

DELIMITERS = ",;\t|"
MAX_ROW_LINES = 100
"""Lines of a cell with line breaks, and lines before the header."""

_QUOTED = re.compile(r'"[^"]*"')
_EXPORTED = re.compile(r"(dialogue[,;\t|])?turn([,;\t|])(?:start_ms|speaker)\2")
"""The beginning of a table that this program exported; its labels may have other delimiters in them."""


def read_table(lines: Iterable[str]) -> Iterator[Found]:
    """Read the rows of a table lazily.

    Args:
        lines: lines with their line ends.

    Raises:
        TurnsError: no row has the columns of turns; the message is without the file's name.
    """
    rows = _rows(lines)
    columns, first = _header(rows)
    for number, cells in itertools.chain(first, rows):
        at = f"line {number}"
        if isinstance(cells, Fault):
            yield cells
            continue
        if fitted := _fitted(cells, columns):
            yield entry_of(at, dict(zip(columns.names, fitted, strict=False)), columns)
        else:
            yield Fault(at, f"expected {len(columns.names)} cells, got {len(cells)}")


Row = tuple[int, list[str] | Fault]


def _header(rows: Iterator[Row]) -> tuple[Columns, list[Row]]:
    """Find the header among the first rows; a table without one has times, a speaker and a text.

    Returns:
        The columns, and the rows that were read and are no header.
    """
    seen: list[Row] = []
    for number, cells in itertools.islice(rows, MAX_ROW_LINES):
        if isinstance(cells, Fault):
            continue
        exact = is_own([name.strip() for name in cells])
        names = [clean(name, exact=exact) or f"column {k}" for k, name in enumerate(cells, 1)]
        columns = columns_of(_distinct(names))
        if columns.useful:
            return columns, []
        if not seen and 3 <= len(cells) <= 4 and all(seconds_of(cell) is not None for cell in cells[:2]):
            names = ["start", "end", "speaker", "text"] if len(cells) == 4 else ["start", "end", "text"]
            return columns_of(names), [(number, cells)]
        seen.append((number, cells))
    if not seen:
        return columns_of(()), []
    number, cells = seen[0]
    got = short(", ".join(cell.strip() for cell in cells) if isinstance(cells, list) else cells)
    raise TurnsError(
        f"line {number}: expected a header with a text (text, utterance, transcript ...), "
        f"or with a speaker and times (start, end), got {got}"
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names of columns, numbered where they come again."""
    return [
        f"{name} ({n})" if (n := names[: k + 1].count(name)) > 1 else name for k, name in enumerate(names)
    ]


def _fitted(cells: list[str], columns: Columns) -> list[str] | None:
    """Return as many cells as there are columns, None if that takes more than leaving out empty ones.

    A text in the last column may have commas without quotation marks around it.
    """
    wanted = len(columns.names)
    while len(cells) > wanted and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) > wanted and columns.roles.get("text") == columns.names[-1]:
        return [*cells[: wanted - 1], ",".join(cells[wanted - 1 :])]
    needed = [columns.names.index(name) for name in columns.roles.values()]
    if len(cells) < wanted and all(k < len(cells) for k in needed):
        return cells + [""] * (wanted - len(cells))
    return cells if len(cells) == wanted else None


# --- rows -----------------------------------------------------------------------------------------


def _rows(lines: Iterable[str]) -> Iterator[Row]:
    """Yield the cells of each row that is not blank, with its first line's number."""
    source = _Lines(lines)
    while (first := source.take()) is not None and not first.strip():
        pass
    if first is None:
        return
    if named := re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE):  # Excel's own first line
        delimiter = named[1]
    elif exported := _EXPORTED.match(first):
        delimiter = exported[2]
        source.give_back([first])
    else:
        delimiter = max(DELIMITERS, key=_QUOTED.sub("", first).count)
        source.give_back([first])
    while (line := source.take()) is not None:
        number, record, inside = source.number, [line], _ends_inside(line, delimiter)
        while inside and len(record) < MAX_ROW_LINES and (further := source.take()) is not None:
            record.append(further)
            inside = _ends_inside(further, delimiter, inside=True)
        if inside:
            yield (
                number,
                Fault(f"line {number}", "expected a closing quotation mark, got none; read as it is"),
            )
            source.give_back(record[1:])
            del record[1:]
        try:
            cells = next(csv.reader(record, delimiter=delimiter), [])
        except csv.Error as error:
            yield number, Fault(f"line {number}", f"expected cells, got: {error}")
            continue
        if any(cell.strip() for cell in cells):
            yield number, cells


class _Lines:
    """Lines of a table, of which some may be given back; `number` is that of the last one taken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._ahead: deque[str] = deque()
        self.number = 0

    def take(self) -> str | None:
        """Return the next line, None at the end."""
        line = self._ahead.popleft() if self._ahead else next(self._lines, None)
        self.number += line is not None
        return line

    def give_back(self, lines: Sequence[str]) -> None:
        """Put back the last lines taken."""
        self._ahead.extendleft(reversed(lines))
        self.number -= len(lines)


def _ends_inside(line: str, delimiter: str, *, inside: bool = False) -> bool:
    """Return whether a line ends inside a quoted cell; a mark within a cell is a plain character."""
    if '"' not in line:
        return inside
    before = delimiter
    for char in line:
        if char == '"' and (inside or before == delimiter):
            inside = not inside
            before = delimiter if inside is False else before  # a doubled mark opens it again
        else:
            before = char
    return inside


def is_table(line: str) -> bool:
    """Return whether a line is the header of a table of turns, or a row of one without a header."""
    for delimiter in DELIMITERS:
        try:
            cells = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:  # a lone carriage return in a line
            continue
        if len(cells) > 1 and columns_of(cell.strip() for cell in cells).useful:
            return True
    cells = line.rstrip("\n").split("\t")
    return 3 <= len(cells) <= 4 and all(seconds_of(cell) is not None for cell in cells[:2])
