"""One client's session, without I/O: input from the client, messages to it, and save points.

The owner of a session (a server's connection, a test) repeats these steps, in this order::

    live.hear(samples)                               # 1. input: audio, or live.receive(message)
    live.report(worker.poll(live.session))           # 2. events
    while (due := live.save_point()) is not None:    # 3. store the save point, all or nothing, then
        live.saved(due)
    for message in live.outgoing(): ...              # 4. send

An event is sent only after a save point with it has been stored, so that a resumed session knows every turn
that its client knows.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.core import snapshots
from stream_erc.core.session import Session, Snapshot
from stream_erc.events import (
    ClientInput,
    ClipEnrolment,
    Event,
    GivenTurn,
    KnownVoice,
    Samples,
    SpeakerRenaming,
    TurnCorrection,
    TurnEnrolment,
)
from stream_erc.exceptions import AudioError, ConfigError, InputError, VoicesError
from stream_erc.protocol import messages
from stream_erc.protocol.encoding import MessageEncoder, event_id_of, to_json, to_message
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import (
    PROTOCOL_VERSION,
    Input,
    InputSkip,
    ServerMessage,
    SessionUpdate,
    SpeakerRename,
    TurnAppend,
    TurnCorrect,
    VoiceEnrol,
)
from stream_erc.protocol.negotiation import ENCODINGS, Offer, SessionTerms
from stream_erc.protocol.save_point import SavePoint
from stream_erc.protocol.wire_audio import WireAudio, decode_clip, send_from_ms

SAVE_INTERVAL_SAMPLES = 4 * SAMPLE_RATE
"""Samples after which a save point is due even without an event: to send again costs less than to write."""

MAX_WAITING_INPUTS = 1_000
"""Number of inputs that may wait for audio, or for one another."""

MAX_WAITING_BYTES = 4 * 2**20
"""Size of the waiting inputs above which no more may come."""

MAX_EVENTS_BYTES = 16 * 2**20
"""Size of a session's stored events above which it is full."""

MAX_SKIP_MS = 3_600_000
"""Length limit for audio that a client no longer has."""

HEADER_VERSION = 1


class SessionHeader(msgspec.Struct, frozen=True, array_like=True):
    """The header of a save point."""

    version: int
    requested: SessionUpdate
    snapshot: bytes
    began: str = ""
    events_bytes: int = 0
    skipped: int = 0


class LiveSession:
    """A session that speaks the protocol.

    Args:
        offer: the server's models and limits.
        session_id: the session's id on the wire.
        now: returns the time as ISO 8601.
        stored: the header and the steps of a save point to resume from.

    Attributes:
        session: the conversation.
        encoder: makes its messages.
        terms: its configuration.
        begun: whether any audio, input or close has been accepted; the terms are fixed from then on.
        began: time of its creation, ISO 8601; empty if unknown.
        closing: whether the client's ``session.close`` has arrived; nothing that arrives later is accepted.

    Raises:
        Refusal: ``resume_refused`` if `stored` cannot be resumed.
    """

    def __init__(
        self,
        offer: Offer,
        session_id: str,
        now: Callable[[], str],
        stored: tuple[bytes, Mapping[int, bytes]] | None = None,
    ) -> None:
        snapshot = None
        if stored is None:
            self.terms, self.began, self._events_bytes = SessionTerms(offer), now(), 0
            self._skipped = 0  # number of inputs that the client could not send again
        else:
            self.terms, snapshot, header = _restore(offer, *stored)
            self.began, self._events_bytes = header.began, header.events_bytes
            self._skipped = header.skipped
        self._fresh = stored is not None  # nothing has been accepted since the session was resumed
        self.closing = self._closed = False
        self._audio, self.session = _open(self.terms, snapshot)
        first = self.session.snapshot()
        self.begun = first.mark.position > 0 or first.events > 0 or first.inputs > 0
        self._inputs = first.inputs + self._skipped  # number of inputs accepted or skipped
        self._numbered: bool | None = None  # whether inputs carry an `input_id`
        self._steps = {step.analyzed.turn.index: step for step in first.done}
        self._out: deque[ServerMessage] = deque()
        self._saved_events, self._saved_inputs = first.events, self._inputs
        self._saved_audio = first.acknowledged
        self.encoder = MessageEncoder(session_id, event_id=first.events, now=now)

    # --- the beginning ----------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """The session's id on the wire."""
        return self.encoder.session_id

    @property
    def paced(self) -> bool:
        """Whether audio arrives at the speed of speech."""
        return self.terms.requested.pace == "live"

    @property
    def received_ms(self) -> int:
        """Audio received so far, in milliseconds."""
        return self._audio.received_ms

    def created(
        self, resume_token: str, server: str, voices: tuple[str, ...] = (), exports: tuple[str, ...] = ()
    ) -> messages.SessionCreated:
        """Return the first message, with the names of the known voices and the formats of exports."""
        engine = self.terms.engine
        return messages.SessionCreated(
            **self.encoder.envelope(),
            model=engine.classifier.name,
            asr=engine.asr_name,
            labels=engine.classifier.labels,
            protocol=PROTOCOL_VERSION,
            server=server,
            resume_token=resume_token,
            models=self.terms.offer.models(),
            languages=engine.languages,
            encodings=ENCODINGS,
            configuration=self.terms.configuration(),
            limits=self.terms.offer.limits(),
            voices=voices,
            keeps_voices=self.terms.offer.server.keep_voices,
            exports=exports,
        )

    def update(self, requested: SessionUpdate, voices: Sequence[KnownVoice] = ()) -> messages.SessionUpdated:
        """Apply the client's ``session.update``, and return the answer.

        Args:
            requested: the message.
            voices: the known voices whose names it has.

        Raises:
            Refusal: ``invalid_configuration``, or ``out_of_order`` after the first audio or turn.
        """
        if self.begun:
            raise Refusal("out_of_order", "expected session.update before any audio or turn, got it later")
        try:
            terms = SessionTerms(self.terms.offer, requested)
            self._audio, self.session = _open(terms, None, voices)
        except InputError as error:
            raise Refusal("invalid_configuration", str(error)) from error
        self.terms = terms
        return messages.SessionUpdated(**self.encoder.envelope(), configuration=self.terms.configuration())

    def resumed(self) -> messages.SessionResumed:
        """Return the answer to ``session.resume``: where the stored session stands."""
        return messages.SessionResumed(
            **self.encoder.envelope(),
            audio_ms=self._audio.send_from_ms,
            input_id=self._inputs,
            event_id=self.encoder.event_id,
            configuration=self.terms.configuration(),
            limits=self.terms.offer.limits(),
        )

    # --- input ------------------------------------------------------------------------------------

    def skip(self, message: InputSkip) -> Iterator[Samples]:
        """Leave out the input that a client no longer has, right after the session was resumed.

        Returns:
            Silence in place of the audio, at the client's rate, to be taken in with `hear`; (N,) or (N, C).

        Raises:
            Refusal: ``out_of_order``, or ``invalid_audio`` if it is longer than `MAX_SKIP_MS`.
        """
        self.check_open("input.skip")
        if not self._fresh:
            raise Refusal("out_of_order", "expected input.skip right after session.resumed, got it later")
        missing_ms = max(0, message.audio_ms - self._audio.send_from_ms)
        if missing_ms > MAX_SKIP_MS:
            raise Refusal(
                "invalid_audio", f"expected at most {MAX_SKIP_MS} ms of audio to be gone, got {missing_ms}"
            )
        skipped = max(0, message.input_id - self._inputs)
        self._fresh, self._inputs, self._skipped = False, self._inputs + skipped, self._skipped + skipped
        self.begun = self.begun or missing_ms + skipped > 0
        return self._audio.silence(missing_ms)

    def decode(self, data: bytes) -> tuple[Samples, float]:
        """Accept a binary frame on its arrival, to be taken in with `hear`.

        Returns:
            Samples at the client's rate, (N,) or (N, C), and how many milliseconds they last.

        Raises:
            Refusal: ``invalid_audio``, ``session_full``, or ``out_of_order`` after ``session.close``.
        """
        self.check_open("audio")
        self._check_room()
        try:
            samples = self._audio.decode(data)
        except AudioError as error:
            raise Refusal("invalid_audio", str(error)) from error
        duration_ms, longest = self._audio.duration_ms(samples), self.terms.offer.server.max_frame_ms
        total_ms = duration_ms * self.terms.requested.audio.channels
        if total_ms > longest:
            raise Refusal(
                "invalid_audio", f"expected at most {longest} ms of audio in a frame, got {total_ms:.2f}"
            )
        self.begun, self._fresh = True, False
        return samples, duration_ms

    def hear(self, samples: Samples) -> None:
        """Take decoded samples in."""
        self.session.receive_audio(self._audio.push(samples))

    def end_turn(self) -> None:
        """End a turn that is being spoken: the client sends no more audio for now."""
        if not self._closed:
            self.session.end_turn()

    def receive(self, message: Input) -> None:
        """Accept an input, or ignore a repeated one; an event reports later if it is rejected.

        Raises:
            Refusal: its `input_id` is wrong, too many inputs wait, or the session is full or closed.
        """
        _refuse_after_close("an input", self._closed)
        self._check_room()
        if self._numbered not in (None, message.input_id is not None):
            raise Refusal("invalid_input_id", "expected an input_id in all inputs or in none, got some")
        if message.input_id is not None:
            if message.input_id > self._inputs + 1:
                raise Refusal(
                    "invalid_input_id", f"expected the input_id {self._inputs + 1}, got {message.input_id}"
                )
            if message.input_id <= self._inputs:
                return
        if self.session.waiting >= MAX_WAITING_INPUTS:
            raise Refusal(
                "too_many_messages", f"expected at most {MAX_WAITING_INPUTS} inputs to wait, got more"
            )
        if self.session.waiting_bytes > MAX_WAITING_BYTES:
            limit = MAX_WAITING_BYTES // 2**20
            raise Refusal("too_many_messages", f"expected at most {limit} MiB of inputs to wait, got more")
        self._numbered, self.begun, self._fresh = message.input_id is not None, True, False
        self._inputs += 1
        try:
            self.session.submit(_to_input(message, keeps_voices=self.terms.offer.server.keep_voices))
        except InputError as error:  # of an enrolment; it is rejected in input order
            assert isinstance(message, VoiceEnrol)
            self.session.submit(TurnEnrolment(message.turn or 0, message.name), str(error))

    def check_open(self, what: str) -> None:
        """Refuse what arrives after ``session.close``, even while earlier input still waits to be taken in.

        Raises:
            Refusal: ``out_of_order``.
        """
        _refuse_after_close(what, self.closing)

    def request_close(self) -> None:
        """Accept ``session.close`` on its arrival: `close` follows when all earlier input has been taken in.

        Raises:
            Refusal: ``out_of_order`` if a close was requested before.
        """
        self.check_open("it again")
        self.closing = self.begun = True

    def close(self) -> None:
        """End the input.

        Raises:
            Refusal: ``out_of_order`` if it has ended before.
        """
        _refuse_after_close("it again", self._closed)
        self.closing = self.begun = self._closed = True
        self.session.receive_audio(self._audio.flush())
        self.session.receive_eof()

    # --- output ------------------------------------------------------------------------------------

    def report(self, events: Iterable[Event]) -> None:
        """Queue the messages of the session's events."""
        for event in events:
            message = self.encoder.encode(self.terms.restrict_labels(event))
            if isinstance(message, messages.Failed):
                number = message.input_id or 0
                input_id = number + self._skipped if self._numbered else None
                message = msgspec.structs.replace(message, input_id=input_id)
            self._out.append(message)

    def save_point(self, *, always: bool = False) -> SavePoint | None:
        """Return what has to be stored before more can be sent.

        Returns:
            The save point; None if none is due, unless `always` is set.
        """
        snapshot = self.session.snapshot()
        events = [(n, m) for m in self._out if self._saved_events < (n := event_id_of(m)) <= snapshot.events]
        unsaved, inputs = snapshot.acknowledged - self._saved_audio, snapshot.inputs + self._skipped
        advanced = unsaved >= SAVE_INTERVAL_SAMPLES or inputs > self._saved_inputs
        if not (always or events or advanced):
            return None
        steps = {step.analyzed.turn.index: step for step in snapshot.done}
        changed = {turn: step for turn, step in steps.items() if self._steps.get(turn) is not step}
        self._steps, self._saved_audio = steps, snapshot.acknowledged
        codec = self.terms.engine.classifier
        lines = tuple((number, to_json(to_message(message))) for number, message in events)
        self._events_bytes += sum(len(line) for _, line in lines)
        header = SessionHeader(
            HEADER_VERSION,
            self.terms.requested,
            snapshots.encode_header(snapshot, codec),
            self.began,
            self._events_bytes,
            self._skipped,
        )
        return SavePoint(
            header=msgspec.msgpack.encode(header),
            steps={turn: snapshots.encode_step(step, codec) for turn, step in changed.items()},
            steps_now=tuple(steps),
            events=lines,
            closed=any(isinstance(message, messages.SessionClosed) for _, message in events),
            audio_ms=send_from_ms(self.terms.requested.audio, snapshot.acknowledged),
            input_id=inputs,
            after=self._saved_events,
        )

    def saved(self, save_point: SavePoint) -> None:
        """Release a stored save point's events, and acknowledge the input that it covers."""
        if save_point.events:
            self._saved_events = save_point.events[-1][0]
        self._saved_inputs = save_point.input_id
        acknowledged = messages.InputAcknowledged(
            **self.encoder.envelope(), audio_ms=save_point.audio_ms, input_id=save_point.input_id
        )
        positions = [k for k, m in enumerate(self._out) if event_id_of(m) == self._saved_events]
        self._out.insert(positions[0] + 1 if positions else 0, acknowledged)

    def outgoing(self) -> list[ServerMessage]:
        """Take the messages that may be sent now, in order: all before the first event that is not stored."""
        released = []
        while self._out and event_id_of(self._out[0]) <= self._saved_events:
            released.append(self._out.popleft())
        return released

    # --- internals -----------------------------------------------------------------------------------

    def _check_room(self) -> None:
        if self._events_bytes > MAX_EVENTS_BYTES:
            limit = MAX_EVENTS_BYTES // 2**20
            raise Refusal(
                "session_full", f"expected at most {limit} MiB of events, got more: begin another session"
            )


def _open(
    terms: SessionTerms, snapshot: Snapshot | None, voices: Sequence[KnownVoice] = ()
) -> tuple[WireAudio, Session]:
    """Open a session and its audio, from the beginning with known voices, or from a snapshot."""
    resume_at = 0 if snapshot is None else snapshot.acknowledged
    audio = WireAudio(terms.requested.audio, resume_at, separate=terms.channels is not None)
    session = terms.engine.open_session(
        terms.session_config(),
        appended=terms.requested.turns == "appended",
        channels=terms.channels,
        resume=snapshot,
        voices=voices,
    )
    return audio, session


def _refuse_after_close(what: str, closed: bool) -> None:
    """Raise for `what` if the session is `closed`."""
    if closed:
        raise Refusal("out_of_order", f"expected nothing after session.close, got {what}")


def _restore(
    offer: Offer, header: bytes, steps: Mapping[int, bytes]
) -> tuple[SessionTerms, Snapshot, SessionHeader]:
    """Read what `LiveSession.save_point` wrote."""
    try:
        decoded = msgspec.msgpack.decode(header, type=SessionHeader)
        if decoded.version != HEADER_VERSION:
            raise ConfigError(
                f"expected a session of version {HEADER_VERSION}, got version {decoded.version}"
            )
        terms = SessionTerms(offer, decoded.requested)
        snapshot = snapshots.decode(decoded.snapshot, steps, terms.engine.classifier)
    except (msgspec.DecodeError, InputError) as error:
        raise Refusal("resume_refused", f"expected a session that this server can resume: {error}") from error
    return terms, snapshot, decoded


def _to_input(message: Input, *, keeps_voices: bool) -> ClientInput:
    """Return a client's message as the session's input.

    Raises:
        InputError: an enrolment that cannot be carried out.
    """
    match message:
        case TurnAppend(text=text, speaker=speaker, audio_start_ms=start, audio_end_ms=end):
            first, after = (None if ms is None else ms_to_samples(ms) for ms in (start, end))
            return GivenTurn(speaker, text, first, after)
        case TurnCorrect(turn=turn, speaker=speaker):
            return TurnCorrection(turn, speaker)
        case SpeakerRename(speaker=speaker, name=name):
            return SpeakerRenaming(speaker, name)
        case VoiceEnrol(keep=True) if not keeps_voices:
            raise VoicesError("expected no keep on a server that keeps no voices, got one")
        case VoiceEnrol(name=name, turn=int(turn), clip=None, keep=keep):
            return TurnEnrolment(turn, name, keep)
        case VoiceEnrol(name=name, turn=None, clip=str(clip), keep=keep):
            return ClipEnrolment(name, decode_clip(clip), keep)
        case VoiceEnrol(clip=clip):  # pragma: no branch  (mypy sees that no input is left)
            raise VoicesError(f"expected a turn or a clip, got {'neither' if clip is None else 'both'}")
