"""Where sessions are kept, so that a client can resume: what every store promises.

A store knows bytes and lines of JSON; what is in them is the matter of `stream_erc.core.snapshots`. A session
is a header, the blobs of its last turns (*steps*) and its events. It is found by the SHA-256 of its resume
token; the token itself is stored nowhere.

Two servers never write one session. Whoever creates or claims it gets an *owner* number, and every later
claim a higher one; with an older number nothing can be written any more (`Fenced`). A save is all or nothing.

Times are seconds since the epoch and come from the caller; nothing here looks at a clock, except Redis,
which drops what has expired by its own. `claim` and `sweep` take an expired session for gone; its owner can
still renew it with `save` or `touch` as long as it has not been dropped.

Every method may be called from any thread and raises `StoreError` where the store cannot be used.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from stream_erc.exceptions import Fenced, SessionGone, StoreError
from stream_erc.protocol.save_point import SavePoint

BUSY_TIMEOUT_S = 10.0
"""How long another process's write in SQLite is waited for, and an answer of Redis."""


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it was saved last.

    Attributes:
        session_id: its name on the wire.
        owner: the number of this claim; it fences whoever had the session before. Where the session was only
            read, the number of its owner.
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
    """Keeps sessions. Every store derives from it, and what a method does stands here alone."""

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

    def read(self, token_hash: bytes, *, now: float) -> StoredSession | None:
        """A session as it is, left to its owner; None where it is unknown or expired."""

    def claim(self, token_hash: bytes, *, now: float, expires_at: float) -> StoredSession | None:
        """Take a session over: from now on nobody but the new owner can write it.

        Returns:
            The session with its new owner's number, None where it is unknown or expired.
        """

    def save(
        self, session_id: str, owner: int, save_point: SavePoint, *, now: float, expires_at: float
    ) -> None:
        """Save all or nothing.

        Args:
            session_id: which session.
            owner: the number that `create` or `claim` gave.
            save_point: every step that it does not name is deleted.
            now: seconds since the epoch.
            expires_at: as in `create`.

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

    def events(self, session_id: str, after: int, most: int = 2**31) -> list[tuple[int, str]]:
        """The first `most` events with a number above `after`, in order: (event_id, JSON).

        None for an unknown session.
        """

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


def check_owner(session_id: str, current: int | None, owner: int) -> None:
    """Refuse `owner` where another one has the session, or nobody (None)."""
    if current is None:
        raise SessionGone(f"session {session_id}: expected it in the store, got none: expired or forgotten")
    if current != owner:
        raise Fenced(f"session {session_id}: expected owner {current}, got {owner}: it was claimed since")


def check_save(session_id: str, last_event_id: int, stored: Collection[int], save_point: SavePoint) -> None:
    """Refuse events that do not follow the last one, and turns neither with a step in it nor `stored`."""
    for expected, (event_id, _) in enumerate(save_point.events, last_event_id + 1):
        if event_id != expected:
            raise StoreError(f"session {session_id}: expected event {expected} next, got {event_id}")
    if missing := sorted(set(save_point.steps_now).difference(stored, save_point.steps)):
        raise StoreError(f"session {session_id}: expected a step of turn {missing[0]}, got none")
