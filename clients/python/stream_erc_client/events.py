"""The events of a session: a frozen dataclass for each message of the server, and two of the client's own.

Times are milliseconds of audio since the session's audio began. Fields that a later server adds are
ignored; a message of an unknown type becomes an `Unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

# --- parts of messages ----------------------------------------------------------------------------


@dataclass(frozen=True)
class AudioFormat:
    """Encoding, sample rate and number of channels of the audio."""

    encoding: str
    sample_rate_hz: int
    channels: int = 1


@dataclass(frozen=True)
class Source:
    """The source of the audio, and the names of channels heard separately; in event files only."""

    name: str
    duration_ms: int | None
    channels: tuple[str | None, ...] | None = None


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server offers."""

    name: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """The server's limits."""

    max_message_bytes: int
    max_frame_ms: int
    burst_ms: int
    idle_timeout_ms: int
    retention_ms: int
    appended_audio_ms: int


@dataclass(frozen=True)
class Configuration:
    """The session's configuration."""

    audio: AudioFormat
    turns: str
    model: str
    labels: tuple[str, ...]
    language: str | None
    speakers: int | None
    partials: bool
    min_silence_ms: int
    pace: str
    words: bool = False
    channel_names: tuple[str | None, ...] | None = None
    voices: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmotionReading:
    """The expressed emotion: the most probable label, its probability, and those of all labels."""

    label: str
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class LatencyParts:
    """Time from the end of speech to the event, by stage, in milliseconds."""

    endpointing: float
    asr: float
    features: float
    emotion: float
    total: float


# --- messages of the server -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ServerMessage:
    """The fields of every message: the session, and the message's number within the connection."""

    type: ClassVar[str]
    session_id: str
    seq: int
    created_at: str | None = None
    dialogue: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionEvent(ServerMessage):
    """A message that is never lost, numbered 1, 2, 3 ... within the session, over all its connections."""

    event_id: int


@dataclass(frozen=True, kw_only=True)
class SessionCreated(ServerMessage):
    """The first message: what the server offers. `resume_token` is a secret."""

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
    voices: tuple[str, ...] | None = None
    keeps_voices: bool | None = None
    exports: tuple[str, ...] | None = None

    def __repr__(self) -> str:  # without the token: whoever has it can take over the session
        return f"SessionCreated(session_id={self.session_id!r}, model={self.model!r}, asr={self.asr!r})"


@dataclass(frozen=True, kw_only=True)
class SessionUpdated(ServerMessage):
    """The configuration that applies from now on."""

    type = "session.updated"
    configuration: Configuration


@dataclass(frozen=True, kw_only=True)
class SessionResumed(ServerMessage):
    """The session continues on a new connection: audio and inputs are sent again from this point.

    Not a `SessionEvent`: its `event_id` is that of the last event so far.
    """

    type = "session.resumed"
    audio_ms: int
    input_id: int
    event_id: int
    configuration: Configuration
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class InputAcknowledged(ServerMessage):
    """The audio and inputs that the server has stored and will not ask for again."""

    type = "input.acknowledged"
    audio_ms: int
    input_id: int


@dataclass(frozen=True, kw_only=True)
class SpeechStarted(ServerMessage):
    """Speech began; a turn follows."""

    type = "speech.started"
    audio_start_ms: int | None
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class SpeechStopped(ServerMessage):
    """The speech that began last (in the channel) has ended; its turn is being processed."""

    type = "speech.stopped"
    audio_end_ms: int | None
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class TurnPartial(ServerMessage):
    """A turn that is still being spoken. The next partial or the final turn (of its channel) replaces it."""

    type = "turn.partial"
    turn: int
    speaker: str | None
    audio_start_ms: int | None
    audio_end_ms: int | None
    text: str
    emotion: EmotionReading | None
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class TimedWord:
    """A word of a turn with its punctuation, and the mean probability of its tokens."""

    text: str
    audio_start_ms: int | None
    audio_end_ms: int | None
    probability: float


@dataclass(frozen=True, kw_only=True)
class TurnFields(SessionEvent):
    """A turn: speaker, text and expressed emotion. `revision` is 0 at first.

    `language` is that of `text`, None where the text was given. `translation` is the text in English, from
    which the emotion was read. `words` are told on request (`connect(words=True)`). `channel` is None in
    mono audio.

    `speaker_unsure` says that the voice told little about who spoke. `overlap` is the share of the turn's
    speech in which somebody else spoke as well, 0 to 1; `others` are those whose earlier turns go on into it.
    `extra` are further columns of the file that the turn was given in, in files of events only.
    """

    turn: int
    speaker: str
    speaker_unsure: bool = False
    audio_start_ms: int | None
    audio_end_ms: int | None
    text: str
    language: str | None = None
    translation: str | None = None
    words: tuple[TimedWord, ...] | None = None
    overlap: float = 0.0
    others: tuple[str, ...] = ()
    emotion: EmotionReading
    latency_ms: LatencyParts
    revision: int
    channel: int | None = None
    extra: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class TurnFinal(TurnFields):
    """A finished turn."""

    type = "turn.final"


@dataclass(frozen=True, kw_only=True)
class TurnRevised(TurnFields):
    """A finished turn changed by a speaker correction; it replaces the earlier one of the same `turn`."""

    type = "turn.revised"


@dataclass(frozen=True, kw_only=True)
class TurnFailed(SessionEvent):
    """A turn that could not be processed. The session continues."""

    type = "turn.failed"
    turn: int
    audio_start_ms: int | None
    audio_end_ms: int | None
    message: str
    channel: int | None = None
    extra: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class SpeakerUpdated(SessionEvent):
    """A speaker's new name, in all turns."""

    type = "speaker.updated"
    speaker: str
    name: str


@dataclass(frozen=True, kw_only=True)
class VoiceEnrolled(SessionEvent):
    """A voice is known by its name from now on; `kept` says whether the server keeps it after the session.

    `turn` is the one that it was enrolled from, None for a clip.
    """

    type = "voice.enrolled"
    name: str
    turn: int | None
    kept: bool


@dataclass(frozen=True, kw_only=True)
class Warned(ServerMessage):
    """A warning; nothing is lost."""

    type = "warning"
    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Failed(ServerMessage):
    """An input or message that the server rejected; it had no effect."""

    type = "error"
    code: str
    message: str
    retryable: bool
    input_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat(ServerMessage):
    """A sign that the connection is alive."""

    type = "heartbeat"
    audio_ms: int


@dataclass(frozen=True, kw_only=True)
class Pong(ServerMessage):
    """The answer to a `ping`, which the session sends when it has sent nothing else for a while."""

    type = "pong"
    id: str | None


@dataclass(frozen=True, kw_only=True)
class SessionGoingAway(ServerMessage):
    """The server will close the connection soon; the session will be resumed."""

    type = "session.going_away"
    reason: str
    time_left_ms: int


@dataclass(frozen=True, kw_only=True)
class EmotionTotals:
    """A label in the turns of a speaker.

    `turns` and `speaking_ms` are those of the turns that expressed it; `probability` is its mean over all
    turns of the speaker.
    """

    turns: int
    speaking_ms: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class EmotionShift:
    """A turn with the label `after`, where the same speaker's turn before had `before`: `count` times."""

    before: str
    after: str
    count: int


@dataclass(frozen=True, kw_only=True)
class SpeakerSummary:
    """The whole of a conversation, of one speaker.

    `share` is that of all speakers' speaking time, None without audio. `emotions` has every label, in the
    checkpoint's order. `shifts` are in order of frequency. `interruptions` are turns that begin while
    somebody else speaks.
    """

    speaker: str
    turns: int
    speaking_ms: int
    share: float | None
    emotions: dict[str, EmotionTotals]
    shifts: tuple[EmotionShift, ...]
    interruptions: int


@dataclass(frozen=True, kw_only=True)
class SessionClosed(SessionEvent):
    """The last message, with the session's totals, and the whole of the conversation by speaker."""

    type = "session.closed"
    audio_ms: int | None
    turns: int
    failed_turns: int
    speakers: tuple[str, ...]
    summary: tuple[SpeakerSummary, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SessionDeleted(ServerMessage):
    """The last message of a session that was deleted: the server stores nothing of it any more."""

    type = "session.deleted"


@dataclass(frozen=True, kw_only=True)
class SessionExported(ServerMessage):
    """A session as a file: `content` is base64, see `Session.export`."""

    type = "session.exported"
    format: str
    content: str
    left_out: int


@dataclass(frozen=True)
class Unknown:
    """A message of a type unknown to this version."""

    type: str
    fields: Mapping[str, Any]

    @property
    def event_id(self) -> int | None:
        """The event's number; None for a message that is not an event."""
        number = self.fields.get("event_id")
        return number if isinstance(number, int) else None


# --- the client's own events -----------------------------------------------------------------------


@dataclass(frozen=True)
class Disconnected:
    """The connection was lost; the next attempt follows after `delay_s`. Drop the partial turn."""

    type: ClassVar[str] = "disconnected"
    reason: str
    attempt: int
    delay_s: float


@dataclass(frozen=True)
class Reconnected:
    """The session was resumed; the missed events follow.

    Attributes:
        missed_events: the number of events that follow at once.
        repeated_events: if the server's store went back in time, the number of events told before that it no
            longer has. It makes them again from the input that is sent again. Those that come again as they
            were are not told twice; one that differs is told, and replaces the earlier one.
        lost_audio_ms: audio that the server no longer has, and this client neither.
        lost_inputs: likewise, the number of inputs.
    """

    type: ClassVar[str] = "reconnected"
    missed_events: int
    repeated_events: int = 0
    lost_audio_ms: int = 0
    lost_inputs: int = 0


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
    | VoiceEnrolled
    | Warned
    | Failed
    | Heartbeat
    | Pong
    | SessionGoingAway
    | SessionClosed
    | SessionDeleted
    | SessionExported
)
Event: TypeAlias = Message | Unknown | Disconnected | Reconnected
