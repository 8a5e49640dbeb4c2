"""What all connections of a server share: the engines' workers, the store, who may connect, who is there."""

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from stream_erc.exceptions import Fenced, SessionGone
from stream_erc.inference.workers import ThreadWorker
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.negotiation import Offer
from stream_erc.server.metrics import Telemetry
from stream_erc.server.stores.base import SessionStore

RENEWALS_PER_RETENTION = 3
"""How often within its retention an open session is renewed that is not saved."""

T = TypeVar("T")


class OpenConnection(Protocol):
    """A connection, as the others see it."""

    @property
    def unread(self) -> int:
        """Messages that wait to be sent."""

    @property
    def owner(self) -> int:
        """The number of its claim on its session."""

    def on_taken_over(self) -> None:
        """Its session goes on elsewhere."""


@dataclass(slots=True)
class SharedState:
    """What all connections of a server share; used on the event loop alone.

    Attributes:
        offer: engines and limits.
        workers: engine -> who runs its work.
        store: keeps the sessions.
        threads: run the store's calls.
        tokens: who may connect; empty for everybody.
        version: the server's name and version.
        connections: the connections with a session, by its id.
        leaving: set when the server is told to stop.
    """

    offer: Offer
    workers: Mapping[str, ThreadWorker]
    store: SessionStore
    threads: Executor
    tokens: frozenset[str]
    version: str
    connections: dict[str, OpenConnection] = field(default_factory=dict)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    telemetry: Telemetry = field(init=False)

    def __post_init__(self) -> None:
        self.telemetry = Telemetry(self._waiting, self._unread, self.offer.engines)

    @property
    def full(self) -> bool:
        """Whether there are as many sessions as are taken."""
        return len(self.connections) >= self.offer.server.max_sessions

    @property
    def renewal_s(self) -> float:
        """Seconds between two renewals of an open session that is not saved."""
        return self.offer.server.retention_s / RENEWALS_PER_RETENTION

    @property
    def lifetime_s(self) -> float:
        """Seconds after its last renewal at which a session expires.

        Its retention counts from the loss of the connection, up to one renewal later.
        """
        return self.offer.server.retention_s + self.renewal_s

    def admits(self, token: str) -> bool:
        """Whether a bearer token is one of those that are taken."""
        given = token.encode(errors="surrogateescape")  # a header's bytes, whatever they are
        return any([hmac.compare_digest(given, known.encode()) for known in self.tokens])

    def enter(self, session_id: str, connection: OpenConnection) -> None:
        """A connection has a session.

        Raises:
            Refusal: ``server_full``.
        """
        if self.full and session_id not in self.connections:
            most = self.offer.server.max_sessions
            raise Refusal("server_full", f"expected fewer than {most} sessions, got one more")
        self.connections[session_id] = connection
        self.telemetry.sessions.set(len(self.connections))

    def leave(self, session_id: str, connection: OpenConnection) -> None:
        """A connection has it no more; nothing happens where another one has it by now."""
        if self.connections.get(session_id) is connection:
            del self.connections[session_id]
        self.telemetry.sessions.set(len(self.connections))

    async def stored(self, call: Callable[[], T]) -> T:
        """A call of the store, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    async def renew(self, expires_at: float) -> None:
        """Let the sessions that are here live until `expires_at`.

        Raises:
            StoreError: the store cannot be used.
        """
        for session_id, connection in list(self.connections.items()):
            touch = partial(self.store.touch, session_id, connection.owner, expires_at=expires_at)
            with contextlib.suppress(Fenced, SessionGone):  # its connection will see
                await self.stored(touch)

    def _waiting(self) -> tuple[int, int]:
        waiting = [worker.waiting for worker in self.workers.values()]
        return sum(w[0] for w in waiting), sum(w[1] for w in waiting)

    def _unread(self) -> int:
        return sum(connection.unread for connection in self.connections.values())
