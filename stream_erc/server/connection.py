"""One client's connection: frames in, work done, save points stored, messages out.

Tasks share a `LiveSession` on the event loop: one reads frames into a line, one takes them in, one moves the
session on whenever there is something to do and stores what must not be lost, one writes. Each waits for the
next: a client that does not read what is written is not read from either, and holds up nobody else.
"""

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from stream_erc.protocol import messages
from stream_erc.protocol.encoding import event_id_of, parse
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.live_session import LiveSession
from stream_erc.protocol.messages import (
    Ping,
    SessionAuthenticate,
    SessionClose,
    SessionResume,
    SessionUpdate,
    SpeakerRename,
    TurnAppend,
    TurnCorrect,
)
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.admission import Admission
from stream_erc.server.claim import Claim
from stream_erc.server.closing import LOST, CloseConnection, close_reason_of
from stream_erc.server.inbox import Inbox
from stream_erc.server.limits import Bucket
from stream_erc.server.outbox import Outbox
from stream_erc.server.shared import SharedState
from stream_erc.server.websocket import Socket

log = logging.getLogger(__name__)

VIOLATION = 1008

PIECE = 4_000
"""A frame of audio is heard in pieces of this many samples, between which other sessions have their turn."""

BEHIND_S, BEHIND_AGAIN_S = 5.0, 10.0
"""How late turns come when the client is warned, and how long until it is warned again."""

MISTAKES = 20
"""Errors in a row after which a connection is closed."""

MESSAGE_CHARS = 500
"""Of an error's message: it may repeat what a client sent, but not all of it."""


class Connection:
    """A client's connection, from its first frame to the close.

    Args:
        service: the server.
        socket: the client.
        authorized: whether the request carried a token.
    """

    def __init__(self, service: SharedState, socket: Socket, *, authorized: bool) -> None:
        self._service, self._socket = service, socket
        self._config = service.offer.server
        self._authorized = authorized or not service.tokens
        self._outbox = Outbox(socket, service.telemetry, self._config.slow_reader_s)
        self._due, self._room, self._quiet = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._taken_over = asyncio.Event()
        self._told_at: dict[int, float] = {}  # when an event that has not left came up
        self._listening_since: float | None = None
        self._mistakes = 0
        now = time.monotonic()
        self._frames = Bucket.full(self._config.messages_per_s, 10 * self._config.messages_per_s, now)
        self._inbox = Inbox(self._config)
        self._asked = False  # whether the session has been configured or resumed
        self._counted = False  # whether it is known to have begun
        self._returning: SessionResume | None = None
        self._warned_at = -math.inf
        self._claim: Claim | None = None
        self._open(f"s_{secrets.token_hex(8)}", None)

    @property
    def unread(self) -> int:
        """Messages that wait to be sent."""
        return self._outbox.unread

    @property
    def owner(self) -> int:
        """The number of its claim on the session, 0 before there is one."""
        return 0 if self._claim is None else self._claim.owner

    def on_taken_over(self) -> None:
        """The session goes on elsewhere."""
        self._taken_over.set()

    async def run(self) -> None:
        """Serve the client until the end."""
        closed = LOST
        try:
            closed = await close_reason_of(self._converse(), lambda: self.live.session_id)
            self._worker.detach(self.live.session)
            if closed.code == VIOLATION:  # whoever sends too much cannot come again at once to send more
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._config.penalty_s):
                        await self._service.leaving.wait()
            if closed.there:
                failed = None if closed.refusal is None else self._failed(closed.refusal)
                reason = "" if closed.refusal is None else closed.refusal.code
                await self._outbox.farewell(closed.code, reason, failed)
        finally:
            self._worker.detach(self.live.session)
            self._service.leave(self.live.session_id, self)
            self._service.telemetry.ended.labels(closed.code).inc()
            about = {"session": self.live.session_id, "code": closed.code, "audio_ms": self.live.received_ms}
            log.info("connection ended", extra=about)

    async def _converse(self) -> None:
        """Admit the client, then do all there is to do at once, until one of it ends the connection."""
        await self._admit()
        async with asyncio.TaskGroup() as tasks:
            parts = (
                self._write(),
                self._read(),
                self._hear(),
                self._advance(),
                self._watch(),
                self._yield(),
                self._leave(),
            )
            for part in parts:
                tasks.create_task(part)

    # --- the beginning ----------------------------------------------------------------------------

    async def _admit(self) -> None:
        """Know the client, make room for its session, and say so."""
        admission = Admission(self._service, self._socket)
        if not self._authorized:
            await admission.authenticate()
        try:
            self._service.enter(self.live.session_id, self)
        except Refusal as full:
            self._returning = await admission.returning(full)
        save_point = self.live.save_point(always=True)
        assert save_point is not None
        self._claim, token = await Claim.of_new(self._service, self.live.session_id, save_point.header)
        await self._outbox.put(self.live.created(token, self._service.version))

    def _open(self, session_id: str, kept: tuple[bytes, Mapping[int, bytes]] | None) -> None:
        self.live = LiveSession(self._service.offer, session_id, _now, kept)
        self._attach()

    def _attach(self) -> None:
        """Have the session's work done by its engine's worker."""
        model = self.live.terms.asked.model or next(iter(self._service.workers))
        self._worker = self._service.workers[model]
        # The worker keeps `arrived` as long as there is the session: it must not hold on to the session.
        loop, due = asyncio.get_running_loop(), self._due

        def arrived() -> None:
            with contextlib.suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(due.set)

        self._worker.attach(self.live.session, arrived, low_priority=not self.live.paced)

    async def _resume(self, message: SessionResume) -> None:
        """Go on with the session of the token, in the place of the one that was just begun."""
        await self._know_whether_begun()
        if self._asked or self.live.begun:
            raise Refusal("out_of_order", "expected session.resume as the first message, got it later")
        fresh, service = self._claim, self._service
        assert fresh is not None
        try:
            seen = await Claim.look(service, message.resume_token)
            kept = LiveSession(service.offer, seen.session_id, _now, (seen.header, seen.steps))
            kept.resumed(message.last_event_id)  # what cannot be gone on with is refused before it is taken
            claim, saved = await Claim.of_token(service, message.resume_token)
        finally:
            await fresh.forget()
        other = service.connections.get(claim.session_id)
        if other is not None and other.owner > claim.owner:
            raise Refusal("taken_over", "expected one connection, the session was resumed on another one")
        if other is not None:
            other.on_taken_over()
        service.leave(fresh.session_id, self)
        self._open(claim.session_id, (saved.header, saved.steps))
        self._claim, self._asked, self._counted = claim, True, True
        service.enter(claim.session_id, self)
        now = time.time()
        away_s = min(max(0.0, now - saved.saved_at), self._config.retention_s)
        self._inbox.resume(self.live.received_ms, now - _seconds(self.live.began), away_s)
        service.telemetry.opened.labels("resumed").inc()
        about = {"session": claim.session_id, "peer": self._socket.peer, "away_s": round(away_s, 3)}
        log.info("session resumed", extra=about)
        await self._outbox.put(self.live.resumed(message.last_event_id))
        async for event in claim.events(message.last_event_id):
            await self._outbox.put(event)
        if saved.closed:
            await self._outbox.end()

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        if self._returning is not None:
            await self._resume(self._returning)
        while True:
            self._listening_since = time.monotonic()
            frame = await self._socket.receive()
            self._listening_since = None
            try:
                if isinstance(frame, bytes):
                    await self._take_audio(frame)
                else:
                    await self._take_text(frame)
            except Refusal as refusal:
                await self._refuse(refusal)

    async def _take_audio(self, data: bytes) -> None:
        """Audio joins the line."""
        samples, duration_ms = self.live.decode(data)
        due = self._inbox.due(duration_ms) if self.live.paced else 0.0
        self._begin()
        self._service.telemetry.audio.inc(duration_ms / 1000)
        await self._inbox.put(samples, due=due, wait=not self.live.paced)

    async def _hear(self) -> None:
        """Take in what is in line, each when it is due."""
        while True:
            item = await self._inbox.next()
            try:
                if item is None:
                    self.live.close()
                elif isinstance(item, TurnAppend | TurnCorrect | SpeakerRename):
                    self.live.receive(item)
                    self._begin()
                else:
                    pieces = max(1, -(-len(item) // PIECE))
                    for k in range(pieces):
                        self.live.hear(item[k * PIECE : (k + 1) * PIECE])
                        await self._taken()
            except Refusal as refusal:
                await self._refuse(refusal)
            await self._taken()
            self._inbox.done()

    async def _take_text(self, text: str) -> None:
        if not self._frames.take(1, time.monotonic()):
            most = self._config.messages_per_s
            raise Refusal("too_many_messages", f"expected at most {most:g} text frames a second, got more")
        match parse(text):
            case Ping(id=name):
                self._mistakes = 0
                await self._outbox.put(messages.Pong(**self.live.encoder.envelope(), id=name))
            case SessionUpdate() as asked:
                await self._know_whether_begun()
                answer = self.live.update(asked)
                self._asked, self._mistakes = True, 0
                self._attach()
                await self._keep(self.live.save_point(always=True))
                await self._outbox.put(answer)
            case SessionResume() as message:
                await self._resume(message)
            case SessionClose():
                self.live.request_close()
                self._begin()
                await self._inbox.put(None, wait=not self.live.paced)
            case SessionAuthenticate():
                pass  # it was known before
            case message:
                self.live.check_open("an input")
                await self._inbox.put(message, wait=not self.live.paced)

    async def _know_whether_begun(self) -> None:
        """Have inputs examined that came before; audio begins a session by coming."""
        if not self.live.begun:
            await self._inbox.empty()

    def _begin(self) -> None:
        """Count the session as begun, and the errors in a row anew: something was accepted."""
        self._mistakes = 0
        if not self._counted:
            self._counted = True
            self._service.telemetry.opened.labels("new").inc()
            log.info("session begun", extra={"session": self.live.session_id, "peer": self._socket.peer})

    async def _taken(self) -> None:
        """Have the session moved on, and wait until it can take more."""
        self._room.clear()
        self._due.set()
        await self._room.wait()

    async def _refuse(self, refusal: Refusal) -> None:
        """Tell of an error; end the connection where it must end."""
        if refusal.close_code is not None:
            raise refusal
        self._mistakes += 1
        if self._mistakes >= MISTAKES:
            raise Refusal("too_many_errors", f"expected a usable message, got {MISTAKES} errors in a row")
        await self._outbox.put(self._failed(refusal))

    def _failed(self, refusal: Refusal) -> messages.Failed:
        """Return the error that tells a client of a refusal."""
        return self._counted_error(
            messages.Failed(
                **self.live.encoder.envelope(),
                code=refusal.code,
                message=str(refusal),
                retryable=refusal.retryable,
            )
        )

    def _counted_error(self, error: messages.Failed) -> messages.Failed:
        """Count an error in the metrics; return it with its text in one line."""
        self._service.telemetry.errors.labels(error.code).inc()
        return msgspec.structs.replace(error, message=_in_one_line(error.message))

    # --- moving on --------------------------------------------------------------------------------

    async def _advance(self) -> None:
        """Hear, hand out work, take answers, keep what is settled, tell it."""
        while True:
            await self._due.wait()
            self._due.clear()
            live = self.live
            events = self._worker.poll(live.session)
            if not self._worker.busy(live.session) and not live.session.input_queue_full:
                self._room.set()
            before, now = live.encoder.event_id, time.monotonic()
            live.tell(events)
            self._told_at.update((number, now) for number in range(before + 1, live.encoder.event_id + 1))
            while (save_point := live.save_point()) is not None:
                await self._keep(save_point)
                live.saved(save_point)
                if save_point.closed:
                    break
            for message in live.outgoing():
                self._service.telemetry.count_turn(message)
                if isinstance(message, messages.Failed):  # a rejected input, reported in input order
                    message = self._counted_error(message)
                await self._outbox.put(message, self._told_at.pop(event_id_of(message), None))
                if isinstance(message, messages.SessionClosed):
                    await self._outbox.end()
            if not self._worker.pending(live.session):
                self._quiet.set()

    async def _keep(self, save_point: SavePoint | None) -> None:
        """Store a save_point."""
        assert save_point is not None and self._claim is not None
        await self._claim.save(save_point)

    async def _write(self) -> None:
        await self._outbox.run()
        raise CloseConnection(1000)

    # --- watching ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Heartbeats, silence, and that the store does not forget the session."""
        while True:
            await asyncio.sleep(min(1.0, self._config.heartbeat_s / 2))
            now, idle_s = time.monotonic(), self._config.idle_timeout_s
            silent_s = 0.0 if self._listening_since is None else now - self._listening_since
            owed = self.live.closing and (len(self._inbox) or self._worker.pending(self.live.session)) > 0
            if silent_s > idle_s and not owed:
                raise Refusal("idle", f"expected audio, a message or a ping within {idle_s:g} s, got nothing")
            if now - self._outbox.sent_at > self._config.heartbeat_s and not self._outbox.unread:
                envelope = self.live.encoder.envelope()
                beat = messages.Heartbeat(**envelope, audio_ms=self.live.received_ms)
                await self._outbox.put(beat)
            late_s = self._worker.late_s(self.live.session) if self.live.paced else 0.0
            if late_s > BEHIND_S and now - self._warned_at > BEHIND_AGAIN_S:
                self._warned_at = now
                told = f"turns come {late_s:.0f} s late: there is more to do than the server can"
                envelope = self.live.encoder.envelope()
                await self._outbox.put(messages.Warned(**envelope, code="behind", message=told))
            if self._claim is not None:
                await self._claim.renew()

    async def _yield(self) -> None:
        """When another connection resumed the session: leave it to that one."""
        await self._taken_over.wait()
        raise Refusal("taken_over", "expected one connection, the session was resumed on another one")

    async def _leave(self) -> None:
        """When the server stops: say so, let what was heard come to its end, close."""
        await self._service.leaving.wait()
        left_ms = round(1000 * self._config.drain_s)
        envelope = self.live.encoder.envelope()
        leaving = messages.SessionGoingAway(**envelope, reason="the server stops", time_left_ms=left_ms)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await self._outbox.put(leaving)
                self._quiet.clear()
                self._due.set()
                await self._quiet.wait()
                await self._outbox.drained()
        raise CloseConnection(1012)


def _in_one_line(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= MESSAGE_CHARS else f"{line[: MESSAGE_CHARS - 4]} ..."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(iso: str) -> float:
    """ISO 8601 as seconds since the epoch; long ago where there is none."""
    return datetime.fromisoformat(iso).timestamp() if iso else 0.0
