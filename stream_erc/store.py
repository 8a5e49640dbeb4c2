"""Where sessions are kept, so that a client can resume: in memory, in a SQLite file, in Redis.

A store knows bytes and lines of JSON; what is in them is the matter of `stream_erc.snapshots`. A session is a
header, the blobs of its last turns (*steps*) and its events. It is found by the SHA-256 of its resume token;
the token itself is stored nowhere.

Two servers never write one session. Whoever creates or claims it gets an *owner* number, and every later
claim a higher one; with an older number nothing can be written any more (`Fenced`). A save is all or nothing.

Times are seconds since the epoch and come from the caller; nothing here looks at a clock, except Redis,
which drops what has expired by its own. `claim` and `sweep` take an expired session for gone; its owner can
still renew it with `save` or `touch` as long as it has not been dropped.

Every method may be called from any thread and raises `StoreError` where the store cannot be used.
"""

import os
import queue
import sqlite3
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stream_erc.exceptions import ConfigError, EngineUnavailable, Fenced, SessionGone, StoreError

BUSY_TIMEOUT_S = 10.0
"""How long another process's write in SQLite is waited for, and an answer of Redis."""

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True, slots=True)
class Saved:
    """A session as it was saved last.

    Attributes:
        session_id: its name on the wire.
        owner: the number of this claim; it fences whoever had the session before.
        header: what was saved as the header.
        steps: turn index -> blob, in order; the turns that the last save named.
        last_event_id: the last event's number, 0 where there is none.
        saved_at: when it was saved or created, seconds since the epoch.
        closed: whether it had ended.
    """

    session_id: str
    owner: int
    header: bytes
    steps: Mapping[int, bytes]
    last_event_id: int
    saved_at: float
    closed: bool


class SessionStore(Protocol):
    """Keeps sessions."""

    def create(
        self, session_id: str, token_hash: bytes, header: bytes, *, now: float, expires_at: float
    ) -> int:
        """Keep a new session, without steps and events.

        Args:
            session_id: nobody else's.
            token_hash: the SHA-256 of its resume token.
            header: opaque.
            now: seconds since the epoch.
            expires_at: from when on it is gone, unless it is saved, touched or claimed until then.

        Returns:
            The owner's number, 1.

        Raises:
            StoreError: also where the session or the token is there already.
        """

    def claim(self, token_hash: bytes, *, now: float, expires_at: float) -> Saved | None:
        """Take a session over: from now on nobody but the new owner can write it.

        Returns:
            The session with its new owner's number, None where it is unknown or expired.
        """

    def save(
        self,
        session_id: str,
        owner: int,
        *,
        header: bytes,
        steps: Mapping[int, bytes],
        steps_now: Collection[int],
        events: Sequence[tuple[int, str]],
        now: float,
        expires_at: float,
        closed: bool = False,
    ) -> None:
        """Save all or nothing.

        Args:
            session_id: which session.
            owner: the number that `create` or `claim` gave.
            header: replaces the header.
            steps: turn index -> blob, those that are new or changed.
            steps_now: the turns whose steps there are from now on; every other step is deleted.
            events: (event_id, JSON), new ones; the numbers go on from the last save, beginning with 1.
            now: seconds since the epoch.
            expires_at: as in `create`.
            closed: whether the session has ended.

        Raises:
            Fenced: somebody claimed the session since.
            SessionGone: there is no such session any more.
            StoreError: also for event numbers that leave out or repeat one, and for a turn in `steps_now` of
                which there is no blob.
        """

    def touch(self, session_id: str, owner: int, *, expires_at: float) -> None:
        """Let the session live until `expires_at`.

        Raises:
            Fenced: somebody claimed the session since.
            SessionGone: there is no such session any more.
        """

    def events(self, session_id: str, after: int) -> list[tuple[int, str]]:
        """The events with a number above `after`, in order: (event_id, JSON). None for an unknown session."""

    def forget(self, session_id: str, owner: int) -> None:
        """Delete the session; nothing happens where it is gone already.

        Raises:
            Fenced: somebody claimed the session since.
        """

    def sweep(self, now: float) -> int:
        """Delete what has expired; returns how many. 0 for a store that does so by itself."""

    def ready(self) -> None:
        """Raise a StoreError if sessions cannot be saved now."""

    def close(self) -> None:
        """Let go of the file or the connections; every later call but `close` raises a StoreError."""


def open_store(spec: str) -> SessionStore:
    """The store that a command line names.

    Args:
        spec: ``memory``, ``sqlite:PATH`` or a URL that begins with ``redis://``, ``rediss://`` (TLS) or
            ``unix://`` (a socket's path).

    Raises:
        ConfigError: none of these.
        EngineUnavailable: Redis is asked for and redis-py is not installed.
        StoreError: the store cannot be used.
    """
    if spec == "memory":
        return MemoryStore()
    if spec.startswith("sqlite:") and spec != "sqlite:":
        return SqliteStore(Path(spec.removeprefix("sqlite:")).expanduser())
    if spec.startswith(REDIS_SCHEMES):
        try:
            from stream_erc.store_redis import RedisStore
        except ModuleNotFoundError as error:
            raise EngineUnavailable(
                f"--store redis://: expected the package redis, got: {error}; pip install redis"
            ) from error
        return RedisStore(spec)
    raise ConfigError(f"--store: expected memory, sqlite:PATH or redis://HOST:PORT/NUMBER, got {spec!r}")


def check_owner(session_id: str, current: int | None, owner: int) -> None:
    """Refuse `owner` where another one has the session, or nobody (None)."""
    if current is None:
        raise SessionGone(f"session {session_id}: expected it in the store, got none: expired or forgotten")
    if current != owner:
        raise Fenced(f"session {session_id}: expected owner {current}, got {owner}: it was claimed since")


def check_save(
    session_id: str,
    last_event_id: int,
    events: Sequence[tuple[int, str]],
    turns: Collection[int],
    steps_now: Collection[int],
) -> None:
    """Refuse events that do not follow the last one, and steps (`steps_now`) that are not among `turns`."""
    for expected, (event_id, _) in enumerate(events, last_event_id + 1):
        if event_id != expected:
            raise StoreError(f"session {session_id}: expected event {expected} next, got {event_id}")
    if missing := sorted(set(steps_now).difference(turns)):
        raise StoreError(f"session {session_id}: expected a step of turn {missing[0]}, got none")


# --- SQLite ---------------------------------------------------------------------------------------

APPLICATION_ID = 0x53455243  # "SERC": tells our files from other SQLite files
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


class SqliteStore:
    """Sessions in a SQLite file, for the servers of one machine.

    A save that returned survives the server's death at any moment, SIGKILL included: it stands in the
    write-ahead log, and what a process has written to a file the kernel keeps. A power cut or a crash of the
    kernel can lose the last saves, since the log is flushed to the disk only every thousand pages
    (``synchronous = NORMAL``); the file then holds exactly an earlier save of each session, never half a one.

    Args:
        path: the file; it is made, readable by its owner alone, where there is none, and folders on the way.
            Not on a network file system: SQLite's log needs shared memory.

    Raises:
        StoreError: it cannot be opened, is damaged, is something else, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._open(path.absolute())

    def _open(self, path: Path | None) -> None:
        """Open the file, or a store in memory for None."""
        self._path, self._name = path, str(path or "memory")
        # The one connection. It waits in the queue, and who takes it out has it alone: SQLite writes one
        # transaction at a time anyway, and a queue wakes the next thread where a busy SQLite polls.
        self._idle: queue.SimpleQueue[sqlite3.Connection | None] = queue.SimpleQueue()
        with self._told():
            if path is not None and not path.exists():
                _make(path)
            connection = _connect(path)
        self._idle.put(connection)

    def create(
        self, session_id: str, token_hash: bytes, header: bytes, *, now: float, expires_at: float
    ) -> int:
        """See `SessionStore.create`."""
        with self._transaction() as run:
            there = run(
                "SELECT 1 FROM sessions WHERE session_id = ? OR token_hash = ?", session_id, token_hash
            )
            if there.fetchone():
                raise StoreError(f"session {session_id}: expected a new one, got one that is there already")
            run(
                "INSERT INTO sessions (session_id, token_hash, owner, last_event_id, saved_at, expires_at,"
                " closed, header) VALUES (?, ?, 1, 0, ?, ?, 0, ?)",
                *(session_id, token_hash, now, expires_at, header),
            )
        return 1

    def claim(self, token_hash: bytes, *, now: float, expires_at: float) -> Saved | None:
        """See `SessionStore.claim`."""
        with self._transaction() as run:
            row = run(
                "UPDATE sessions SET owner = owner + 1, expires_at = ?"
                " WHERE token_hash = ? AND expires_at > ?"
                " RETURNING session_id, owner, header, last_event_id, saved_at, closed",
                *(expires_at, token_hash, now),
            ).fetchone()
            if row is None:
                return None
            session_id, owner, header, last_event_id, saved_at, closed = row
            steps = run("SELECT turn, blob FROM steps WHERE session_id = ? ORDER BY turn", session_id)
            return Saved(
                session_id, owner, header, dict(steps.fetchall()), last_event_id, saved_at, bool(closed)
            )

    def save(
        self,
        session_id: str,
        owner: int,
        *,
        header: bytes,
        steps: Mapping[int, bytes],
        steps_now: Collection[int],
        events: Sequence[tuple[int, str]],
        now: float,
        expires_at: float,
        closed: bool = False,
    ) -> None:
        """See `SessionStore.save`."""
        with self._transaction() as run:
            last_event_id = _owned(run, session_id, owner)
            stored = {turn for (turn,) in run("SELECT turn FROM steps WHERE session_id = ?", session_id)}
            check_save(session_id, last_event_id, events, stored | steps.keys(), steps_now)
            for turn in stored.difference(steps_now):
                run("DELETE FROM steps WHERE session_id = ? AND turn = ?", session_id, turn)
            for turn in steps.keys() & set(steps_now):
                run("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", session_id, turn, steps[turn])
            for event_id, line in events:
                run("INSERT INTO events VALUES (?, ?, ?)", session_id, event_id, line)
            run(
                "UPDATE sessions SET header = ?, last_event_id = ?, saved_at = ?, expires_at = ?, closed = ?"
                " WHERE session_id = ?",
                *(header, last_event_id + len(events), now, expires_at, int(closed), session_id),
            )

    def touch(self, session_id: str, owner: int, *, expires_at: float) -> None:
        """See `SessionStore.touch`."""
        with self._transaction() as run:
            _owned(run, session_id, owner)
            run("UPDATE sessions SET expires_at = ? WHERE session_id = ?", expires_at, session_id)

    def events(self, session_id: str, after: int) -> list[tuple[int, str]]:
        """See `SessionStore.events`."""
        with self._lend() as connection:
            return connection.execute(
                "SELECT event_id, json FROM events WHERE session_id = ? AND event_id > ? ORDER BY event_id",
                (session_id, after),
            ).fetchall()

    def forget(self, session_id: str, owner: int) -> None:
        """See `SessionStore.forget`."""
        with self._transaction() as run:
            try:
                _owned(run, session_id, owner)
            except SessionGone:
                return
            run("DELETE FROM sessions WHERE session_id = ?", session_id)

    def sweep(self, now: float) -> int:
        """See `SessionStore.sweep`."""
        with self._transaction() as run:
            return run("DELETE FROM sessions WHERE expires_at <= ?", now).rowcount

    def ready(self) -> None:
        """See `SessionStore.ready`."""
        # SQLite goes on writing to a file that somebody deleted, and nobody would ever find it again.
        if self._path is not None and not self._path.exists():
            raise StoreError(f"{self._path}: expected the store of sessions, got no file: it was deleted")
        with self._transaction() as run:
            run("SELECT COUNT(*) FROM sessions WHERE expires_at > 0")

    def close(self) -> None:
        """See `SessionStore.close`."""
        connection = self._idle.get()
        try:
            if connection is not None:
                with self._told():
                    connection.close()
        finally:
            self._idle.put(None)

    @contextmanager
    def _lend(self) -> Iterator[sqlite3.Connection]:
        """The connection, to one thread at a time."""
        connection = self._idle.get()
        try:
            if connection is None:
                raise StoreError(f"{self._name}: expected an open store, got a closed one")
            with self._told():
                yield connection
        finally:
            self._idle.put(connection)

    @contextmanager
    def _transaction(self) -> Iterator["_Run"]:
        """A transaction that no other process writes beside; undone where anything is raised."""
        with self._lend() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield lambda sql, *values: connection.execute(sql, values)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite and the file system raise as a StoreError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"{self._name}: expected a store of sessions that can be written, got: {error}"
            ) from error


class _Run(Protocol):
    """Runs one statement."""

    def __call__(self, sql: str, *values: str | bytes | float) -> sqlite3.Cursor: ...


class MemoryStore(SqliteStore):
    """Sessions in this process: a lost connection can be resumed, a stopped server cannot."""

    def __init__(self) -> None:
        self._open(None)


def _owned(run: _Run, session_id: str, owner: int) -> int:
    """The session's last event's number; raises where `owner` does not have it."""
    row = run("SELECT owner, last_event_id FROM sessions WHERE session_id = ?", session_id).fetchone()
    current, last_event_id = row or (None, 0)
    check_owner(session_id, current, owner)
    return int(last_event_id)


def _make(path: Path) -> None:
    """A new file, readable by its owner alone; SQLite gives its log beside it the same mode.

    It is set up under another name: of several processes that begin at once, all find one that is ready.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    os.close(made)
    try:
        _connect(Path(name)).close()
        os.link(name, path)
    except FileExistsError:
        pass  # another process was faster
    finally:
        os.unlink(name)


def _connect(path: Path | None) -> sqlite3.Connection:
    """A connection to the file, which is there, or to a new store in memory."""
    connection = sqlite3.connect(
        path or ":memory:", timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path | None) -> None:
    """Set the file up where it is empty, and the connection."""
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if (version, application, tables) == (0, 0, 0):
        for statement in SCHEMA:
            connection.execute(statement)
    elif application != APPLICATION_ID:
        raise StoreError(f"{path}: expected a store of sessions, got another program's SQLite file")
    elif version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: expected a store of version {SCHEMA_VERSION}, got {version}, of a newer stream_erc"
        )
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # what that can lose: see SqliteStore
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what was forgotten is not left in the file
