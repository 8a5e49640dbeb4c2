"""The folder of results: one file for each conversation, whole or not at all, and what it was made from."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_erc.exceptions import OutputError

KEPT = ".stream-erc"
"""Folder, in a folder of results, of the lock, of unfinished files, and of what each result was made from."""


class Results:
    """The results of a bulk replay under a folder.

    Args:
        folder: the folder.
        ending: of every result.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder, self._ending = folder, ending

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone; what a killed run left unfinished is removed.

        Raises:
            OutputError: the folder cannot be written, or another run writes to it.
        """
        from filelock import FileLock, Timeout

        try:
            (self.folder / KEPT).mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / KEPT / "lock", timeout=0)
            with lock:
                shutil.rmtree(self._unfinished, ignore_errors=True)
                self._unfinished.mkdir()
                yield
                shutil.rmtree(self._unfinished, ignore_errors=True)
        except Timeout as error:
            raise OutputError(
                f"--out {self.folder}: expected a folder that no other run writes to, got one in use"
            ) from error
        except OSError as error:
            raise self.refused(error) from error

    def is_done(self, name: str, key: str) -> bool:
        """Return whether a conversation's result is there, unchanged, and made from `key`."""
        try:
            made = json.loads(self._manifest(name).read_bytes())
            return bool(made == {"key": key, "result": digest_of(self.path(name))})
        except (OSError, ValueError):
            return False

    def write(self, name: str, fill: Callable[[Path], str | None]) -> None:
        """Write a result.

        Args:
            name: of the conversation.
            fill: writes a file; returns what it was made from, "" if it is to be made again, None if there is
                nothing to keep.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        descriptor, partial = tempfile.mkstemp(suffix=self._ending, dir=self._unfinished)
        os.close(descriptor)
        try:
            key = fill(Path(partial))
            if key is None:
                self._manifest(name).unlink(missing_ok=True)
                self.path(name).unlink(missing_ok=True)
                return
            os.chmod(partial, 0o644)
            result = digest_of(Path(partial))
            for path in (self.path(name), self._manifest(name)):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._manifest(name).unlink(missing_ok=True)
            os.replace(partial, self.path(name))
            if key:
                with open(partial, "w", encoding="utf-8") as file:
                    json.dump({"key": key, "result": result}, file)
                os.replace(partial, self._manifest(name))
        finally:
            Path(partial).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Return the file of a conversation's result."""
        return self.folder / (name + self._ending)

    def refused(self, error: OSError) -> OutputError:
        """Return the error of a folder that cannot be written."""
        reason = error.strerror or str(error)
        return OutputError(f"--out {self.folder}: expected a place that can be written, got: {reason}")

    @property
    def _unfinished(self) -> Path:
        return self.folder / KEPT / "unfinished"

    def _manifest(self, name: str) -> Path:
        return self.folder / KEPT / "done" / (name + self._ending + ".json")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder with their names.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_of_values((str(file.relative_to(path)), digest_of(file)) for file in files)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_values(values: Iterable[Any]) -> str:
    """Return the SHA-256 of values, by their ``repr``."""
    return hashlib.sha256("\n".join(map(repr, values)).encode(errors="surrogateescape")).hexdigest()
