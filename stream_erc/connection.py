"""One client's connection: frames in, work done, checkpoints stored, messages out.

Three tasks share a `LiveSession` on the event loop: one reads frames, one moves the session on whenever there
is something to do and stores what must not be lost, one writes. Each waits for the next: a client that does
not read what is written is not read from either, and holds up nobody else.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

from stream_erc import messages
from stream_erc.agreement import Offer
from stream_erc.exceptions import Fenced, SessionGone
from stream_erc.limits import Bucket
from stream_erc.live import Checkpoint, LiveSession
from stream_erc.messages import (
    Ping,
    SessionAuthenticate,
    SessionClose,
    SessionResume,
    SessionUpdate,
)
from stream_erc.protocol import Message, Refusal, parse, to_json, to_message
from stream_erc.store import SessionStore
from stream_erc.telemetry import Telemetry
from stream_erc.workers import ThreadWorker

log = logging.getLogger(__name__)

PIECE_MS = 250
"""A frame of audio is heard in pieces of this length, between which other sessions have their turn."""

UNREAD = 256
"""Messages that may wait to be sent before the session waits."""

AUTHENTICATE_S, FAREWELL_S = 10.0, 2.0
MISTAKES = 20
"""Errors in a row after which a connection is closed."""

T = TypeVar("T")


class Gone(Exception):
    """The client is not there any more."""


class Socket(Protocol):
    """A WebSocket, as a server gives it."""

    peer: str

    async def receive(self) -> str | bytes:
        """The next frame; raises `Gone`."""

    async def send(self, text: str) -> None:
        """Send a text frame; raises `Gone`."""

    async def close(self, code: int, reason: str) -> None:
        """Close, whether the client is there or not."""


@dataclass(slots=True)
class Service:
    """What all connections of a server share.

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
    connections: dict[str, "Connection"] = field(default_factory=dict)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    telemetry: Telemetry = field(init=False)

    def __post_init__(self) -> None:
        self.telemetry = Telemetry(self._waiting, self._unread)

    def admits(self, token: str) -> bool:
        """Whether a bearer token is one of those that are taken."""
        given = token.encode()
        return any([hmac.compare_digest(given, known.encode()) for known in self.tokens])

    async def stored(self, call: Callable[[], T]) -> T:
        """A call of the store, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    def _waiting(self) -> tuple[int, int]:
        waiting = [worker.waiting for worker in self.workers.values()]
        return sum(w[0] for w in waiting), sum(w[1] for w in waiting)

    def _unread(self) -> int:
        return sum(connection.unread for connection in self.connections.values())


class _Ended(Exception):
    """The connection is to be closed; with `refusal`, after saying why."""

    def __init__(self, code: int, refusal: Refusal | None = None) -> None:
        super().__init__(code)
        self.code, self.refusal = code, refusal


class Connection:
    """A client's connection, from its first frame to the close.

    Args:
        service: the server.
        socket: the client.
        authorized: whether the request carried a token.
    """

    def __init__(self, service: Service, socket: Socket, *, authorized: bool) -> None:
        self._service, self._socket = service, socket
        self._config = service.offer.server
        self._authorized = authorized or not service.tokens
        self._out: asyncio.Queue[Message | None] = asyncio.Queue(UNREAD)
        self._due, self._room, self._quiet = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._seq = self._mistakes = 0
        self._heard_at = self._sent_at = self._saved_at = time.monotonic()
        self._told_at: dict[int, float] = {}
        self._frames = Bucket.full(
            self._config.messages_per_s, 10 * self._config.messages_per_s, self._heard_at
        )
        self._pace = Bucket.full(1000.0, self._config.burst_ms, self._heard_at)
        self._taken_over = asyncio.Event()
        self._asked = False  # whether the session has been configured or resumed
        self._open(f"s_{secrets.token_hex(8)}", None)
        self._owner = 0

    @property
    def unread(self) -> int:
        """Messages that wait to be sent."""
        return self._out.qsize()

    def take_over(self) -> None:
        """The session goes on elsewhere."""
        self._taken_over.set()

    async def run(self) -> None:
        """Serve the client until the end."""
        code = 1006
        try:
            await self._admit()
            async with asyncio.TaskGroup() as tasks:
                for task in (self._write(), self._read(), self._advance(), self._watch(), self._leave()):
                    tasks.create_task(task)
        except* Gone:
            pass
        except* _Ended as group:
            code = await self._part(_first(group))
        except* Exception:
            log.exception("a connection failed", extra={"session": self.live.session_id})
            internal = Refusal("internal", "expected no mistake of the server, made one: resume the session")
            code = await self._part(_Ended(1011, internal))
        finally:
            self._forget(code)

    # --- the beginning ----------------------------------------------------------------------------

    async def _admit(self) -> None:
        """Know the client, make room for its session, and say so."""
        if len(self._service.connections) >= self._config.max_sessions:
            raise _Ended(
                1013, Refusal("server_full", f"expected fewer than {self._config.max_sessions} sessions")
            )
        if not self._authorized:
            await self._authenticate()
        token = secrets.token_urlsafe(32)
        checkpoint, now = self.live.checkpoint(always=True), time.time()
        assert checkpoint is not None
        create = partial(
            self._service.store.create,
            self.live.session_id,
            _hash(token),
            checkpoint.header,
            now=now,
            expires_at=now + self._config.retention_s,
        )
        self._owner = await self._service.stored(create)
        self._enter()
        await self._send(self.live.created(token, self._service.version))

    async def _authenticate(self) -> None:
        refusal = Refusal(
            "authentication", "expected a token in the header Authorization or session.authenticate"
        )
        try:
            async with asyncio.timeout(AUTHENTICATE_S):
                frame = await self._socket.receive()
            message = parse(frame) if isinstance(frame, str) else None
        except (TimeoutError, Refusal):
            raise _Ended(1008, refusal) from None
        if not isinstance(message, SessionAuthenticate) or not self._service.admits(message.token):
            raise _Ended(1008, refusal)

    def _open(self, session_id: str, kept: tuple[bytes, Mapping[int, bytes]] | None) -> None:
        self.live = LiveSession(self._service.offer, session_id, _now, kept)
        self._attach()

    def _attach(self) -> None:
        """Have the session's work done by its engine's worker."""
        model = self.live.terms.asked.model or next(iter(self._service.workers))
        self._worker = self._service.workers[model]
        loop = asyncio.get_running_loop()

        def arrived() -> None:
            try:
                loop.call_soon_threadsafe(self._due.set)
            except RuntimeError:
                pass  # the server has stopped

        self._worker.attach(self.live.session, arrived, patient=not self.live.paced)

    def _enter(self) -> None:
        self._service.connections[self.live.session_id] = self
        self._service.telemetry.sessions.set(len(self._service.connections))

    def _forget(self, code: int) -> None:
        """Leave nothing behind."""
        session = self.live.session_id
        if self._service.connections.get(session) is self:
            del self._service.connections[session]
        telemetry = self._service.telemetry
        telemetry.sessions.set(len(self._service.connections))
        telemetry.ended.labels(code).inc()
        log.info(
            "connection ended",
            extra={"session": session, "code": code, "audio_ms": self.live.received_ms},
        )

    async def _resume(self, message: SessionResume) -> None:
        """Go on with the session of the token, in the place of the one that was just begun."""
        if self._asked or self.live.begun:
            raise Refusal("out_of_order", "expected session.resume as the first message, got it later")
        store, now, fresh = self._service.store, time.time(), (self.live.session_id, self._owner)
        claim = partial(
            store.claim, _hash(message.resume_token), now=now, expires_at=now + self._config.retention_s
        )
        saved = await self._service.stored(claim)
        if saved is None or saved.session_id == fresh[0]:
            raise Refusal(
                "resume_refused", "expected the token of a session that is kept, got an unknown one"
            )
        other = self._service.connections.get(saved.session_id)
        if other is not None:
            other.take_over()
        self._service.connections.pop(fresh[0], None)
        self._open(saved.session_id, (saved.header, saved.steps))
        self._owner, self._asked = saved.owner, True
        answer = self.live.resumed(message.last_event_id)
        await self._service.stored(partial(store.forget, *fresh))
        missed = await self._service.stored(partial(store.events, saved.session_id, message.last_event_id))
        self._enter()
        away_s = min(max(0.0, now - saved.saved_at), self._config.retention_s)
        self._pace.grant(1000 * away_s + self._config.burst_ms)
        self._service.telemetry.opened.labels("resumed").inc()
        log.info(
            "session resumed",
            extra={"session": saved.session_id, "peer": self._socket.peer, "away_s": round(away_s, 3)},
        )
        await self._send(answer)
        for _, line in missed:
            await self._send(json.loads(line))
        if saved.closed:
            await self._out.put(None)

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            frame = await self._socket.receive()
            self._heard_at = time.monotonic()
            try:
                if isinstance(frame, bytes):
                    await self._take_audio(frame)
                else:
                    await self._take_text(frame)
                self._mistakes = 0
            except Refusal as refusal:
                await self._refuse(refusal)

    async def _take_audio(self, data: bytes) -> None:
        samples, duration_ms = self.live.decode(data)
        if self.live.paced and not self._pace.take(duration_ms, self._heard_at):
            raise Refusal(
                "audio_too_fast",
                f"expected live audio at most {self._config.burst_ms} ms ahead of the clock, got more: "
                'ask for pace "replay" to send a recording',
            )
        self._begin()
        self._service.telemetry.audio.inc(duration_ms / 1000)
        pieces = max(1, round(duration_ms / PIECE_MS))
        for k in range(pieces):
            self.live.hear(samples[len(samples) * k // pieces : len(samples) * (k + 1) // pieces])
            self._room.clear()
            self._due.set()
            await self._room.wait()

    async def _take_text(self, text: str) -> None:
        if not self._frames.take(1, self._heard_at):
            most = self._config.messages_per_s
            raise Refusal("too_many_messages", f"expected at most {most:g} text frames a second, got more")
        match parse(text):
            case Ping(id=name):
                await self._send(to_message(messages.Pong(**self.live.encoder.envelope(), id=name)))
            case SessionUpdate() as asked:
                answer = self.live.update(asked)
                self._asked = True
                self._attach()
                await self._keep(self.live.checkpoint(always=True))
                await self._send(answer)
            case SessionResume() as message:
                await self._resume(message)
            case SessionClose():
                self._begin()
                self.live.close()
                self._due.set()
            case SessionAuthenticate():
                pass  # it was known before
            case message:
                self._begin()
                self.live.receive(message)
                self._room.clear()
                self._due.set()
                await self._room.wait()

    def _begin(self) -> None:
        if not self._asked and not self.live.begun:
            self._asked = True
        if not self.live.begun:
            self._service.telemetry.opened.labels("new").inc()
            log.info("session begun", extra={"session": self.live.session_id, "peer": self._socket.peer})

    async def _refuse(self, refusal: Refusal) -> None:
        """Tell of an error; end the connection where it must end."""
        if refusal.close_code is not None:
            raise _Ended(refusal.close_code, refusal)
        self._mistakes += 1
        if self._mistakes >= MISTAKES:
            too_many = Refusal(
                "too_many_errors", f"expected a usable message, got {MISTAKES} errors in a row"
            )
            raise _Ended(1008, too_many)
        await self._send(self._failed(refusal))

    def _failed(self, refusal: Refusal) -> Message:
        self._service.telemetry.errors.labels(refusal.code).inc()
        return to_message(
            messages.Failed(
                **self.live.encoder.envelope(),
                code=refusal.code,
                message=str(refusal),
                retryable=refusal.retryable,
                input_id=refusal.input_id,
            )
        )

    # --- moving on --------------------------------------------------------------------------------

    async def _advance(self) -> None:
        """Hear, hand out work, take answers, keep what is settled, tell it."""
        while True:
            await self._due.wait()
            self._due.clear()
            live = self.live
            events = self._worker.poll(live.session)
            if not self._worker.busy(live.session) and not live.session.crowded:
                self._room.set()
            live.tell(events)
            while (checkpoint := live.checkpoint()) is not None:
                told_at = time.monotonic()
                self._told_at.update((number, told_at) for number, _ in checkpoint.events)
                await self._keep(checkpoint)
                live.saved(checkpoint)
                if checkpoint.closed:
                    break
            for message in live.outgoing():
                await self._send(message)
                if message["type"] == "session.closed":
                    await self._out.put(None)
            if not self._worker.pending(live.session):
                self._quiet.set()

    async def _keep(self, checkpoint: Checkpoint | None) -> None:
        """Store a checkpoint."""
        assert checkpoint is not None
        now, began = time.time(), time.monotonic()
        save = partial(
            self._service.store.save,
            self.live.session_id,
            self._owner,
            header=checkpoint.header,
            steps=checkpoint.steps,
            steps_now=checkpoint.steps_now,
            events=checkpoint.events,
            closed=checkpoint.closed,
            now=now,
            expires_at=now + self._config.retention_s,
        )
        try:
            await self._service.stored(save)
        except (Fenced, SessionGone) as error:
            raise _Ended(4409, Refusal("taken_over", str(error))) from error
        self._saved_at = time.monotonic()
        self._service.telemetry.saving.observe(self._saved_at - began)

    # --- writing ----------------------------------------------------------------------------------

    async def _send(self, message: Message) -> None:
        await self._out.put(message)

    async def _write(self) -> None:
        while (message := await self._out.get()) is not None:
            message["seq"], self._seq = self._seq, self._seq + 1
            try:
                async with asyncio.timeout(self._config.slow_reader_s):
                    await self._socket.send(to_json(message))
            except TimeoutError:
                waited = self._config.slow_reader_s
                refusal = Refusal("slow_reader", f"expected messages to be read within {waited:g} s")
                raise _Ended(4429, refusal) from None
            self._sent_at = time.monotonic()
            told_at = self._told_at.pop(int(str(message.get("event_id", 0))), None)
            if told_at is not None:
                self._service.telemetry.delivery.observe(self._sent_at - told_at)
            self._service.telemetry.count_turn(message)
            self._out.task_done()
        raise _Ended(1000)

    # --- watching ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Heartbeats, silence, and that the store does not forget the session."""
        while True:
            try:
                async with asyncio.timeout(min(1.0, self._config.heartbeat_s / 2)):
                    await self._taken_over.wait()
                raise _Ended(4409, Refusal("taken_over", "expected one connection, the session was resumed"))
            except TimeoutError:
                pass
            now = time.monotonic()
            if now - self._heard_at > self._config.idle_timeout_s:
                idle = self._config.idle_timeout_s
                raise _Ended(4408, Refusal("idle", f"expected audio, a message or a ping within {idle:g} s"))
            if now - self._sent_at > self._config.heartbeat_s and self._out.empty():
                envelope = self.live.encoder.envelope()
                await self._send(to_message(messages.Heartbeat(**envelope, audio_ms=self.live.received_ms)))
            if now - self._saved_at > self._config.retention_s / 3:
                await self._touch()

    async def _touch(self) -> None:
        expires_at = time.time() + self._config.retention_s
        touch = partial(self._service.store.touch, self.live.session_id, self._owner, expires_at=expires_at)
        try:
            await self._service.stored(touch)
        except (Fenced, SessionGone) as error:
            raise _Ended(4409, Refusal("taken_over", str(error))) from error
        self._saved_at = time.monotonic()

    async def _leave(self) -> None:
        """When the server stops: say so, let what was heard come to its end, close."""
        await self._service.leaving.wait()
        left_ms = round(1000 * self._config.drain_s)
        envelope = self.live.encoder.envelope()
        await self._send(
            to_message(messages.SessionGoingAway(**envelope, reason="the server stops", time_left_ms=left_ms))
        )
        self._quiet.clear()
        self._due.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await self._quiet.wait()
                await self._out.join()
        raise _Ended(1012)

    async def _part(self, ended: _Ended) -> int:
        """Say why, and close."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                if ended.refusal is not None:
                    message = self._failed(ended.refusal)
                    message["seq"] = self._seq
                    await self._socket.send(to_json(message))
                await self._socket.close(ended.code, ended.refusal.code if ended.refusal else "")
        except (TimeoutError, Gone):
            pass
        return ended.code


def _first(group: BaseExceptionGroup[_Ended]) -> _Ended:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group without exceptions")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
