"""Export files: the formats by their endings, what they need, and writing them whole or not at all.

`FORMATS` is the one list. A file that exists is kept until the new one is complete.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from stream_erc.exceptions import OutputError
from stream_erc.exports import annotations, subtitles, tables, texts
from stream_erc.exports.conversations import Conversation, Message, final_turns, fold

Made = str | bytes | Iterable[str]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of exports.

    Attributes:
        write: makes the file's content from the conversations.
        timed: whether it needs one conversation, with times.
        words: whether a turn without words is left out.
        check: raises if a library is missing.
    """

    write: Callable[[Sequence[Conversation]], Made]
    timed: bool = False
    words: bool = False
    check: Callable[[], None] = lambda: None


def _of_one(write: Callable[[Conversation], Made], *, words: bool = False) -> Format:
    return Format(lambda conversations: write(conversations[0]), timed=True, words=words)


FORMATS = MappingProxyType(
    {
        ".srt": _of_one(subtitles.srt, words=True),
        ".vtt": _of_one(subtitles.vtt, words=True),
        ".csv": Format(tables.csv_table),
        ".tsv": Format(tables.tsv_table),
        ".txt": Format(texts.txt),
        ".md": Format(texts.markdown),
        ".rttm": _of_one(annotations.rttm),
        ".textgrid": _of_one(annotations.textgrid),
        ".eaf": _of_one(annotations.eaf),
        ".parquet": Format(tables.parquet, check=tables.check_parquet),
        ".json": Format(tables.json_file),
    }
)
"""Ending in lower case -> format."""


def check_format(path: Path, *, timed: bool) -> None:
    """Refuse a file that cannot be written of a conversation, before the conversation.

    Args:
        path: the file.
        timed: whether the conversation has times, as one with audio does.

    Raises:
        OutputError: an unknown ending, or a format that needs times.
        EngineUnavailable: a library is missing.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(FORMATS)
        raise OutputError(f"export {path}: expected {known}, got {path.suffix or 'no ending'}")
    found.check()
    if found.timed and not timed:
        raise OutputError(f"export {path}: expected turns with times in {path.suffix}, got text alone")


def write_export(messages: Iterable[Message], path: Path) -> int:
    """Write a conversation as its path's ending says.

    Args:
        messages: of one session or, in formats without times, of several; momentary ones are ignored.
        path: the file. It is replaced at once: a failure leaves an existing file unchanged.

    Returns:
        The number of turns that the format cannot hold: those without words in subtitles.

    Raises:
        OutputError: the file cannot be written, or not of these conversations.
        EngineUnavailable: a library is missing.
    """
    conversations = fold(messages)
    turns = [turn for conversation in conversations for turn in final_turns(conversation)]
    check_format(path, timed=all(turn.start_ms is not None for turn in turns))
    kind = FORMATS[path.suffix.lower()]
    if kind.timed and len(conversations) != 1:
        raise OutputError(f"export {path}: expected one conversation, got {len(conversations)}")
    made = kind.write(conversations)
    try:
        with replacing(path) as partial:
            if isinstance(made, bytes):
                partial.write_bytes(made)
            else:
                with partial.open("w", encoding="utf-8", errors="replace", newline="") as out:
                    out.writelines([made] if isinstance(made, str) else made)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"export {path}: expected a place that can be written, got: {reason}") from error
    return sum(not turn.line for turn in turns) if kind.words else 0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which replaces it at the end unless there was an error.

    A pipe or a device is written directly.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    special = path.exists() and not path.is_file() and not path.is_dir()
    partial = path if special else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if not special:
            os.replace(partial, target)
    finally:
        if not special:
            with suppress(OSError):  # already moved, or never created
                partial.unlink()
