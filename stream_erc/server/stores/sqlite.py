"""Stores in a SQLite file, for one machine, and in memory, for one process."""

# ruff: noqa: D102 (SessionStore documents the methods)

import logging
import queue
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from stream_erc.exceptions import SessionGone, StoreError
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.stores.base import (
    SessionStore,
    StoredSession,
    check_owner,
    check_save,
    next_owner,
)
from stream_erc.server.stores.sqlite_file import SqliteFile, connect

log = logging.getLogger(__name__)

APPLICATION_ID = 0x53455243  # "SERC"; marks a SQLite file as ours
SCHEMA_VERSION = 1
SCHEMA = (
    """CREATE TABLE sessions (
        session_id TEXT NOT NULL PRIMARY KEY,
        token_hash BLOB NOT NULL UNIQUE,
        owner INTEGER NOT NULL,
        last_event_id INTEGER NOT NULL,
        saved_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        closed INTEGER NOT NULL,
        header BLOB NOT NULL -- the last column: the others are read without it
    ) STRICT""",
    "CREATE INDEX sessions_by_expiry ON sessions (expires_at)",
    """CREATE TABLE steps (
        session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
        turn INTEGER NOT NULL,
        blob BLOB NOT NULL,
        PRIMARY KEY (session_id, turn)
    ) STRICT""",
    """CREATE TABLE events (
        session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
        event_id INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (session_id, event_id)
    ) STRICT, WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

SESSION_COLUMNS = "session_id, owner, header, last_event_id, saved_at, closed"
"""The columns of a `StoredSession`; its steps are in a table of their own."""


class SqliteStore(SessionStore):
    """A store in a SQLite file, for the servers of one machine.

    A save that has returned survives the server's death at any moment, even by SIGKILL: it is in the
    write-ahead log, and the kernel keeps what a process has written to a file. A power cut or a kernel crash
    can lose the last saves, since the log is flushed to disk only every thousand pages
    (``synchronous = NORMAL``). Each session is then exactly as in an earlier save, never half of one.

    Nothing is stored in a file that nobody can open again. If the file is deleted while the store is open,
    the next call makes it anew with all that it held. If another one is put in its place, that one is opened:
    the store has gone back in time.

    Args:
        path: the file. A missing one is made, readable by its owner alone, with its folders. It must not be
            on a network file system: SQLite's log needs shared memory.

    Raises:
        StoreError: the file cannot be opened, is damaged, is no store, or is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._open(SqliteFile(path.absolute(), partial(_prepare, str(path))))

    def _open(self, file: SqliteFile | None) -> None:
        """Open the file, or a store in memory if it is None."""
        self._file, self._name = file, "memory" if file is None else str(file.path)
        self._log_holds_deleted = file is not None  # until it was emptied for the first time
        # The only connection. The thread that takes it out of the queue has it alone: SQLite writes one
        # transaction at a time anyway, and a queue wakes the next thread, while a busy SQLite polls.
        self._idle: queue.SimpleQueue[sqlite3.Connection | None] = queue.SimpleQueue()
        with self._store_errors():
            connection = connect(":memory:", partial(_prepare, "memory")) if file is None else file.open()
        self._idle.put(connection)

    def create(
        self, session_id: str, token_hash: bytes, header: bytes, *, now: float, expires_at: float
    ) -> int:
        owner = next_owner()
        with self._transaction() as run:
            existing = run(
                "SELECT 1 FROM sessions WHERE session_id = ? OR token_hash = ?", session_id, token_hash
            )
            if existing.fetchone():
                raise StoreError(f"session {session_id}: expected a new one, got one that exists already")
            run(
                "INSERT INTO sessions (session_id, token_hash, owner, last_event_id, saved_at, expires_at,"
                " closed, header) VALUES (?, ?, ?, 0, ?, ?, 0, ?)",
                *(session_id, token_hash, owner, now, expires_at, header),
            )
        return owner

    def read(self, token_hash: bytes, *, now: float) -> StoredSession | None:
        with self._transaction() as run:
            return _stored_session(
                run,
                run(
                    f"SELECT {SESSION_COLUMNS} FROM sessions WHERE token_hash = ? AND expires_at > ?",
                    token_hash,
                    now,
                ),
            )

    def claim(self, token_hash: bytes, *, now: float, expires_at: float) -> StoredSession | None:
        with self._transaction() as run:
            living = "token_hash = ? AND expires_at > ?"
            row = run(f"SELECT owner FROM sessions WHERE {living}", token_hash, now).fetchone()
            if row is None:
                return None
            claimed = run(
                f"UPDATE sessions SET owner = ?, expires_at = ? WHERE {living} RETURNING {SESSION_COLUMNS}",
                *(next_owner(row[0]), expires_at, token_hash, now),
            )
            return _stored_session(run, claimed)

    def save(
        self, session_id: str, owner: int, save_point: SavePoint, *, now: float, expires_at: float
    ) -> None:
        with self._transaction() as run:
            # 1. Fence: only the latest owner may write. The transaction lets no claim in until it commits.
            last_event_id = _fence(run, session_id, owner)
            # 2. Check the whole save point before anything is written.
            stored = {turn for (turn,) in run("SELECT turn FROM steps WHERE session_id = ?", session_id)}
            check_save(session_id, last_event_id, stored, save_point)
            # 3. Write; the transaction makes it all or nothing.
            for turn in stored.difference(save_point.steps_now):
                run("DELETE FROM steps WHERE session_id = ? AND turn = ?", session_id, turn)
            for turn in save_point.steps.keys() & set(save_point.steps_now):
                run("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", session_id, turn, save_point.steps[turn])
            for event_id, line in save_point.events:
                run("INSERT INTO events VALUES (?, ?, ?)", session_id, event_id, line)
            run(
                "UPDATE sessions SET header = ?, last_event_id = ?, saved_at = ?, expires_at = ?, closed = ?"
                " WHERE session_id = ?",
                *(save_point.header, last_event_id + len(save_point.events), now, expires_at),
                *(int(save_point.closed), session_id),
            )

    def touch(self, session_id: str, owner: int, *, expires_at: float) -> None:
        with self._transaction() as run:
            _fence(run, session_id, owner)
            run("UPDATE sessions SET expires_at = ? WHERE session_id = ?", expires_at, session_id)

    def events(self, session_id: str, after: int, limit: int = 2**31) -> list[tuple[int, str]]:
        with self._lend() as connection:
            return connection.execute(
                "SELECT event_id, json FROM events WHERE session_id = ? AND event_id > ?"
                " ORDER BY event_id LIMIT ?",
                (session_id, after, limit),
            ).fetchall()

    def forget(self, session_id: str, owner: int) -> None:
        with self._transaction() as run:
            try:
                _fence(run, session_id, owner)
            except SessionGone:
                return
            run("DELETE FROM sessions WHERE session_id = ?", session_id)
            self._log_holds_deleted = True

    def sweep(self, now: float) -> int:
        # Delete one session at a time, with a pause as long after each: other processes can save meanwhile.
        swept, began = 0, time.monotonic()
        while self._sweep_one(now):
            swept += 1
            time.sleep(time.monotonic() - began)
            began = time.monotonic()
        self._log_holds_deleted |= swept > 0
        if self._log_holds_deleted:
            self._empty_log()
        return swept

    def clock_offset(self, boot: str, offset: float) -> float:
        if not boot:
            return offset
        with self._transaction() as run:
            run("DELETE FROM clock WHERE boot != ?", boot)
            run("INSERT OR IGNORE INTO clock VALUES (?, ?)", boot, offset)
            (known,) = run("SELECT seconds FROM clock").fetchone()
        return float(known)

    def ready(self) -> None:
        with self._transaction() as run:
            run("SELECT COUNT(*) FROM sessions WHERE expires_at > 0")
            run(f"PRAGMA application_id = {APPLICATION_ID}")  # a write, which fails on a full disk

    def close(self) -> None:
        connection = self._idle.get()
        try:
            if connection is not None:
                with self._store_errors():
                    connection.close() if self._file is None else self._file.close(connection)
        finally:
            self._idle.put(None)

    def _empty_log(self) -> None:
        """Write the log into the file and empty it, so that it holds no deleted session.

        It is left for later while another process reads it.
        """
        with self._lend() as connection:
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._log_holds_deleted = bool(busy)

    def _sweep_one(self, now: float) -> bool:
        """Delete one expired session; return whether there was one."""
        with self._transaction() as run:
            expired = "SELECT rowid FROM sessions WHERE expires_at <= ? LIMIT 1"
            return run(f"DELETE FROM sessions WHERE rowid = ({expired})", now).rowcount > 0

    @contextmanager
    def _lend(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one thread at a time."""
        connection = self._idle.get()
        try:
            if connection is None:
                raise StoreError(f"{self._name}: expected an open store, got a closed one")
            with self._store_errors():
                if self._file is not None and self._file.moved:
                    log.error("%s: expected the file that was opened, got none or another", self._name)
                    connection = self._file.follow(connection)
                yield connection
        finally:
            self._idle.put(connection)

    @contextmanager
    def _transaction(self) -> Iterator["_Run"]:
        """Run a transaction, during which no other process writes; an exception undoes it."""
        with self._lend() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield lambda sql, *values: connection.execute(sql, values)
                connection.execute("COMMIT")
                if self._file is not None and self._file.moved:
                    raise StoreError(
                        f"{self._name}: expected the open file in its place, got none or another"
                    )
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Turn errors of SQLite and the file system into a StoreError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"{self._name}: expected a store of sessions that can be written, got: {error}"
            ) from error


class _Run(Protocol):
    """A function that runs one statement."""

    def __call__(self, sql: str, *values: str | bytes | float) -> sqlite3.Cursor: ...


class MemoryStore(SqliteStore):
    """A store in memory: sessions survive a lost connection, but not the server."""

    def __init__(self) -> None:
        self._open(None)


def _stored_session(run: _Run, found: sqlite3.Cursor) -> StoredSession | None:
    """Return the session of a row of `SESSION_COLUMNS`, None if there is no row."""
    row = found.fetchone()
    if row is None:
        return None
    session_id, owner, header, last_event_id, saved_at, closed = row
    steps = run("SELECT turn, blob FROM steps WHERE session_id = ? ORDER BY turn", session_id)
    blobs = dict(steps.fetchall())
    return StoredSession(session_id, owner, header, blobs, last_event_id, saved_at, bool(closed))


def _fence(run: _Run, session_id: str, owner: int) -> int:
    """Raise if `owner` is not the session's owner; return the id of its last event."""
    row = run("SELECT owner, last_event_id FROM sessions WHERE session_id = ?", session_id).fetchone()
    current, last_event_id = row or (None, 0)
    check_owner(session_id, current, owner)
    return int(last_event_id)


def _prepare(name: str, connection: sqlite3.Connection) -> None:
    """Set up an empty file, check any other one, and set up the connection."""
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if (version, application, tables) == (0, 0, 0):
        for statement in SCHEMA:
            connection.execute(statement)
    elif application != APPLICATION_ID:
        raise StoreError(f"{name}: expected a store of sessions, got another program's SQLite file")
    elif version != SCHEMA_VERSION:
        raise StoreError(
            f"{name}: expected a store of version {SCHEMA_VERSION}, got {version}, of a newer stream_erc"
        )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS clock (boot TEXT NOT NULL PRIMARY KEY, seconds REAL) STRICT"
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # SqliteStore says what that can lose
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # overwrite deleted sessions in the file
