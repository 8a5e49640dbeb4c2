"""The state that a server's connections share: workers, store, tokens and open connections."""

import asyncio
import contextlib
import hmac
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from stream_erc.exceptions import Fenced, SessionGone, StoreError
from stream_erc.inference.workers import ThreadWorker
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.negotiation import Offer
from stream_erc.server.known_voices import KnownVoices
from stream_erc.server.limits import MAX_WAITING_BYTES, Budget, Places
from stream_erc.server.metrics import Telemetry
from stream_erc.server.stores.base import SessionStore
from stream_erc.server.stores.clock import StoreClock

RENEWALS_PER_RETENTION = 3
"""Number of times per retention period that a connected but unsaved session is renewed in the store."""

ANSWER_S = 2.0
"""Time limit for the store's answer when a session begins or is resumed, or somebody asks if it could."""

SAVE_S = 5.0
"""Time limit for a save, after which the client is told to resume."""

T = TypeVar("T")


class OpenConnection(Protocol):
    """A connection as other connections see it."""

    @property
    def unread(self) -> int:
        """Number of messages waiting to be sent."""

    @property
    def owner(self) -> int:
        """The owner number of its claim on its session."""

    @property
    def peer(self) -> str:
        """Its client's address."""

    @property
    def used_at(self) -> float:
        """Time of its last audio or input, or of the work on it, on the monotonic clock."""

    def on_taken_over(self) -> None:
        """Close the connection: another one has resumed its session."""

    def on_place_wanted(self) -> None:
        """Close the connection: its session only sends pings, and another one needs its place."""


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
        places: the places of sessions and recordings.
        connections: session id -> its connection.
        recordings: the number of recordings that are being uploaded or transcribed; each takes the place of a
            session.
        exporting: held while a session is exported, since that takes several times its size.
        exports_from: when the next export may begin, on the monotonic clock.
        stopping: set when the server begins to stop.
        telemetry: the server's metrics.
        clock: the time that stored sessions live by.
        budget: the bytes that may wait in all sessions together.
    """

    offer: Offer
    workers: Mapping[str, ThreadWorker]
    store: SessionStore
    threads: Executor
    tokens: frozenset[str]
    voices: KnownVoices
    version: str
    places: Places
    connections: dict[str, OpenConnection] = field(default_factory=dict)
    recordings: int = 0
    exporting: asyncio.Lock = field(default_factory=asyncio.Lock)
    exports_from: float = 0.0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    telemetry: Telemetry = field(init=False)
    clock: StoreClock = field(init=False)
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.clock = StoreClock(self.store)
        self.budget = Budget(MAX_WAITING_BYTES, self.places.most)
        self.telemetry = Telemetry(self._queued_work, self._unread, self.offer.engines, self._analyses)

    @property
    def full(self) -> bool:
        """Whether the server has as many sessions as it accepts, and none of them only sends pings."""
        return self.places.full and not self._idle()

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
            self._take_place(session_id, connection.peer)
        self.places.take(session_id, connection.peer)
        self.connections[session_id] = connection
        self.telemetry.sessions.set(len(self.connections))

    def leave(self, session_id: str, connection: OpenConnection) -> None:
        """Remove a connection, unless another one is registered for its session by now."""
        if self.connections.get(session_id) is connection:
            del self.connections[session_id]
            self.places.leave(session_id)
        self.telemetry.sessions.set(len(self.connections))

    @contextlib.contextmanager
    def recording(self, peer: str) -> Iterator[None]:
        """Take the place of a session for a recording from an address.

        Raises:
            Refusal: ``server_full``.
        """
        place = object()
        self._take_place(place, peer)
        self.recordings += 1
        self.telemetry.recordings.set(self.recordings)
        try:
            yield
        finally:
            self.places.leave(place)
            self.recordings -= 1
            self.telemetry.recordings.set(self.recordings)

    def _take_place(self, who: Hashable, peer: str) -> None:
        """Take a place, if need be that of a session which only sends pings."""
        places, crowded = self.places, self.places.crowds(peer)
        if places.full or crowded:
            idle = [one for one in self._idle() if not crowded or places.near(one, peer)]
            if not idle and crowded:
                raise Refusal(
                    "server_full",
                    f"expected fewer than {places.most_of_one} sessions from one address, got one more",
                )
            if not idle:
                raise Refusal("server_full", f"expected fewer than {places.most} sessions, got one more")
            self._free(idle[0])
        places.take(who, peer)

    def _idle(self) -> list[str]:
        """Return the sessions whose clients have sent nothing but pings for too long, the first longest."""
        before = time.monotonic() - self.offer.server.idle_timeout_s
        used = sorted((connection.used_at, one) for one, connection in self.connections.items())
        return [one for at, one in used if at < before]

    def _free(self, session_id: str) -> None:
        connection = self.connections[session_id]
        self.leave(session_id, connection)
        connection.on_place_wanted()

    async def call_store(self, call: Callable[[], T], within_s: float | None = None) -> T:
        """Run a call of the store in a thread.

        Args:
            call: the call.
            within_s: time limit for its answer; None to wait for as long as it takes.

        Raises:
            StoreError: also if there is no answer in time. The call may still succeed, later.
        """
        answer = asyncio.get_running_loop().run_in_executor(self.threads, call)
        try:
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError as error:
            raise StoreError(f"expected an answer of the store within {within_s:g} s, got none") from error

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
