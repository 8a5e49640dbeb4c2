"""One connection's hold on its session in the store: nobody else writes it until somebody claims it."""

import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

from stream_erc.exceptions import Fenced, SessionGone
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.shared import SharedState
from stream_erc.server.stores.base import StoredSession

PAGE = 256
"""Events that are read from the store at a time."""

T = TypeVar("T")


class Claim:
    """A session's place in the store, as long as nobody else claims it.

    Every method that writes raises a `Refusal`: ``taken_over`` where somebody else has the session by now,
    ``resume_refused`` where it is not there any more; and a `StoreError` where the store cannot be used.

    Attributes:
        session_id: which session.
        owner: the number of the claim.
    """

    def __init__(self, service: SharedState, session_id: str, owner: int) -> None:
        self._service, self.session_id, self.owner = service, session_id, owner
        self._renewed_at = time.monotonic()

    @classmethod
    async def of_new(cls, service: SharedState, session_id: str, header: bytes) -> tuple["Claim", str]:
        """Have a new session stored; the claim and the resume token, which is kept nowhere."""
        token, now = secrets.token_urlsafe(32), time.time()
        create = partial(
            service.store.create,
            *(session_id, _hash(token), header),
            now=now,
            expires_at=now + service.lifetime_s,
        )
        return cls(service, session_id, await service.stored(create)), token

    @staticmethod
    async def look(service: SharedState, token: str) -> StoredSession:
        """The session of a resume token, which stays with its owner.

        Raises:
            Refusal: ``resume_refused``.
        """
        return _known(await service.stored(partial(service.store.read, _hash(token), now=time.time())))

    @classmethod
    async def of_token(cls, service: SharedState, token: str) -> tuple["Claim", StoredSession]:
        """Take over the session of a resume token; what was saved of it last.

        Raises:
            Refusal: ``resume_refused``.
        """
        now = time.time()
        claim = partial(service.store.claim, _hash(token), now=now, expires_at=now + service.lifetime_s)
        saved = _known(await service.stored(claim))
        return cls(service, saved.session_id, saved.owner), saved

    async def save(self, save_point: SavePoint) -> None:
        """Store a save_point, all or nothing."""
        now, began = time.time(), time.monotonic()
        await self._written(
            partial(
                self._service.store.save,
                *(self.session_id, self.owner, save_point),
                now=now,
                expires_at=now + self._service.lifetime_s,
            )
        )
        self._renewed_at = time.monotonic()
        self._service.telemetry.saving.observe(self._renewed_at - began)

    async def renew(self) -> None:
        """See that the store does not forget the session; called now and then."""
        if time.monotonic() - self._renewed_at < self._service.renewal_s:
            return
        expires_at = time.time() + self._service.lifetime_s
        await self._written(
            partial(self._service.store.touch, self.session_id, self.owner, expires_at=expires_at)
        )
        self._renewed_at = time.monotonic()

    async def forget(self) -> None:
        """Have the session deleted."""
        await self._written(partial(self._service.store.forget, self.session_id, self.owner))

    async def events(self, after: int) -> AsyncIterator[str]:
        """The stored events with a number above `after`, as JSON."""
        read = self._service.store.events
        while page := await self._service.stored(partial(read, self.session_id, after, PAGE)):
            for _, line in page:
                yield line
            after = page[-1][0]

    async def _written(self, call: Callable[[], T]) -> T:
        try:
            return await self._service.stored(call)
        except Fenced as error:
            raise Refusal("taken_over", str(error)) from error
        except SessionGone as error:
            raise Refusal("resume_refused", str(error)) from error


def _known(saved: StoredSession | None) -> StoredSession:
    if saved is None:
        raise Refusal("resume_refused", "expected the token of a session that is kept, got an unknown one")
    return saved


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
