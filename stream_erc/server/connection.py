"""One client's connection: frames in, work done, save points stored, messages out.

Its tasks share a `LiveSession` on the event loop. `_read` puts frames into the inbox, `_hear` feeds them to
the session, `_advance` exchanges work and results with the worker and stores save points, `_write` sends
messages. Each waits for the next: a client that does not read is not read from either, and delays nobody
else.
"""

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from stream_erc.events import Event, KnownVoice, Samples, VoiceEnrolled
from stream_erc.exceptions import StoreError, VoicesError
from stream_erc.protocol import messages
from stream_erc.protocol.encoding import event_id_of, parse
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.live_session import LiveSession
from stream_erc.protocol.messages import (
    Input,
    InputSkip,
    Ping,
    SessionAuthenticate,
    SessionClose,
    SessionDelete,
    SessionExport,
    SessionResume,
    SessionUpdate,
    VoiceEnrol,
)
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.admission import Admission
from stream_erc.server.claim import Claim
from stream_erc.server.closing import LOST, CloseConnection, close_reason_of
from stream_erc.server.exporting import export_formats, export_session
from stream_erc.server.inbox import Inbox
from stream_erc.server.limits import Account, Bucket
from stream_erc.server.outbox import Outbox
from stream_erc.server.refusals import Refusals
from stream_erc.server.shared import SharedState
from stream_erc.server.websocket import Socket

log = logging.getLogger(__name__)

FINISHED, POLICY_VIOLATION = 1000, 1008

AUDIO_SLICE_SAMPLES = 4_000
"""Samples that the session takes in at a time, so that other sessions can run between them."""

LATE_WARNING_S, LATE_WARNING_INTERVAL_S = 5.0, 10.0
"""Delay of turns above which the client is warned, and the shortest time between two warnings."""

REFUSED_BYTES_PER_S = 4 * 2**20
"""Rate at which what is refused is read: it has cost time that others wait for."""

TEXTS_PER_S, TEXTS_AT_ONCE = 16 * 2**10, 256 * 2**10
"""Characters of text frames, clips of voices left out, that are read in a second, and at once.

People speak and write less than 50. What comes faster takes the time of other sessions, and is read later.
"""

WATCH_INTERVAL_S = 0.5

MUTED_S = 1.5
"""A live client that has sent no audio for this long has stopped in the midst of its turn: it ends there."""


class Connection:
    """A client's connection, from its first frame to the close.

    Args:
        shared: what the server's connections share.
        socket: the client's WebSocket.
        authorized: whether the request carried a valid token.
    """

    def __init__(self, shared: SharedState, socket: Socket, *, authorized: bool) -> None:
        self._shared, self._socket = shared, socket
        self._config = shared.offer.server
        self._authorized = authorized or not shared.tokens
        self._account = Account(shared.budget)
        self._in_session = 0  # bytes of the account that wait in the session
        self._outbox = Outbox(socket, shared.telemetry, self._account, self._config.slow_reader_s)
        self._wake = asyncio.Event()  # there may be something for `_advance` to do
        self._room = asyncio.Event()  # the session can take in more
        self._settled = asyncio.Event()  # no work is pending, and all messages are in the outbox
        self._gives_way: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()
        self._reported_at: dict[int, float] = {}  # event id -> when its event was reported, until it is sent
        self._listening_since: float | None = None  # while `_read` waits for a frame
        self._heard_at: float | None = None  # when audio was last taken in
        self._pong: asyncio.Future[float] | None = None  # while the client is asked whether it is there
        self._refusals = Refusals(shared.telemetry)
        self._used_at = now = time.monotonic()
        self._frames = Bucket.full(self._config.messages_per_s, 10 * self._config.messages_per_s, now)
        self._texts = Bucket.full(TEXTS_PER_S, TEXTS_AT_ONCE, now)
        self._inbox = Inbox(self._config, self._account)
        self._configured = False  # whether the session has been configured or resumed
        self._counted = False  # whether the metrics count the session as begun or resumed
        self._request: SessionResume | SessionExport | None = None  # received on a full server
        self._warned_at = -math.inf
        self._kept = False  # whether the client asked to keep the session after its end
        self._deleting = False  # whether the client asked to delete the session now
        self._claim: Claim | None = None
        self._open(f"s_{secrets.token_hex(8)}", None)

    @property
    def unread(self) -> int:
        """Number of messages waiting to be sent."""
        return self._outbox.unread

    @property
    def owner(self) -> int:
        """The owner number of its claim on the session; 0 before it has one."""
        return 0 if self._claim is None else self._claim.owner

    @property
    def peer(self) -> str:
        """Its client's address."""
        return self._socket.peer

    @property
    def used_at(self) -> float:
        """Time of its last audio or input, or of the work on it, on the monotonic clock."""
        working = len(self._inbox) or self._worker.pending(self.live.session)
        return time.monotonic() if working else self._used_at

    def on_taken_over(self) -> None:
        """Close the connection: another one has resumed its session."""
        self._give_way("taken_over", "expected one connection, the session was resumed on another one")

    def on_place_wanted(self) -> None:
        """Close the connection: its session only sends pings, and another one needs its place."""
        idle_s = self._config.idle_timeout_s
        self._give_way("idle", f"expected audio or an input within {idle_s:g} s on a full server, got none")

    def _give_way(self, code: str, message: str) -> None:
        if not self._gives_way.done():
            self._gives_way.set_result(Refusal(code, message))

    async def run(self) -> None:
        """Serve the client until the end."""
        closed = LOST
        try:
            closed = await close_reason_of(self._converse(), lambda: self.live.session_id)
            self._worker.detach(self.live.session)
            if closed.code == POLICY_VIOLATION:  # delay the close, and with it an immediate reconnection
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._config.penalty_s):
                        await self._shared.stopping.wait()
            if closed.connected:
                refusal = closed.refusal
                error = None if refusal is None else self._refusals.error(refusal, self.live.encoder)
                had_all = await self._outbox.close(
                    closed.code, "" if refusal is None else refusal.code, error
                )
                if closed.code == FINISHED and had_all and not self._kept:
                    await self._forget()
        finally:
            self._worker.detach(self.live.session)
            self._account.close()
            self._shared.leave(self.live.session_id, self)
            self._shared.telemetry.ended.labels(closed.code).inc()
            about = {"session": self.live.session_id, "code": closed.code, "audio_ms": self.live.received_ms}
            log.info("connection ended", extra=about)

    async def _forget(self) -> None:
        """Delete the session, which nobody needs any more; what fails is left to its expiry."""
        claim, self._claim = self._claim, None
        if claim is None:
            return
        try:
            await claim.forget()
        except (Refusal, StoreError) as error:
            log.warning("%s", error, extra={"session": self.live.session_id})

    async def _converse(self) -> None:
        """Admit the client, then run all tasks until one of them ends the connection."""
        await self._admit()
        async with asyncio.TaskGroup() as tasks:
            jobs = (
                self._write(),
                self._read(),
                self._hear(),
                self._advance(),
                self._watch(),
                self._wait_to_give_way(),
                self._drain(),
            )
            for job in jobs:
                tasks.create_task(job)

    # --- beginning --------------------------------------------------------------------------------

    async def _admit(self) -> None:
        """Authenticate the client, reserve a place for its session, store it and send ``session.created``."""
        admission = Admission(self._shared, self._socket)
        if not self._authorized:
            await admission.authenticate()
        try:
            self._shared.enter(self.live.session_id, self)
        except Refusal as full:
            self._request = await admission.wait_for_stored_session(full)
        self._socket.allow(self._config.max_message_bytes)
        save_point = self.live.save_point(always=True)
        assert save_point is not None
        self._claim, token = await Claim.create(self._shared, self.live.session_id, save_point.header)
        voices = await self._shared.call_store(self._shared.voices.read)
        created = self.live.created(token, self._shared.version, voices.names, export_formats())
        await self._outbox.put(created)

    def _open(self, session_id: str, stored: tuple[bytes, Mapping[int, bytes]] | None) -> None:
        """Open a new session, or resume one from the header and steps of its last save."""
        self.live = LiveSession(self._shared.offer, session_id, _now, stored)
        self._attach()

    def _attach(self) -> None:
        """Attach the session to the worker of its engine."""
        model = self.live.terms.requested.model or next(iter(self._shared.workers))
        self._worker = self._shared.workers[model]
        # The worker holds `wake` for the session's lifetime: `wake` must not refer to the session.
        loop, event = asyncio.get_running_loop(), self._wake

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(event.set)

        self._worker.attach(self.live.session, wake, low_priority=not self.live.paced)

    async def _resume(self, message: SessionResume) -> None:
        """Continue the session of the token in place of this connection's new one.

        The order of the steps keeps two connections from writing one session.
        """
        # 1. Refuse unless the new session is untouched.
        await self._await_inputs_if_not_begun()
        if self._configured or self.live.begun:
            raise Refusal("out_of_order", "expected session.resume as the first message, got it later")
        new, shared = self._claim, self._shared
        assert new is not None
        try:
            # 2. Read the stored session without claiming it: a refusal leaves its owner undisturbed.
            seen = await Claim.look_up(shared, message.resume_token)
            LiveSession(shared.offer, seen.session_id, _now, (seen.header, seen.steps))
            # 3. Claim it. From here on the store refuses the writes of every earlier owner.
            claim, saved = await Claim.take_over(shared, message.resume_token)
        finally:
            # 4. Delete the new session, even after a refusal: no client will use it.
            await new.forget()
        # 5. If two connections of this server have claimed it, the later claim wins. An older one can have a
        #    higher owner number, if the store has gone back in time since: then the store knows this one.
        asked = None
        while (other := shared.connections.get(claim.session_id)) is not asked:
            asked = other
            if other is not None and other.owner > claim.owner:
                await claim.renew(now=True)
        if other is not None:
            other.on_taken_over()
        # 6. Replace the new session with the claimed one: no await since step 5, so nobody comes between.
        shared.leave(new.session_id, self)
        self._open(claim.session_id, (saved.header, saved.steps))
        self._claim, self._configured, self._counted = claim, True, True
        shared.enter(claim.session_id, self)
        # 7. Allow the audio that the client held back while it was away.
        away_s = min(max(0.0, shared.clock.now() - saved.saved_at), self._config.retention_s)
        self._inbox.resume(self.live.received_ms, time.time() - _seconds(self.live.began), away_s)
        shared.telemetry.opened.labels("resumed").inc()
        about = {"session": claim.session_id, "peer": self._socket.peer, "away_s": round(away_s, 3)}
        log.info("session resumed", extra=about)
        # 8. Answer, then send the events that the client has missed, before any new one.
        await self._outbox.put(self.live.resumed())
        async for event in claim.events(message.last_event_id):
            await self._outbox.put(event)
        if saved.closed:
            await self._outbox.end()

    async def _export(self, message: SessionExport) -> None:
        """Answer with another session as a file, then close; this connection's own session is dropped."""
        await self._await_inputs_if_not_begun()
        if self._configured or self.live.begun:
            raise Refusal("out_of_order", "expected session.export as the first message, got it later")
        assert self._claim is not None
        exported = await export_session(self._shared, message, _now)
        await self._claim.forget()
        await self._outbox.put(exported)
        await self._outbox.end()

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Receive frames and put them into the inbox, or answer them at once."""
        match self._request:
            case SessionResume() as message:
                await self._resume(message)
            case SessionExport() as message:
                await self._export(message)
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
                await asyncio.sleep(len(frame) / REFUSED_BYTES_PER_S)

    async def _take_audio(self, data: bytes) -> None:
        """Put a frame of audio into the inbox."""
        samples, duration_ms = self.live.decode(data)
        due = self._inbox.due(duration_ms) if self.live.paced else 0.0
        self._count_accepted()
        self._shared.telemetry.audio.inc(duration_ms * _channels_of(samples) / 1000)
        await self._inbox.put(samples, due=due, wait=not self.live.paced)

    async def _hear(self) -> None:
        """Feed the session from the inbox, each item when it is due."""
        while True:
            item = await self._inbox.next()
            try:
                if item is None:
                    self.live.close()
                elif isinstance(item, Input):
                    self.live.receive(item)
                    self._count_waiting()
                    self._count_accepted()
                else:
                    size = AUDIO_SLICE_SAMPLES // _channels_of(item)
                    self._heard_at = None  # the client is not mute while the session has yet to hear it
                    for at in range(0, max(1, len(item)), size):
                        self.live.hear(item[at : at + size])
                        await self._wait_for_room()
                    self._heard_at = time.monotonic()
            except Refusal as refusal:
                await self._refuse(refusal)
            await self._wait_for_room()
            self._inbox.done()

    async def _take_text(self, text: str) -> None:
        """Act on a text frame, or put its input into the inbox."""
        if not self._frames.take(1, time.monotonic()):
            limit = self._config.messages_per_s
            raise Refusal("too_many_messages", f"expected at most {limit:g} text frames a second, got more")
        if self._deleting:
            return  # nothing comes after it
        message = parse(text)
        if not isinstance(message, VoiceEnrol):
            await asyncio.sleep(self._texts.owe(len(text), time.monotonic()))
        match message:
            case Ping(id=ping_id):
                self._refusals.accept()
                await self._outbox.put(messages.Pong(**self.live.encoder.envelope(), id=ping_id))
            case SessionUpdate() as update:
                await self._await_inputs_if_not_begun()
                answer = self.live.update(update, await self._known_voices(update.voices or ()))
                self._configured = True
                self._refusals.accept()
                self._attach()
                await self._store(self.live.save_point(always=True))
                await self._outbox.put(answer)
            case SessionResume() as message:
                await self._resume(message)
            case SessionExport() as message:
                await self._export(message)
            case InputSkip() as skip:
                for silence in self.live.skip(skip):
                    await self._inbox.put(silence, wait=False)
                self._count_accepted()
            case SessionDelete():
                self._deleting = True
                self._wake.set()
            case SessionClose(keep=keep):
                self.live.request_close()
                self._kept = keep
                self._count_accepted()
                await self._inbox.put(None, wait=not self.live.paced)
            case SessionAuthenticate():
                pass  # the client is authenticated already
            case _:
                self.live.check_open("an input")
                await self._inbox.put(message, wait=not self.live.paced)

    async def _known_voices(self, names: tuple[str, ...]) -> tuple[KnownVoice, ...]:
        """Return the known voices of some names.

        Raises:
            Refusal: ``invalid_configuration`` if there is none of that name.
        """
        if not names:
            return ()
        known = await self._shared.call_store(self._shared.voices.read)
        try:
            return known.select(names)
        except VoicesError as error:
            raise Refusal("invalid_configuration", str(error)) from error

    async def _await_inputs_if_not_begun(self) -> None:
        """Wait until earlier inputs have been accepted or refused: an accepted one begins the session.

        Audio needs no wait: it begins the session on its arrival.
        """
        if not self.live.begun:
            await self._inbox.empty()

    def _count_accepted(self) -> None:
        """Record that something was accepted: it ends a row of errors and begins the session."""
        self._used_at = time.monotonic()
        self._refusals.accept()
        if not self._counted:
            self._counted = True
            self._shared.telemetry.opened.labels("new").inc()
            log.info("session begun", extra={"session": self.live.session_id, "peer": self._socket.peer})

    def _count_waiting(self) -> None:
        """Count the bytes that wait in the session.

        Raises:
            Refusal: ``too_many_messages`` if they wait for audio, and the server has no room for that.
        """
        before = self._in_session
        self._in_session = self.live.session.waiting_bytes + self.live.session.waiting_audio_bytes
        self._account.change(self._in_session - before)
        if self._account.over and self.live.session.turn_awaits_audio:
            raise Refusal(
                "too_many_messages",
                "expected less to wait for audio on a server that holds so much, got more",
            )

    async def _wait_for_room(self) -> None:
        """Wake `_advance` and wait until the session can take in more."""
        self._room.clear()
        self._wake.set()
        await self._room.wait()

    async def _refuse(self, refusal: Refusal) -> None:
        """Send an error; raise the refusal if it ends the connection."""
        await self._outbox.put(self._refusals.refuse(refusal, self.live.encoder))

    # --- progress --------------------------------------------------------------------------------

    async def _advance(self) -> None:
        """Exchange work and results with the worker, store save points, and send the session's messages."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            live = self.live
            if self._deleting:
                await self._delete()
                return
            # 1. Take the worker's results, and hand it new work.
            events = await self._new_events()
            self._count_waiting()
            if not self._worker.busy(live.session) and not live.session.input_queue_full:
                self._room.set()
            before, now = live.encoder.event_id, time.monotonic()
            # 2. Number the events.
            live.report(events)
            self._reported_at.update((number, now) for number in range(before + 1, live.encoder.event_id + 1))
            # 3. Store them before any of them is sent: a resumed session knows all that its client knows.
            while (save_point := live.save_point()) is not None:
                await self._store(save_point)
                live.saved(save_point)
                if save_point.closed:
                    break
            # 4. Send the stored events, and the messages before them that need no storing.
            for message in live.outgoing():
                self._shared.telemetry.count_turn(message)
                if isinstance(message, messages.Failed):  # a rejected input, reported in input order
                    message = self._refusals.count(message)
                await self._outbox.put(message, self._reported_at.pop(event_id_of(message), None))
                if isinstance(message, messages.SessionClosed):
                    await self._outbox.end()
            if not self._worker.pending(live.session):
                self._settled.set()

    async def _delete(self) -> None:
        """Delete the session as its client asked, and end the connection with the answer."""
        self._worker.detach(self.live.session)
        claim, self._claim = self._claim, None  # a deleted session is not renewed
        assert claim is not None
        await claim.forget()
        await self._outbox.put(messages.SessionDeleted(**self.live.encoder.envelope()))
        await self._outbox.end()

    async def _new_events(self) -> list[Event]:
        """Take the session's new events, and keep the voices that its client asked to keep.

        Inputs may come while a voice is being kept, so that events are taken again: all that the session has
        counted must be reported before it is saved.
        """
        events: list[Event] = []
        while new := self._worker.poll(self.live.session):
            events += new
            for k, event in enumerate(events):
                if isinstance(event, VoiceEnrolled) and event.keep and event in new:
                    events[k] = replace(event, keep=await self._keep(event))
        return events

    async def _keep(self, voice: VoiceEnrolled) -> bool:
        """Keep a voice for other sessions, and return whether that succeeded."""
        kept = await self._shared.call_store(partial(self._shared.voices.keep, voice))
        if not kept:
            text = f"the voice of {voice.name} could not be kept; it is known in this session"
            envelope = self.live.encoder.envelope()
            await self._outbox.put(messages.Warned(**envelope, code="voice_not_kept", message=text))
        return kept

    async def _store(self, save_point: SavePoint | None) -> None:
        """Store a save point."""
        assert save_point is not None and self._claim is not None
        await self._claim.save(save_point)

    async def _write(self) -> None:
        """Send messages to the last one, then close the connection."""
        await self._outbox.run()
        raise CloseConnection(FINISHED)

    # --- watching ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Send heartbeats and warnings, close an idle connection, and renew the session in the store."""
        while True:
            await asyncio.sleep(min(WATCH_INTERVAL_S, self._config.heartbeat_s / 2))
            now, idle_s = time.monotonic(), self._config.idle_timeout_s
            silent_s = 0.0 if self._listening_since is None else now - self._listening_since
            busy = self.live.closing and (len(self._inbox) or self._worker.pending(self.live.session)) > 0
            if silent_s > idle_s and not busy:
                raise Refusal("idle", f"expected audio, a message or a ping within {idle_s:g} s, got nothing")
            await self._end_muted_turn(now)
            if now - self._outbox.sent_at > self._config.heartbeat_s and not self._outbox.unread:
                envelope = self.live.encoder.envelope()
                beat = messages.Heartbeat(**envelope, audio_ms=self.live.received_ms)
                await self._outbox.put(beat)
            late_s = self._worker.late_s(self.live.session) if self.live.paced else 0.0
            if late_s > LATE_WARNING_S and now - self._warned_at > LATE_WARNING_INTERVAL_S:
                self._warned_at = now
                text = f"turns come {late_s:.0f} s late: the server is overloaded"
                envelope = self.live.encoder.envelope()
                await self._outbox.put(messages.Warned(**envelope, code="behind", message=text))
            if self._claim is not None:
                await self._claim.renew()

    async def _end_muted_turn(self, now: float) -> None:
        """End the turn of a live client that is there, but has sent no audio for a while.

        Its pong tells it from one whose network is slow: audio that is on its way would come before that.
        """
        silent_s = 0.0 if self._heard_at is None else now - self._heard_at
        if silent_s < MUTED_S or len(self._inbox) or not (self.live.paced and self.live.session.speaking):
            self._pong = None
        elif self._pong is None:
            self._pong = await self._socket.ping()
        elif self._pong.done() and not self._pong.cancelled() and self._pong.exception() is None:
            self._pong = self._heard_at = None
            self.live.end_turn()
            self._wake.set()

    async def _wait_to_give_way(self) -> None:
        """Wait until another connection resumes the session, or needs its place, then close this one."""
        raise await self._gives_way

    async def _drain(self) -> None:
        """Wait until the server stops, then announce it, finish pending work and close."""
        await self._shared.stopping.wait()
        left_ms = round(1000 * self._config.drain_s)
        envelope = self.live.encoder.envelope()
        going_away = messages.SessionGoingAway(**envelope, reason="the server stops", time_left_ms=left_ms)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await self._outbox.put(going_away)
                self._settled.clear()
                self._wake.set()
                await self._settled.wait()
                await self._outbox.drained()
        raise CloseConnection(1012)


def _now() -> str:
    """Return the time as ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(iso: str) -> float:
    """Return an ISO 8601 time as seconds since the epoch, 0 for an empty text."""
    return datetime.fromisoformat(iso).timestamp() if iso else 0.0


def _channels_of(samples: Samples) -> int:
    """Return the number of channels of (N,) or (N, C)."""
    return 1 if samples.ndim == 1 else samples.shape[1]
