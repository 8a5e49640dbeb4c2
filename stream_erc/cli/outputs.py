"""Places that are written: looked at before the long work starts, so that a bad one is known at once."""

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
    """Refuse what cannot be written, and what would overwrite an input or another output.

    Missing folders on the way are made; nothing that exists is touched.

    Args:
        outputs: (option, path), None where the option was not given.
        inputs: the files that are read.

    Raises:
        OutputError: the first place that cannot be used.
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
    """Messages as lines of JSON, each on the disk before the next is made.

    An older file is kept until the first message comes.

    Args:
        path: where to; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None

    def write(self, message: Message) -> None:
        """Append one message.

        Raises:
            OutputError: the place cannot be written, or is full.
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
            except OSError:  # what could not be flushed was reported by `write`
                pass


def _refused(option: str, path: Path, error: OSError) -> OutputError:
    return OutputError(f"{option} {path}: {EXPECTED}, got: {error.strerror or error}")


def _same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one regular file, by whatever names."""
    try:
        found = path.stat()
        return stat.S_ISREG(found.st_mode) and os.path.samestat(found, other.stat())
    except (OSError, ValueError):
        return os.path.abspath(path) == os.path.abspath(other)


def _probe(path: Path) -> None:
    """OSError where `path` cannot be written; pipes and devices are believed without opening them."""
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
