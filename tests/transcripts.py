"""Files of turns as tests write them, and what is read from them."""

from pathlib import Path

from stream_erc.audio import SAMPLE_RATE
from stream_erc.sources.turn_files import read_turns

Row = tuple[float, float, str | None, str | None]
"""Start and end in seconds, speaker, text."""


def rows_of(path: Path, recording: str | None = None) -> list[Row]:
    """The turns of a file, with times to a hundredth of a second."""
    found = []
    for turn in read_turns(path, recording).turns:
        assert turn.start is not None and turn.end is not None
        start, end = (round(at / SAMPLE_RATE, 2) for at in (turn.start, turn.end))
        found.append((start, end, turn.speaker, turn.text))
    return found


def read(folder: Path, name: str, content: str | bytes) -> tuple[list[Row], list[str]]:
    """The turns of a file with this content, and its warnings without the file's name."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    warnings = [warning.removeprefix(f"{path}").lstrip(", :") for warning in read_turns(path).warnings]
    return rows_of(path), warnings
