"""What a session tells: one frozen dataclass for each message of the server, and two of our own.

Times are milliseconds of audio since the session's audio began. A field that a later server adds is
ignored; a message of a type that is not known comes as `Unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

# --- parts of messages ----------------------------------------------------------------------------


@dataclass(frozen=True)
class AudioFormat:
    """How the audio is encoded."""

    encoding: str
    sample_rate_hz: int


@dataclass(frozen=True)
class Source:
    """What is being heard; in files of events only."""

    name: str
    duration_ms: int | None


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server has."""

    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """What the server accepts."""

    max_message_bytes: int
    max_frame_ms: int
    burst_ms: int
    idle_timeout_ms: int
    retention_ms: int
    appended_audio_ms: int


@dataclass(frozen=True)
class Configuration:
    """How the conversation is heard."""

    audio: AudioFormat
    turns: str
    model: str
    labels: tuple[str, ...]
    language: str | None
    speakers: int | None
    partials: bool
    min_silence_ms: int
    pace: str


@dataclass(frozen=True)
class EmotionReading:
    """The expressed emotion: the most probable label, its probability, and those of all labels."""

    label: str
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class LatencyParts:
    """Where the time from the end of speech to the event went, in milliseconds."""

    endpointing: float
    asr: float
    features: float
    emotion: float
    total: float


# --- messages of the server -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ServerMessage:
    """What every message has: the session, and its number within the connection."""

    type: ClassVar[str]
    session_id: str
    seq: int
    created_at: str | None = None
    dialogue: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionEvent(ServerMessage):
    """What is never lost: numbered 1, 2, 3 ... within the session, over all its connections."""

    event_id: int


@dataclass(frozen=True, kw_only=True)
class SessionCreated(ServerMessage):
    """The first message: what the server has. `resume_token` is a secret."""

    type = "session.created"
    model: str
    asr: str
    labels: tuple[str, ...]
    source: Source | None = None
    protocol: int | None = None
    server: str | None = None
    resume_token: str | None = None
    models: tuple[ModelInfo, ...] | None = None
    languages: tuple[str, ...] | None = None
    encodings: tuple[str, ...] | None = None
    configuration: Configuration | None = None
    limits: Limits | None = None

    def __repr__(self) -> str:  # the token gives the session away: keep it out of logs
        return f"SessionCreated(session_id={self.session_id!r}, model={self.model!r}, asr={self.asr!r})"


@dataclass(frozen=True, kw_only=True)
class SessionUpdated(ServerMessage):
    """The configuration that holds from now on."""

    type = "session.updated"
    configuration: Configuration


@dataclass(frozen=True, kw_only=True)
class SessionResumed(ServerMessage):
    """The session goes on, on another connection: audio and inputs are sent again from here on.

    It is no `SessionEvent`: its `event_id` is that of the last event so far.
    """

    type = "session.resumed"
    audio_ms: int
    input_id: int
    event_id: int
    configuration: Configuration
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class InputAcknowledged(ServerMessage):
    """What the server will never ask for again."""

    type = "input.acknowledged"
    audio_ms: int
    input_id: int


@dataclass(frozen=True, kw_only=True)
class SpeechStarted(ServerMessage):
    """Speech began; a turn follows."""

    type = "speech.started"
    audio_start_ms: int | None


@dataclass(frozen=True, kw_only=True)
class SpeechStopped(ServerMessage):
    """The speech that began last has ended; its turn is being understood."""

    type = "speech.stopped"
    audio_end_ms: int | None


@dataclass(frozen=True, kw_only=True)
class TurnPartial(ServerMessage):
    """A turn that is still being spoken. Another one or the final one replaces it."""

    type = "turn.partial"
    turn: int
    speaker: str | None
    audio_start_ms: int | None
    audio_end_ms: int | None
    text: str
    emotion: EmotionReading | None


@dataclass(frozen=True, kw_only=True)
class TurnFields(SessionEvent):
    """A turn: who spoke, what was said, which emotion it expressed. `revision` is 0 at first."""

    turn: int
    speaker: str
    audio_start_ms: int | None
    audio_end_ms: int | None
    text: str
    emotion: EmotionReading
    latency_ms: LatencyParts
    revision: int


@dataclass(frozen=True, kw_only=True)
class TurnFinal(TurnFields):
    """A finished turn."""

    type = "turn.final"


@dataclass(frozen=True, kw_only=True)
class TurnRevised(TurnFields):
    """A finished turn that a speaker correction changed: it replaces the earlier one of the same `turn`."""

    type = "turn.revised"


@dataclass(frozen=True, kw_only=True)
class TurnFailed(SessionEvent):
    """A turn that could not be read. The session goes on."""

    type = "turn.failed"
    turn: int
    audio_start_ms: int | None
    audio_end_ms: int | None
    message: str


@dataclass(frozen=True, kw_only=True)
class SpeakerUpdated(SessionEvent):
    """A speaker has another name, in all turns."""

    type = "speaker.updated"
    speaker: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Warned(ServerMessage):
    """Something to know; nothing is lost."""

    type = "warning"
    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Failed(ServerMessage):
    """What was sent could not be used, and has changed nothing."""

    type = "error"
    code: str
    message: str
    retryable: bool
    input_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat(ServerMessage):
    """The connection lives."""

    type = "heartbeat"
    audio_ms: int


@dataclass(frozen=True, kw_only=True)
class Pong(ServerMessage):
    """Answers a `ping`; the session sends one where it has sent nothing for a while."""

    type = "pong"
    id: str | None


@dataclass(frozen=True, kw_only=True)
class SessionGoingAway(ServerMessage):
    """The server will close the connection soon; the session will be resumed."""

    type = "session.going_away"
    reason: str
    time_left_ms: int


@dataclass(frozen=True, kw_only=True)
class SessionClosed(SessionEvent):
    """The last message, with totals."""

    type = "session.closed"
    audio_ms: int | None
    turns: int
    failed_turns: int
    speakers: tuple[str, ...]


@dataclass(frozen=True)
class Unknown:
    """A message of a type that this version does not know."""

    type: str
    fields: Mapping[str, Any]

    @property
    def event_id(self) -> int | None:
        """Its number, where it is an event."""
        number = self.fields.get("event_id")
        return number if isinstance(number, int) else None


# --- our own ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disconnected:
    """The connection was lost; the next attempt comes after `delay_s`. Drop the partial turn."""

    type: ClassVar[str] = "disconnected"
    reason: str
    attempt: int
    delay_s: float


@dataclass(frozen=True)
class Reconnected:
    """The session was resumed; the events that were missed follow."""

    type: ClassVar[str] = "reconnected"
    missed_events: int


Message: TypeAlias = (
    SessionCreated
    | SessionUpdated
    | SessionResumed
    | InputAcknowledged
    | SpeechStarted
    | SpeechStopped
    | TurnPartial
    | TurnFinal
    | TurnRevised
    | TurnFailed
    | SpeakerUpdated
    | Warned
    | Failed
    | Heartbeat
    | Pong
    | SessionGoingAway
    | SessionClosed
)
Event: TypeAlias = Message | Unknown | Disconnected | Reconnected
