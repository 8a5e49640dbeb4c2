"""Kinds of turns in a plain text file, told by its content."""

from collections.abc import Iterator, Sequence

from stream_erc.exceptions import TurnsError
from stream_erc.sources.turns.entries import Found
from stream_erc.sources.turns.line_files import (
    IEMOCAP,
    is_exported,
    lines_pattern,
    read_exported,
    read_iemocap,
    read_rttm,
    read_timed_lines,
)
from stream_erc.sources.turns.subtitles import is_time_line, read_cues
from stream_erc.sources.turns.tables import is_table, read_table


def read_text(lines: Sequence[str]) -> Iterator[Found]:
    """Read the turns of a plain text file: a transcript, subtitles, a table or RTTM, by its content.

    Raises:
        TurnsError: it is none of these; the message is without the file's name.
    """
    bare = [line.strip() for line in lines]
    first = next(line for line in bare if line)
    if is_exported(lines):
        yield from read_exported(lines)
    elif any(map(IEMOCAP.fullmatch, bare)):
        yield from read_iemocap(bare)
    elif first.startswith("WEBVTT") or any(map(is_time_line, bare)):
        yield from read_cues([line.rstrip("\r\n") for line in lines])
    elif first.split()[0] == "SPEAKER" and len(first.split()) > 7:
        yield from read_rttm(bare)
    elif is_table(first):
        yield from read_table(lines)
    elif pattern := lines_pattern(bare):
        yield from read_timed_lines(bare, pattern)
    else:
        raise TurnsError(
            "expected a transcript of IEMOCAP or Otter, lines that begin with a time, subtitles or a table, "
            f"got {first[:40]!r}"
        )
