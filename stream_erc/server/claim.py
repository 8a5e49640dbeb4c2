"""A connection's claim on its stored session: nobody else can write it until another one claims it."""

import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

from stream_erc.exceptions import Fenced, SessionGone
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.sealing import Seal
from stream_erc.server.shared import ANSWER_S, SAVE_S, SharedState
from stream_erc.server.stores.base import StoredSession

EVENTS_PER_READ = 256
"""Number of events read from the store at a time."""

T = TypeVar("T")


class Claim:
    """A connection's right to write its session, which ends when another connection claims it.

    Every method that writes raises a `Refusal`: ``taken_over`` if another connection has claimed the session,
    ``resume_refused`` if the store no longer has it; and a `StoreError` if the store cannot be used.

    Attributes:
        session_id: the session's id.
        owner: the claim's owner number.
    """

    def __init__(self, shared: SharedState, session_id: str, owner: int, seal: Seal) -> None:
        self._shared, self.session_id, self.owner, self._seal = shared, session_id, owner, seal
        self._renewed_at = time.monotonic()

    @classmethod
    async def create(cls, shared: SharedState, session_id: str, header: bytes) -> tuple["Claim", str]:
        """Store a new session and claim it.

        Returns:
            The claim, and the resume token, of which only the hash is stored.
        """
        token, now = secrets.token_urlsafe(32), shared.clock.now()
        seal = Seal(session_id, token)
        create = partial(
            shared.store.create,
            *(session_id, _hash(token), seal.header(header)),
            now=now,
            expires_at=now + shared.lifetime_s,
        )
        return cls(shared, session_id, await shared.call_store(create, ANSWER_S), seal), token

    @staticmethod
    async def look_up(shared: SharedState, token: str) -> StoredSession:
        """Read the session of a resume token without claiming it.

        Raises:
            Refusal: ``resume_refused``.
        """
        read = partial(shared.store.read, _hash(token), now=shared.clock.now())
        saved = _known_session(await shared.call_store(read, ANSWER_S))
        return Seal(saved.session_id, token).session(saved)

    @classmethod
    async def take_over(cls, shared: SharedState, token: str) -> tuple["Claim", StoredSession]:
        """Claim the session of a resume token; no earlier owner can write it any more.

        Raises:
            Refusal: ``resume_refused``.
        """
        now = shared.clock.now()
        claim = partial(shared.store.claim, _hash(token), now=now, expires_at=now + shared.lifetime_s)
        saved = _known_session(await shared.call_store(claim, ANSWER_S))
        seal = Seal(saved.session_id, token)
        return cls(shared, saved.session_id, saved.owner, seal), seal.session(saved)

    async def save(self, save_point: SavePoint) -> None:
        """Store a save point, all or nothing."""
        now, began = self._shared.clock.now(), time.monotonic()
        await self._write(
            partial(
                self._shared.store.save,
                *(self.session_id, self.owner, self._seal.save_point(save_point)),
                now=now,
                expires_at=now + self._shared.lifetime_s,
            )
        )
        self._renewed_at = time.monotonic()
        self._shared.telemetry.saving.observe(self._renewed_at - began)

    async def renew(self, *, now: bool = False) -> None:
        """Extend the session's life in the store if a renewal is due, or `now`; call it regularly."""
        if not now and time.monotonic() - self._renewed_at < self._shared.renewal_s:
            return
        expires_at = self._shared.clock.now() + self._shared.lifetime_s
        await self._write(
            partial(self._shared.store.touch, self.session_id, self.owner, expires_at=expires_at)
        )
        self._renewed_at = time.monotonic()

    async def forget(self) -> None:
        """Delete the session, with all that is stored of it."""
        await self._write(partial(self._shared.store.forget, self.session_id, self.owner))

    async def events(self, after: int) -> AsyncIterator[str]:
        """Yield the stored events with an event id above `after`, as JSON."""
        read = self._shared.store.events
        while page := await self._shared.call_store(
            partial(read, self.session_id, after, EVENTS_PER_READ), SAVE_S
        ):
            for number, line in page:
                yield self._seal.opened_event(number, line)
            after = page[-1][0]

    async def _write(self, call: Callable[[], T]) -> T:
        """Run a write of the store; refuse if the claim or the session is lost."""
        try:
            return await self._shared.call_store(call, SAVE_S)
        except Fenced as error:
            raise Refusal("taken_over", str(error)) from error
        except SessionGone as error:
            raise Refusal("resume_refused", str(error)) from error


def _known_session(saved: StoredSession | None) -> StoredSession:
    """Return the session that the store found; refuse a token for which it found none."""
    if saved is None:
        raise Refusal("resume_refused", "expected the token of a stored session, got an unknown one")
    return saved


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
