"""A SQLite file that others may delete or replace while it is open.

SQLite would go on writing to a file that nobody can open again, and takes a log for the file's whose name it
has. So whoever opens, makes or closes the file here is alone in its folder meanwhile.
"""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from stream_erc.exceptions import StoreError
from stream_erc.server.stores.base import BUSY_TIMEOUT_S
from stream_erc.server.stores.folder_lock import locked

OPENINGS = 10
"""Number of attempts to open a file that is deleted or replaced meanwhile."""

Prepare: TypeAlias = Callable[[sqlite3.Connection], None]
"""Sets up a connection, and the file if it is empty."""


class SqliteFile:
    """The file of a path, whichever it is at the time.

    Args:
        path: the path, absolute. A missing file is made, readable by its owner alone, with its folders.
        prepare: sets up connections to it.
    """

    def __init__(self, path: Path, prepare: Prepare) -> None:
        self.path, self._prepare = path, prepare
        self._file_id: tuple[int, int] | None = None
        self._log_id: tuple[int, int] | None = None

    @property
    def _real(self) -> Path:
        """The path of the file itself, if there is a link at `path`."""
        return Path(os.path.realpath(self.path))

    @property
    def moved(self) -> bool:
        """Whether the file that was opened last was deleted or replaced."""
        return self._file_id != _file_id(self.path)

    def open(self) -> sqlite3.Connection:
        """Connect to the file, made anew if there is none.

        Raises:
            sqlite3.Error, OSError: it cannot be opened.
            StoreError: what `prepare` raises; or the file is deleted again and again.
        """
        self._real.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._real.parent):
            return self._connect(None)

    def follow(self, old: sqlite3.Connection) -> sqlite3.Connection:
        """Connect to the file that is in place of the one that was opened; make a deleted one anew.

        Args:
            old: the connection to the opened one, of which a new one becomes a copy. It is closed.

        Raises:
            sqlite3.Error, OSError, StoreError: see `open`.
        """
        self._real.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._real.parent):
            new = self._connect(old)
            old.close()  # SQLite deletes no log with it: it sees that its file is not the one in that place
        return new

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection."""
        folder = self._real.parent
        with locked(folder) if folder.exists() else contextlib.nullcontext():
            connection.close()

    def _connect(self, old: sqlite3.Connection | None) -> sqlite3.Connection:
        """Connect to the file that is there now, and remember which one it is; delete another one's log."""
        log, shared = (Path(f"{self._real}{ending}") for ending in ("-wal", "-shm"))
        for _ in range(OPENINGS):
            missing = not self.path.exists()
            if missing or (old is not None and _file_id(log) == self._log_id):
                log.unlink(missing_ok=True)
                shared.unlink(missing_ok=True)
            if missing:
                self._make(old)
            found = _file_id(self.path)
            try:
                connection = connect(f"{self.path.as_uri()}?mode=rw", self._prepare)
            except sqlite3.Error:
                if found is not None and _file_id(self.path) == found:
                    raise
                continue  # it was deleted or replaced meanwhile
            if found is not None and _file_id(self.path) == found:
                self._file_id, self._log_id = found, _file_id(log)
                return connection
            connection.close()
        raise StoreError(f"{self.path}: expected a file that stays in its place, got none")

    def _make(self, content: sqlite3.Connection | None) -> None:
        """Make the file, a copy of what `content` is connected to, or empty; its log gets the same mode.

        It is set up under another name, so that several processes that start at once all find it ready.
        """
        descriptor, name = tempfile.mkstemp(prefix=f"{self._real.name}.", dir=self._real.parent)
        os.close(descriptor)
        try:
            if content is not None:
                with contextlib.closing(sqlite3.connect(name)) as copy:
                    content.backup(copy)
            connect(f"{Path(name).as_uri()}?mode=rw", self._prepare).close()
            os.link(name, self._real)
        except FileExistsError:
            pass  # another process was faster
        finally:
            os.unlink(name)


def connect(uri: str, prepare: Prepare) -> sqlite3.Connection:
    """Connect to an existing file (``file:...?mode=rw``) or to a new one in memory (``:memory:``)."""
    connection = sqlite3.connect(
        uri, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _file_id(path: Path) -> tuple[int, int] | None:
    """Return a file's device and inode; None if it does not exist."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
