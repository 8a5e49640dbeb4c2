"""The interface of session stores, from which a client can resume.

A store holds bytes and lines of JSON; `stream_erc.core.snapshots` defines their content. A session consists
of a header, the blobs of its last turns (*steps*) and its events. Its key is the SHA-256 of its resume token;
the token itself is not stored.

Fencing keeps two servers from writing one session:

1. `create` gives the session an *owner* number, and every later `claim` a higher one. No two are alike,
   also if the store goes back in time (a backup, a replica that lagged) and a claim is made there again.
2. `save`, `touch` and `forget` compare their owner number with the session's in the same transaction as
   their write, and raise `Fenced` if it is older. If it is newer, or a save does not follow the last one, the
   store has gone back in time: they raise a `StoreError`, and the session is to be claimed anew.

A save is all or nothing.

Times are seconds since the epoch, given by the caller, whose `StoreClock` no step of the wall clock moves.
`claim` and `sweep` treat an expired session as gone; its owner can still renew it with `save` or `touch`
until it has been dropped.

Every method may be called from any thread, and raises `StoreError` if the store cannot be used.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from stream_erc.exceptions import Fenced, SessionGone, StoreError
from stream_erc.protocol.save_point import SavePoint

BUSY_TIMEOUT_S = 10.0
"""Time limit for another process's write in SQLite, and for a response of Redis."""


OWNER_BITS = 40
"""Random bits of an owner number, below its count."""

WENT_BACK = "the store has gone back in time"


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it was last saved.

    Attributes:
        session_id: its id on the wire.
        owner: the owner number: of this claim, which fences every earlier one, or of the current owner if the
            session was only read.
        header: the header of the last save.
        steps: turn index -> blob, in order, for the turns that the last save named.
        last_event_id: id of the last event, 0 before the first.
        saved_at: time of the last save or of the creation, seconds since the epoch.
        closed: whether the session has ended.
    """

    session_id: str
    owner: int
    header: bytes
    steps: Mapping[int, bytes]
    last_event_id: int
    saved_at: float
    closed: bool


class SessionStore(Protocol):
    """A store of sessions. Every store derives from it; its methods are documented here alone."""

    def create(
        self, session_id: str, token_hash: bytes, header: bytes, *, now: float, expires_at: float
    ) -> int:
        """Store a new session, without steps or events.

        Args:
            session_id: a new, unique id.
            token_hash: the SHA-256 of its resume token.
            header: opaque bytes.
            now: seconds since the epoch.
            expires_at: the time at which it expires unless it is saved, touched or claimed before.

        Returns:
            The owner number.

        Raises:
            StoreError: also if the session or the token exists already.
        """

    def read(self, token_hash: bytes, *, now: float) -> StoredSession | None:
        """Return a session without claiming it; None if it is unknown or expired."""

    def claim(self, token_hash: bytes, *, now: float, expires_at: float) -> StoredSession | None:
        """Claim a session: from now on only the new owner can write it.

        Returns:
            The session with its new owner number, None if it is unknown or expired.
        """

    def save(
        self, session_id: str, owner: int, save_point: SavePoint, *, now: float, expires_at: float
    ) -> None:
        """Store a save point, all or nothing.

        Args:
            session_id: the session's id.
            owner: the owner number from `create` or `claim`.
            save_point: the save point; stored steps of turns that it does not name are deleted.
            now: seconds since the epoch.
            expires_at: as in `create`.

        Raises:
            Fenced: the session has been claimed since.
            SessionGone: the session no longer exists.
            StoreError: also if the event ids have a gap or repeat one, or a turn in `steps_now` has no blob.
        """

    def touch(self, session_id: str, owner: int, *, expires_at: float) -> None:
        """Extend the session's life to `expires_at`.

        Raises:
            Fenced: the session has been claimed since.
            SessionGone: the session no longer exists.
        """

    def events(self, session_id: str, after: int, limit: int = 2**31) -> list[tuple[int, str]]:
        """Return up to `limit` events with an id above `after`, in order, as (event id, JSON).

        The list is empty for an unknown session.
        """

    def forget(self, session_id: str, owner: int) -> None:
        """Delete the session if it still exists.

        Raises:
            Fenced: the session has been claimed since.
        """

    def sweep(self, now: float) -> int:
        """Delete expired sessions and return their number."""

    def clock_offset(self, boot: str, offset: float) -> float:
        """Return what makes the monotonic clock of this machine the store's clock.

        Args:
            boot: names the time since the machine started; "" if that is unknown.
            offset: the wall clock less the monotonic one, by which a store goes that has no clock yet.
        """
        return offset

    def ready(self) -> None:
        """Raise a StoreError if sessions cannot be saved now."""

    def close(self) -> None:
        """Close the file or the connections; every later call but `close` raises a StoreError."""


def next_owner(owner: int = 0) -> int:
    """Return the number of the owner after `owner`: a count, and random bits that no other number has."""
    return (((owner >> OWNER_BITS) + 1) << OWNER_BITS) | secrets.randbits(OWNER_BITS)


def check_owner(session_id: str, current: int | None, owner: int) -> None:
    """Raise if `owner` is not the session's `current` owner, or the session is gone (None)."""
    if current is None:
        raise SessionGone(f"session {session_id}: expected it in the store, got none: expired or forgotten")
    if current >> OWNER_BITS < owner >> OWNER_BITS:
        raise StoreError(f"session {session_id}: {WENT_BACK}: expected owner {owner}, got {current}")
    if current != owner:
        raise Fenced(f"session {session_id}: expected owner {current}, got {owner}: it was claimed since")


def check_save(session_id: str, last_event_id: int, stored: Collection[int], save_point: SavePoint) -> None:
    """Raise if events do not follow the last one, or a step is neither in the save point nor `stored`."""
    if save_point.after not in (None, last_event_id):
        raise StoreError(
            f"session {session_id}: {WENT_BACK}: expected event {save_point.after} to be the last one stored,"
            f" got {last_event_id}"
        )
    for expected, (event_id, _) in enumerate(save_point.events, last_event_id + 1):
        if event_id != expected:
            raise StoreError(f"session {session_id}: expected event {expected} next, got {event_id}")
    if missing := sorted(set(save_point.steps_now).difference(stored, save_point.steps)):
        raise StoreError(f"session {session_id}: expected a step of turn {missing[0]}, got none")
