"""Tables of turns: CSV and its kin, with any delimiter and the columns that people and programs give them."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from stream_erc.exceptions import TurnsError
from stream_erc.sources.text_files import short
from stream_erc.sources.turns.columns import Columns, columns_of, entry_of
from stream_erc.sources.turns.entries import Fault, Found, seconds_of

DELIMITERS = ",;\t|"
MAX_ROW_LINES = 100
"""Lines of a cell with line breaks, and lines before the header."""

_QUOTED = re.compile(r'"[^"]*"')


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
        names = [name.strip() or f"column {k}" for k, name in enumerate(cells, 1)]
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
    delimiter = ""
    while (group := source.row()) is not None:
        number, record, closed = group
        if not delimiter:
            if not record[0].strip():
                continue
            if named := re.fullmatch(r"sep=(.)\s*", record[0], re.IGNORECASE):  # Excel's own first line
                delimiter = named[1]
                continue
            bare = _QUOTED.sub("", record[0])
            delimiter = max(DELIMITERS, key=bare.count)
        if not closed:
            yield (
                number,
                Fault(f"line {number}", "expected a closing quotation mark, got none: read as it is"),
            )
        try:
            for cells in csv.reader(record, delimiter=delimiter):
                if any(cell.strip() for cell in cells):
                    yield number, cells
        except csv.Error as error:
            yield number, Fault(f"line {number}", f"expected cells, got: {error}")


class _Lines:
    """Lines of a table, taken row by row: a quoted cell may have several."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._ahead: list[str] = []
        self._number = 0

    def row(self) -> tuple[int, list[str], bool] | None:
        """Return the number of the next row's first line, its lines, and whether its quotes are closed."""
        first = self._next()
        if first is None:
            return None
        self._number += 1
        number, record, odd = self._number, [first], first.count('"') % 2
        while odd and len(record) < MAX_ROW_LINES and (line := self._next()) is not None:
            record.append(line)
            odd ^= line.count('"') % 2
        if odd:
            self._ahead = record[1:] + self._ahead
            return number, [first], not re.search(r'(?:^|[,;\t|])\s*"[^"]*$', first)
        self._number += len(record) - 1
        return number, record, True

    def _next(self) -> str | None:
        return self._ahead.pop(0) if self._ahead else next(self._lines, None)


def is_table(line: str) -> bool:
    """Return whether a line is the header of a table of turns, or a row of one without a header."""
    for delimiter in DELIMITERS:
        cells = next(csv.reader([line], delimiter=delimiter), [])
        if len(cells) > 1 and columns_of(cell.strip() for cell in cells).useful:
            return True
    cells = line.rstrip("\n").split("\t")
    return 3 <= len(cells) <= 4 and all(seconds_of(cell) is not None for cell in cells[:2])
