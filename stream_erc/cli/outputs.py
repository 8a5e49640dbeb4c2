"""Output files: checked before the long work starts, so that a bad path fails at once."""

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from stream_erc.exceptions import OutputError
from stream_erc.protocol.encoding import Message, to_json

EXPECTED = "expected a place that can be written"


def check_outputs(outputs: Iterable[tuple[str, Path | None]], inputs: Iterable[Path | None]) -> None:
    """Refuse outputs that cannot be written, or would overwrite an input or another output.

    Missing parent folders are created; nothing that exists is touched.

    Args:
        outputs: (option, path); None if the option was not given.
        inputs: the files that are read.

    Raises:
        OutputError: naming the first unusable path.
    """
    taken = [(path, "which is read") for path in inputs if path is not None]
    for option, path in outputs:
        if path is None:
            continue
        for other, why in taken:
            if _same(path, other):
                raise OutputError(f"{option} {path}: expected a file of its own, got {other}, {why}")
        taken.append((path, f"which {option} writes"))
        try:
            _probe(path)
        except OSError as error:
            raise _refused(option, path, error) from error


class EventsFile:
    """A file of messages as JSON lines, flushed after each message.

    An existing file is kept until the first message.

    Args:
        path: the file; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None

    def write(self, message: Message) -> None:
        """Append one message.

        Raises:
            OutputError: the file cannot be written, or the disk is full.
        """
        if self._path is None:
            return
        try:
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8", newline="\n")
            self._file.write(to_json(message) + "\n")
            self._file.flush()
        except OSError as error:
            raise _refused("--out", self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:  # `write` has reported it
                pass


def _refused(option: str, path: Path, error: OSError) -> OutputError:
    return OutputError(f"{option} {path}: {EXPECTED}, got: {error.strerror or error}")


def _same(path: Path, other: Path) -> bool:
    """Return whether two paths are the same regular file."""
    try:
        found = path.stat()
        return stat.S_ISREG(found.st_mode) and os.path.samestat(found, other.stat())
    except (OSError, ValueError):
        return os.path.abspath(path) == os.path.abspath(other)


def _probe(path: Path) -> None:
    """Raise OSError if `path` cannot be written; pipes and devices are not opened."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except ValueError as error:  # a null byte in the name
        raise OSError(str(error)) from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(None, "a folder")
    if not os.access(path, os.W_OK):
        raise PermissionError(None, "a file that may not be written")
