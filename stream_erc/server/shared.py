"""The state that a server's connections share: workers, store, tokens and open connections."""

import asyncio
import contextlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from stream_erc.exceptions import Fenced, SessionGone
from stream_erc.inference.workers import ThreadWorker
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.negotiation import Offer
from stream_erc.server.known_voices import KnownVoices
from stream_erc.server.limits import MAX_WAITING_BYTES, Budget
from stream_erc.server.metrics import Telemetry
from stream_erc.server.stores.base import SessionStore

RENEWALS_PER_RETENTION = 3
"""Number of times per retention period that a connected but unsaved session is renewed in the store."""

T = TypeVar("T")


class OpenConnection(Protocol):
    """A connection as other connections see it."""

    @property
    def unread(self) -> int:
        """Number of messages waiting to be sent."""

    @property
    def owner(self) -> int:
        """The owner number of its claim on its session."""

    def on_taken_over(self) -> None:
        """Close the connection: another one has resumed its session."""


@dataclass(slots=True)
class SharedState:
    """State that all connections of a server share; it is used on the event loop alone.

    Attributes:
        offer: engines and limits.
        workers: model name -> the worker that runs its engine.
        store: the store of sessions.
        threads: the executor of the store's blocking calls.
        tokens: valid bearer tokens; empty if anybody may connect.
        voices: the known voices.
        version: the server's name and version.
        connections: session id -> its connection.
        recordings: the number of recordings that are being uploaded or transcribed; each takes the place of a
            session.
        stopping: set when the server begins to stop.
        telemetry: the server's metrics.
        budget: the bytes that may wait in all sessions together.
    """

    offer: Offer
    workers: Mapping[str, ThreadWorker]
    store: SessionStore
    threads: Executor
    tokens: frozenset[str]
    voices: KnownVoices
    version: str
    connections: dict[str, OpenConnection] = field(default_factory=dict)
    recordings: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    telemetry: Telemetry = field(init=False)
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(MAX_WAITING_BYTES, self.offer.server.max_sessions)
        self.telemetry = Telemetry(self._queued_work, self._unread, self.offer.engines, self._analyses)

    @property
    def full(self) -> bool:
        """Whether the server has as many sessions as it accepts."""
        return len(self.connections) + self.recordings >= self.offer.server.max_sessions

    @property
    def renewal_s(self) -> float:
        """Seconds between two renewals of a connected session that is not saved meanwhile."""
        return self.offer.server.retention_s / RENEWALS_PER_RETENTION

    @property
    def lifetime_s(self) -> float:
        """Seconds from a session's last save or renewal until it expires.

        The retention counts from the loss of the connection, which may come one renewal interval after that.
        """
        return self.offer.server.retention_s + self.renewal_s

    def admits(self, token: str) -> bool:
        """Return whether a bearer token is valid."""
        given = token.encode(errors="surrogateescape")  # a header may hold any bytes
        return any([hmac.compare_digest(given, known.encode()) for known in self.tokens])

    def enter(self, session_id: str, connection: OpenConnection) -> None:
        """Register a connection under its session.

        Raises:
            Refusal: ``server_full``.
        """
        if session_id not in self.connections:
            self._check_place()
        self.connections[session_id] = connection
        self.telemetry.sessions.set(len(self.connections))

    def leave(self, session_id: str, connection: OpenConnection) -> None:
        """Remove a connection, unless another one is registered for its session by now."""
        if self.connections.get(session_id) is connection:
            del self.connections[session_id]
        self.telemetry.sessions.set(len(self.connections))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Take the place of a session for a recording.

        Raises:
            Refusal: ``server_full``.
        """
        self._check_place()
        self.recordings += 1
        self.telemetry.recordings.set(self.recordings)
        try:
            yield
        finally:
            self.recordings -= 1
            self.telemetry.recordings.set(self.recordings)

    def _check_place(self) -> None:
        if self.full:
            limit = self.offer.server.max_sessions
            raise Refusal("server_full", f"expected fewer than {limit} sessions, got one more")

    async def call_store(self, call: Callable[[], T]) -> T:
        """Run a call of the store in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    async def renew(self, expires_at: float) -> None:
        """Extend the life of every connected session in the store to `expires_at`.

        Raises:
            StoreError: the store cannot be used.
        """
        for session_id, connection in list(self.connections.items()):
            touch = partial(self.store.touch, session_id, connection.owner, expires_at=expires_at)
            with contextlib.suppress(Fenced, SessionGone):  # its connection finds out when it next saves
                await self.call_store(touch)

    def _queued_work(self) -> tuple[int, int]:
        """Return the numbers of analyses and classifications that wait for a thread."""
        waiting = [worker.waiting for worker in self.workers.values()]
        return sum(w[0] for w in waiting), sum(w[1] for w in waiting)

    def _analyses(self) -> dict[str, int]:
        """Return the number of analyses run so far, by kind."""
        found = Counter[str]()
        for worker in self.workers.values():
            found.update(worker.analyses)
        return dict(found)

    def _unread(self) -> int:
        return sum(connection.unread for connection in self.connections.values())
