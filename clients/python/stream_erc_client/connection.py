"""The client's side of the protocol, without I/O: frames to send, messages received, lost connections.

One `Connection` lives as long as a session, over all its sockets::

    opened()                   a socket is open
    next_frame() -> frame      the next frame to send, None if there is none
    receive(text) -> events    a message of the server
    lost(code, reason)         the socket is closed: returns why, or raises if a retry is pointless
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from stream_erc_client.buffer import Buffer, as_text
from stream_erc_client.errors import (
    AuthenticationFailed,
    ConfigurationRefused,
    EventsLost,
    InputRefused,
    InvalidInput,
    ProtocolError,
    SessionEnded,
    SessionLost,
    SessionTakenOver,
    StreamErcClientError,
    TotalsMismatch,
)
from stream_erc_client.events import (
    Configuration,
    Event,
    Failed,
    InputAcknowledged,
    Limits,
    Message,
    Reconnected,
    SessionClosed,
    SessionCreated,
    SessionDeleted,
    SessionEvent,
    SessionResumed,
    SessionUpdated,
    SpeakerSummary,
    TurnFailed,
    TurnFields,
    Unknown,
)
from stream_erc_client.parsing import parse

MAX_TEXT: Final = 20_000  # characters
MAX_NAME: Final = 100
MAX_CLIP_BYTES: Final = 30 * 16_000 * 2  # of a voice
VARYING: Final = {"session_id", "seq", "created_at", "latency_ms"}  # of an event that comes again
CONFIGURATION_ERRORS: Final = {"invalid_configuration", "invalid_message"}  # of session.update
PING: Final = json.dumps({"type": "ping"})
TOTALS_MS: Final = 1  # tolerance for rounding
RESAMPLED_TOTALS_MS: Final = 100  # the same at other rates than 16 kHz: the server counts resampled audio

FINAL_CODES: Final[Mapping[int, type[StreamErcClientError]]] = {
    1002: ProtocolError,
    1003: InputRefused,
    1007: InputRefused,
    1008: InputRefused,
    1009: InputRefused,
    4404: SessionLost,
    4409: SessionTakenOver,
}
"""Close codes after which a retry is pointless. After any other code, and without one, connect again."""


class Phase(Enum):
    """The phase of a socket."""

    CLOSED = auto()
    OPENING = auto()  # until session.updated
    RESUMING = auto()  # until session.resumed
    OPEN = auto()
    ENDED = auto()  # session.closed or session.deleted came


class Connection:
    """The client's state of one session, over all its sockets.

    Args:
        update: the fields of `session.update`; its `voices` may be `all`, those that the server lists.

    Raises:
        InvalidInput: an unknown encoding, or a text that UTF-8 cannot encode.
    """

    def __init__(
        self, update: Mapping[str, object], encoding: str, sample_rate_hz: int, channels: int = 1
    ) -> None:
        self._update = {"type": "session.update", **update}
        as_text(self._update)  # raises now what it would raise then
        self.buffer = Buffer(encoding, sample_rate_hz, channels)
        self.phase = Phase.CLOSED
        self.created: SessionCreated | None = None
        self.configuration: Configuration | None = None
        self.limits: Limits | None = None
        self.last_event_id = 0
        self.closing = False
        self.progressed = False  # whether this socket brought an event or an acknowledgement
        self._control: deque[str] = deque()  # sent before everything else
        self._close_sent = self._keep = self._delete = False
        self._turns: dict[int, int] = {}  # event id -> turn
        self._told: dict[int, bytes] = {}  # event id -> digest of the event
        self._again: int | None = None  # events told before, while the session begins again
        self._error: Failed | None = None
        self._totals: SessionClosed | None = None

    # --- the caller's side ---

    def append_audio(self, data: bytes) -> None:
        """Append audio. Raises InvalidInput, or SessionEnded after `close`."""
        self._require_open("audio")
        self.buffer.append_audio(data)

    def append_turn(
        self, text: str | None, speaker: str | None, start_ms: int | None, end_ms: int | None
    ) -> int:
        """Append a turn and return its input id. Raises InvalidInput, or SessionEnded after `close`."""
        if text is not None and len(text) > MAX_TEXT:
            raise InvalidInput(f"text: expected at most {MAX_TEXT} characters, got {len(text)}")
        if (start_ms is None) != (end_ms is None) or (text is None and start_ms is None):
            raise InvalidInput(f"expected a text, or a span, or both, got {text=}, {start_ms=}, {end_ms=}")
        if start_ms is not None and end_ms is not None and not 0 <= start_ms < end_ms:
            raise InvalidInput(f"expected a span that begins before it ends, got {start_ms} to {end_ms} ms")
        fields = {"text": text, "audio_start_ms": start_ms, "audio_end_ms": end_ms}
        fields["speaker"] = None if speaker is None else _name("speaker", speaker)
        return self._append("turn.append", fields)

    def correct_turn(self, turn: int, speaker: str) -> int:
        """Correct the speaker of a turn and return the input id."""
        if turn < 0:
            raise InvalidInput(f"turn: expected 0 or more, got {turn}")
        return self._append("turn.correct", {"turn": turn, "speaker": _name("speaker", speaker)})

    def rename_speaker(self, speaker: str, name: str) -> int:
        """Rename a speaker and return the input id."""
        fields = {"speaker": _name("speaker", speaker), "name": _name("name", name)}
        return self._append("speaker.rename", fields)

    def enrol_voice(self, name: str, turn: int | None, clip: bytes | None, keep: bool) -> int:
        """Make a voice known and return the input id."""
        if (turn is None) == (clip is None):
            raise InvalidInput(f"expected a turn or a clip, got {'both' if clip is not None else 'neither'}")
        if turn is not None and turn < 0:
            raise InvalidInput(f"turn: expected 0 or more, got {turn}")
        data = b"" if clip is None else memoryview(clip).tobytes()
        if len(data) % 2 or len(data) > MAX_CLIP_BYTES:
            raise InvalidInput(
                f"clip: expected whole samples of 2 bytes, at most {MAX_CLIP_BYTES} bytes, got {len(data)}"
            )
        encoded = None if clip is None else base64.b64encode(data).decode()
        fields = {"name": _name("name", name), "turn": turn, "clip": encoded, "keep": keep}
        return self._append("voice.enrol", fields)

    def close(self, *, keep: bool = False) -> None:
        """Accept no more input: send `session.close` after everything that was appended.

        Args:
            keep: whether the server keeps the session until it expires, instead of deleting it.
        """
        self.closing, self._keep = True, self._keep or keep

    def delete(self) -> None:
        """Accept no more input: send `session.delete` as the next message."""
        self.closing = self._delete = True

    @property
    def summary(self) -> tuple[SpeakerSummary, ...] | None:
        """The whole of the conversation by speaker, None until `session.closed` has been received."""
        return None if self._totals is None else self._totals.summary

    @property
    def mismatch(self) -> TotalsMismatch | None:
        """The difference in the totals of `session.closed`; None if they agree, or have not been received."""
        totals = self._totals
        if totals is None:
            return None
        allowed_ms = TOTALS_MS if self.buffer.sample_rate_hz == 16_000 else RESAMPLED_TOTALS_MS
        total_ms, sent_ms = totals.audio_ms or 0, self.buffer.end_ms
        total_turns, received = totals.turns + totals.failed_turns, len(set(self._turns.values()))
        if abs(total_ms - sent_ms) <= allowed_ms and total_turns == received:
            return None
        return TotalsMismatch(
            f"expected {sent_ms} ms of audio and {received} turns, got {total_ms} ms and {total_turns} turns"
        )

    # --- the socket's side ---

    def opened(self) -> None:
        """Begin on a new socket, on which the server sends first."""
        updated = self.configuration is not None
        self.phase = Phase.RESUMING if updated else Phase.OPENING
        self.progressed = False
        self._close_sent, self._error = False, None
        self._control.clear()
        if updated:
            assert self.created is not None
            token, last = self.created.resume_token, self.last_event_id
            resume = {"type": "session.resume", "resume_token": token, "last_event_id": last}
            self._control.append(as_text(resume))

    def next_frame(self) -> str | bytes | None:
        """Return the next frame to send, text or audio; None if there is none."""
        if self._control:
            return self._control.popleft()
        if self.phase is not Phase.OPEN:
            return None
        if self._delete:
            if self._close_sent:
                return None
            self._close_sent = True
            return json.dumps({"type": "session.delete"})
        frame = self.buffer.next(self._max_samples())
        if frame is None and self.closing and not self._close_sent:
            self._close_sent = True
            return json.dumps({"type": "session.close", **({"keep": True} if self._keep else {})})
        return frame

    def receive(self, text: str | bytes) -> list[Event]:
        """Return the events of a server's message; none if it is a duplicate.

        Raises:
            ProtocolError: not a message, or an event is missing before it.
            ConfigurationRefused: the server rejects the configuration given to `connect`.
        """
        message = parse(text)
        if isinstance(message, (SessionEvent, Unknown)) and message.event_id is not None:
            if message.event_id <= self.last_event_id:
                return []
            if message.event_id != self.last_event_id + 1:
                raise EventsLost(f"expected event {self.last_event_id + 1}, got {message.event_id}")
            self.last_event_id = message.event_id
            self.progressed = True
        self._error = None  # only an error just before the close is its reason
        return self._take(message) if self._is_new(message, text) else self._take(message)[:0]

    def _is_new(self, message: Message | Unknown, text: str | bytes) -> bool:
        """Return whether a message is no event that was told before, and comes again unchanged."""
        if not isinstance(message, (SessionEvent, Unknown)) or message.event_id is None:
            return True
        fields = {name: value for name, value in json.loads(text).items() if name not in VARYING}
        digest = hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).digest()
        known, self._told[message.event_id] = self._told.get(message.event_id), digest
        return digest != known

    def lost(self, code: int | None, reason: str) -> str:
        """Return why the socket was closed; the caller should open another one.

        Args:
            code: of the WebSocket's close frame, None without one.
            reason: the reason if the server gave none.

        Raises:
            StreamErcClientError: a retry is pointless.
        """
        self.phase = Phase.CLOSED
        error = self._error
        reason = f"{error.code}: {error.message}" if error else reason
        if error is not None and error.code == "authentication":
            raise AuthenticationFailed(error.message)
        if error is not None and error.code == "resume_refused":
            if not self.buffer.whole or self._delete:
                raise SessionLost(error.message)
            self._again, self.configuration = self._go_back(0), None  # begin again with the same input
            return reason
        if code is not None and code in FINAL_CODES:
            raise FINAL_CODES[code](f"the server closed with {code}: {reason or 'no reason given'}")
        return f"{code} {reason}".strip() if code is not None else reason

    def _take(self, message: Message | Unknown) -> list[Event]:
        match message:
            case SessionCreated():
                if self.phase is not Phase.OPENING:
                    return []
                self.created, self.limits = message, message.limits
                self._configure(message)
            case SessionUpdated(configuration=configuration):
                self.configuration, self.phase = configuration, Phase.OPEN
                if self._again is not None:
                    self.buffer.rewind(0, 0)
                    again, self._again = self._again, None
                    return [message, Reconnected(0, again)]
            case SessionResumed():
                return self._resumed(message)
            case InputAcknowledged(audio_ms=audio_ms, input_id=input_id):
                before = self.buffer.unacknowledged_ms
                self.buffer.acknowledge(self._samples(audio_ms), input_id)
                self.progressed |= self.buffer.unacknowledged_ms < before
            case Failed():
                self._error = message
                if self.phase is Phase.OPENING and message.code in CONFIGURATION_ERRORS:
                    raise ConfigurationRefused(f"{message.code}: {message.message}")
            case TurnFields() | TurnFailed():
                self._turns[message.event_id] = message.turn
            case SessionClosed():
                self._totals, self.phase = message, Phase.ENDED
            case SessionDeleted():
                self.phase = Phase.ENDED
        return [message]

    def _resumed(self, message: SessionResumed) -> list[Event]:
        if self.phase is not Phase.RESUMING:
            raise ProtocolError(f"expected session.resumed once, got {message}")
        missed, self._again = message.event_id - self.last_event_id, None
        stands = message.audio_ms + message.input_id + message.event_id
        if not stands and message.configuration != self.configuration and self.created is not None:
            # The store went back to before `session.update`.
            self._again, self.phase = self._go_back(0), Phase.OPENING
            self._configure(self.created)
            return [message]
        repeated = 0 if missed >= 0 else self._go_back(message.event_id)
        position, input_id = self.buffer.rewind(self._samples(message.audio_ms), message.input_id)
        audio_ms = position * 1000 // self.buffer.sample_rate_hz
        lost_ms, lost_inputs = audio_ms - message.audio_ms, input_id - message.input_id
        if lost_ms or lost_inputs:
            self._control.append(as_text({"type": "input.skip", "audio_ms": audio_ms, "input_id": input_id}))
        self.configuration, self.limits, self.phase = message.configuration, message.limits, Phase.OPEN
        return [message, Reconnected(max(missed, 0), repeated, lost_ms, lost_inputs)]

    def _configure(self, created: SessionCreated) -> None:
        """Send `session.update` next."""
        update = self._update
        if update.get("voices") == "all":
            update = {**update, "voices": list(created.voices or ())}
        self._control.append(as_text(update))

    def _go_back(self, event_id: int) -> int:
        """Expect the events after `event_id` again; return how many of them were told."""
        told, self.last_event_id = self.last_event_id - event_id, event_id
        self._turns = {number: turn for number, turn in self._turns.items() if number <= event_id}
        return told

    def _append(self, kind: str, fields: Mapping[str, object]) -> int:
        self._require_open(kind)
        return self.buffer.append_input({"type": kind, **fields})

    def _require_open(self, kind: str) -> None:
        if self.closing or self.phase is Phase.ENDED:
            raise SessionEnded(f"expected {kind} before close(), got it after")

    def _max_samples(self) -> int:
        limits, buffer = self.limits, self.buffer
        if limits is None:
            return buffer.sample_rate_hz
        return max(1, limits.max_frame_ms * buffer.sample_rate_hz // (1000 * buffer.channels))

    def _samples(self, ms: int) -> int:
        samples, rest = divmod(ms * self.buffer.sample_rate_hz, 1000)
        if rest:
            raise ProtocolError(f"expected a time of whole samples, got {ms} ms")
        return samples


def _name(field: str, value: str) -> str:
    if not 1 <= len(value) <= MAX_NAME:
        raise InvalidInput(f"{field}: expected 1 to {MAX_NAME} characters, got {len(value)}")
    return value
