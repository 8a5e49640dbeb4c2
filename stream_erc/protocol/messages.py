"""The messages of the wire, one struct each: their fields, types and limits.

These structs are the only definition of the messages: the JSON Schema, the tables of ``docs/protocol.md`` and
the validation of clients' messages are made from them, docstrings included. `stream_erc.protocol` specifies
the order of messages. Later versions may add fields: a reader ignores fields that it does not know. The
server refuses a client's message with an unknown field, and names the field.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stream_erc.config import MAX_CHANNELS

PROTOCOL_VERSION = 1

Encoding: TypeAlias = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus"]
Milliseconds: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=100)]
InputId: TypeAlias = Annotated[int, Meta(ge=1, le=2**53)]
Text: TypeAlias = Annotated[str, Meta(max_length=20_000)]
Id: TypeAlias = Annotated[str, Meta(max_length=100)]
Language: TypeAlias = Annotated[str, Meta(max_length=16)]
Speakers: TypeAlias = Annotated[int, Meta(ge=1, le=16)]
Pause: TypeAlias = Annotated[int, Meta(ge=100, le=5_000)]
VoiceNames: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=1_000)]
Clip: TypeAlias = Annotated[str, Meta(max_length=1_300_000)]
Channel: TypeAlias = Annotated[
    int | UnsetType, Meta(description="where channels are heard separately: which one, 0, 1 ...")
]
Token: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4_096)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a message."""


class ClientMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """A message that a client sends as a text frame."""


# --- what a client sends --------------------------------------------------------------------------


class AudioFormat(Part, frozen=True, kw_only=True):
    """How the binary frames are to be read: little-endian, with the samples of several channels in turn."""

    encoding: Annotated[
        Encoding,
        Meta(description="`opus`: one packet a frame, of 2.5 to 40 ms, no container; at 48000 Hz"),
    ] = "pcm_s16le"
    sample_rate_hz: Annotated[int, Meta(ge=8_000, le=48_000, description="samples a second")] = 16_000
    channels: Annotated[
        int, Meta(ge=1, le=MAX_CHANNELS, description="heard separately where more than 1; `opus`: 1 only")
    ] = 1


class SessionAuthenticate(ClientMessage, tag="session.authenticate", frozen=True, kw_only=True):
    """The first message where the server asks for a token and the request had no `Authorization` header."""

    token: Annotated[Token, Meta(description="the server's bearer token")]


class SessionUpdate(ClientMessage, tag="session.update", frozen=True, kw_only=True):
    """Says how the conversation is to be heard, before audio and turns. All fields are optional."""

    protocol: Annotated[int, Meta(description="the version that the client speaks")] = PROTOCOL_VERSION
    audio: Annotated[AudioFormat, Meta(description="of the binary frames")] = AudioFormat()
    channel_names: Annotated[
        tuple[Name | None, ...] | None,
        Meta(description="the speaker of each channel; null for one whose speakers are told by the voice"),
    ] = None
    turns: Annotated[
        Literal["heard", "appended"],
        Meta(description="`heard`: found in the audio; `appended`: the client says them with `turn.append`"),
    ] = "heard"
    model: Annotated[Name | None, Meta(description="one of `session.created`'s `models`")] = None
    labels: Annotated[
        tuple[Name, ...] | None,
        Meta(description="answer in these labels of the model only; probabilities are given anew over them"),
    ] = None
    language: Annotated[
        Language | None,
        Meta(description="of what is spoken, ISO 639-1; one of `languages`; the server's own where null"),
    ] = None
    speakers: Annotated[Speakers | None, Meta(description="how many there are, where it is known")] = None
    voices: Annotated[
        VoiceNames | None,
        Meta(description="names of known voices to recognize; some of `session.created`'s `voices`"),
    ] = None
    words: Annotated[bool, Meta(description="whether final turns tell the time of every word")] = False
    partials: Annotated[bool, Meta(description="whether turns are told while they are spoken")] = True
    min_silence_ms: Annotated[
        Pause | None, Meta(description="the pause that ends a turn; the server's where null")
    ] = None
    pace: Annotated[
        Literal["live", "replay"],
        Meta(description="`live`: as it is spoken, faster is refused; `replay`: as fast as it is read"),
    ] = "live"


class SessionResume(ClientMessage, tag="session.resume", frozen=True, kw_only=True):
    """Goes on with a session whose connection was lost: sent as the first message."""

    resume_token: Annotated[Token, Meta(description="from `session.created`")]
    last_event_id: Annotated[Count, Meta(description="the last event received, 0 where there was none")]


class InputSkip(ClientMessage, tag="input.skip", frozen=True, kw_only=True):
    """Leaves out what `session.resumed` asks for and the client no longer has; sent right after it."""

    audio_ms: Annotated[Milliseconds, Meta(description="audio before this is gone, and heard as silence")] = 0
    input_id: Annotated[Count, Meta(description="inputs up to this one are gone, and left out")] = 0


class TurnAppend(ClientMessage, tag="turn.append", frozen=True, kw_only=True):
    """A turn that the client knows (`turns: "appended"`). It has a text, or an audio span, or both."""

    text: Annotated[Text | None, Meta(description="what was said; transcribed where null")] = None
    speaker: Annotated[Name | None, Meta(description="who said it; told by the voice where null")] = None
    audio_start_ms: Annotated[Milliseconds | None, Meta(description="where the turn begins in the audio")] = (
        None
    )
    audio_end_ms: Annotated[Milliseconds | None, Meta(description="where it ends")] = None
    input_id: Annotated[InputId | None, Meta(description="1, 2, 3 ... over all inputs of the session")] = None


class TurnCorrect(ClientMessage, tag="turn.correct", frozen=True, kw_only=True):
    """Says who really spoke a turn; it and those after it come again as `turn.revised`."""

    turn: Annotated[Count, Meta(description="its index")]
    speaker: Annotated[Name, Meta(description="a name, known or new")]
    input_id: Annotated[InputId | None, Meta(description="as in `turn.append`")] = None


class SpeakerRename(ClientMessage, tag="speaker.rename", frozen=True, kw_only=True):
    """Gives a speaker another name; `speaker.updated` answers."""

    speaker: Annotated[Name, Meta(description="the name so far")]
    name: Annotated[Name, Meta(description="the new one, which nobody else has")]
    input_id: Annotated[InputId | None, Meta(description="as in `turn.append`")] = None


class VoiceEnrol(ClientMessage, tag="voice.enrol", frozen=True, kw_only=True):
    """Makes a voice known by name, from a turn of the session or from a clip; `voice.enrolled` answers."""

    name: Annotated[Name, Meta(description="the person's, who agrees to it")]
    turn: Annotated[Count | None, Meta(description="a turn that the person spoke")] = None
    clip: Annotated[
        Clip | None,
        Meta(description="or a clip of one voice: base64 of `pcm_s16le`, mono, 16000 Hz, up to 30 s"),
    ] = None
    keep: Annotated[
        bool, Meta(description="for other sessions, too, where the server `keeps_voices`; else refused")
    ] = False
    input_id: Annotated[InputId | None, Meta(description="as in `turn.append`")] = None


Input: TypeAlias = TurnAppend | TurnCorrect | SpeakerRename | VoiceEnrol
"""What is ordered with the audio, and may carry an `input_id`."""


class Ping(ClientMessage, tag="ping", frozen=True, kw_only=True):
    """Asks for a `pong`: a browser has no ping of its own."""

    id: Annotated[Id | None, Meta(description="comes back")] = None


class SessionClose(ClientMessage, tag="session.close", frozen=True, kw_only=True):
    """No more input comes. What was heard is finished, then `session.closed` ends the session."""

    keep: Annotated[
        bool,
        Meta(description="keep it stored until it expires; else it is deleted once `session.closed` arrived"),
    ] = False


class SessionDelete(ClientMessage, tag="session.delete", frozen=True, kw_only=True):
    """Ends the session at once and deletes it. Nothing is finished; `session.deleted` answers."""


class SessionExport(ClientMessage, tag="session.export", frozen=True, kw_only=True):
    """Asks for a session's turns as a file: the first message of a connection of its own."""

    resume_token: Annotated[Token, Meta(description="of the session, which goes on undisturbed")]
    format: Annotated[Id, Meta(description="one of `session.created`'s `exports`")]
    name: Annotated[Id | None, Meta(description="of what was heard, for the file")] = None


FromClient: TypeAlias = (
    SessionAuthenticate
    | SessionUpdate
    | SessionResume
    | SessionExport
    | InputSkip
    | TurnAppend
    | TurnCorrect
    | SpeakerRename
    | VoiceEnrol
    | Ping
    | SessionClose
    | SessionDelete
)

# --- what the server sends ------------------------------------------------------------------------


class ServerMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A message of the server, with the fields that all of them have."""

    session_id: Annotated[str, Meta(description="which conversation")]
    seq: Annotated[Count, Meta(description="0, 1, 2 ... within the connection or file")]
    created_at: Annotated[str | UnsetType, Meta(description="ISO 8601, UTC; on the wire only")] = UNSET
    dialogue: Annotated[str | UnsetType, Meta(description="in a file of several dialogues: which one")] = (
        UNSET
    )


class SessionEvent(ServerMessage, frozen=True, kw_only=True):
    """An event that is never lost: numbered within the session and stored for a client that resumes."""

    event_id: Annotated[Count, Meta(description="1, 2, 3 ... within the session, over all connections")]


class Source(Part, frozen=True, kw_only=True):
    """What is being heard."""

    name: str
    duration_ms: int | None
    channels: Annotated[
        tuple[str | None, ...] | UnsetType,
        Meta(description="the names of the channels that are heard separately, null for one without"),
    ] = UNSET


class ModelInfo(Part, frozen=True, kw_only=True):
    """A model that the server has."""

    name: str
    labels: tuple[str, ...]


class Limits(Part, frozen=True, kw_only=True):
    """What the server accepts."""

    max_message_bytes: Annotated[int, Meta(description="of one frame; a larger one closes with 1009")]
    max_frame_ms: Annotated[int, Meta(description="audio in one binary frame")]
    burst_ms: Annotated[int, Meta(description="how far live audio may run ahead of the clock")]
    idle_timeout_ms: Annotated[int, Meta(description="a connection silent for so long is closed")]
    retention_ms: Annotated[int, Meta(description="how long a lost session can be resumed")]
    appended_audio_ms: Annotated[int, Meta(description="how far back `turn.append` may point into the audio")]


class Configuration(Part, frozen=True, kw_only=True):
    """How the conversation is heard."""

    audio: AudioFormat
    channel_names: tuple[str | None, ...] | None = None
    turns: str
    model: str
    labels: tuple[str, ...]
    language: str | None
    speakers: int | None
    voices: tuple[str, ...] = ()
    words: bool = False
    partials: bool
    min_silence_ms: int
    pace: str


class SessionCreated(ServerMessage, tag="session.created", frozen=True, kw_only=True):
    """The first message."""

    model: Annotated[str, Meta(description="the checkpoint's name")]
    asr: Annotated[str, Meta(description="the recognizer's name")]
    labels: Annotated[tuple[str, ...], Meta(description="the emotion labels, in the checkpoint's order")]
    source: Annotated[Source | UnsetType, Meta(description="in a file: what was heard")] = UNSET
    protocol: Annotated[int | UnsetType, Meta(description="the version that the server speaks")] = UNSET
    server: Annotated[str | UnsetType, Meta(description="its name and version")] = UNSET
    resume_token: Annotated[str | UnsetType, Meta(description="secret; opens this session again")] = UNSET
    models: Annotated[tuple[ModelInfo, ...] | UnsetType, Meta(description="to choose from")] = UNSET
    languages: Annotated[
        tuple[str, ...] | UnsetType, Meta(description="to choose from; empty where nothing is transcribed")
    ] = UNSET
    encodings: Annotated[tuple[Encoding, ...] | UnsetType, Meta(description="to choose from")] = UNSET
    configuration: Annotated[
        Configuration | UnsetType, Meta(description="that holds if none is asked for")
    ] = UNSET
    limits: Annotated[Limits | UnsetType, Meta(description="what the server accepts")] = UNSET
    voices: Annotated[
        tuple[str, ...] | UnsetType, Meta(description="names of the known voices that can be asked for")
    ] = UNSET
    keeps_voices: Annotated[
        bool | UnsetType, Meta(description="whether `voice.enrol` may keep a voice for other sessions")
    ] = UNSET
    exports: Annotated[
        tuple[str, ...] | UnsetType, Meta(description="formats that `session.export` can ask for")
    ] = UNSET


class SessionUpdated(ServerMessage, tag="session.updated", frozen=True, kw_only=True):
    """Answers `session.update`."""

    configuration: Annotated[Configuration, Meta(description="that holds from now on")]


class SessionResumed(ServerMessage, tag="session.resumed", frozen=True, kw_only=True):
    """Answers `session.resume`; the events after `last_event_id` follow."""

    audio_ms: Annotated[Milliseconds, Meta(description="send the audio from here on again")]
    input_id: Annotated[Count, Meta(description="send the inputs after this one again")]
    event_id: Annotated[Count, Meta(description="that of the last event stored; this message is none")]
    configuration: Annotated[Configuration, Meta(description="as it was asked for")]
    limits: Annotated[Limits, Meta(description="what the server accepts")]


class InputAcknowledged(ServerMessage, tag="input.acknowledged", frozen=True, kw_only=True):
    """What the server has stored, and asks for again only if its store goes back in time."""

    audio_ms: Annotated[Milliseconds, Meta(description="audio before this is stored")]
    input_id: Annotated[Count, Meta(description="inputs up to this one are stored")]


class SpeechStarted(ServerMessage, tag="speech.started", frozen=True, kw_only=True):
    """Speech began; a turn follows."""

    audio_start_ms: Annotated[
        int | None, Meta(description="where; its turn may begin a few tenths of a second earlier")
    ]
    channel: Channel = UNSET


class SpeechStopped(ServerMessage, tag="speech.stopped", frozen=True, kw_only=True):
    """The speech that began last (in the channel) has ended; its turn is being understood."""

    audio_end_ms: Annotated[int | None, Meta(description="where; the pause that tells it came after")]
    channel: Channel = UNSET


class EmotionReading(Part, frozen=True, kw_only=True):
    """The expressed emotion."""

    label: Annotated[str, Meta(description="the most probable label")]
    confidence: Annotated[float, Meta(description="its probability")]
    probabilities: Annotated[dict[str, float], Meta(description="of every label; they sum to 1")]


class LatencyParts(Part, frozen=True, kw_only=True):
    """Where the time from the end of speech to the event went, in milliseconds."""

    endpointing: Annotated[float, Meta(description="the silence that was waited for")]
    asr: Annotated[float, Meta(description="transcribing")]
    features: Annotated[float, Meta(description="the voice")]
    emotion: Annotated[float, Meta(description="the words and the network's step")]
    total: Annotated[float, Meta(description="all of it, waiting included")]


Extra: TypeAlias = Annotated[
    dict[str, str] | UnsetType,
    Meta(description="further columns of the file that the turn was given in; in files of events only"),
]


class TurnPartial(ServerMessage, tag="turn.partial", frozen=True, kw_only=True):
    """A turn that is still being spoken. Another one or the final one replaces it."""

    turn: Annotated[
        int, Meta(description="that of the final turn to come, unless another channel's turn ends before")
    ]
    speaker: Annotated[str | None, Meta(description="so far")]
    audio_start_ms: int | None
    audio_end_ms: int | None
    text: Annotated[str, Meta(description="so far")]
    emotion: Annotated[EmotionReading | None, Meta(description="provisional")]
    channel: Channel = UNSET


class TimedWord(Part, frozen=True, kw_only=True):
    """A word of a turn, with its punctuation."""

    text: str
    audio_start_ms: int | None
    audio_end_ms: int | None
    probability: Annotated[float, Meta(description="of its tokens, on average")]


class TurnFields(SessionEvent, frozen=True, kw_only=True):
    """A turn: who spoke, what was said, which emotion it expressed."""

    turn: Annotated[int, Meta(description="0, 1, 2 ... in order")]
    speaker: Annotated[str, Meta(description="the given name, or `speaker_1` ... by order of appearance")]
    speaker_unsure: Annotated[
        bool | UnsetType, Meta(description="true where the voice told little about who spoke; else left out")
    ] = UNSET
    audio_start_ms: Annotated[
        int | None, Meta(description="null for a turn without audio, unless the file it was given in tells")
    ]
    audio_end_ms: int | None
    text: Annotated[str, Meta(description="what was said, in its own language")]
    language: Annotated[
        str | UnsetType, Meta(description="of `text`, ISO 639-1, as transcribed; not where `text` was given")
    ] = UNSET
    translation: Annotated[
        str | UnsetType, Meta(description="`text` in English, from which the emotion was read")
    ] = UNSET
    words: Annotated[
        tuple[TimedWord, ...] | UnsetType, Meta(description="the words of `text`, where they were asked for")
    ] = UNSET
    overlap: Annotated[
        float | UnsetType,
        Meta(description="share of the turn in which somebody else spoke as well, 0 to 1; left out where 0"),
    ] = UNSET
    others: Annotated[
        tuple[str, ...] | UnsetType,
        Meta(description="those whose earlier turns go on into this one; left out where nobody's does"),
    ] = UNSET
    emotion: EmotionReading
    latency_ms: LatencyParts
    revision: Annotated[int, Meta(description="0; 1, 2 ... where a correction changed the turn")]
    channel: Channel = UNSET
    extra: Extra = UNSET


class TurnFinal(TurnFields, tag="turn.final", frozen=True, kw_only=True):
    """A finished turn."""


class TurnRevised(TurnFields, tag="turn.revised", frozen=True, kw_only=True):
    """A finished turn that a speaker correction changed: it replaces the earlier one of the same `turn`."""


class TurnFailed(SessionEvent, tag="turn.failed", frozen=True, kw_only=True):
    """A turn that could not be read, at first or again after a correction. The session goes on."""

    turn: int
    audio_start_ms: int | None
    audio_end_ms: int | None
    message: Annotated[str, Meta(description="what was expected and what came")]
    channel: Channel = UNSET
    extra: Extra = UNSET


class SpeakerUpdated(SessionEvent, tag="speaker.updated", frozen=True, kw_only=True):
    """A speaker has another name, in all turns."""

    speaker: Annotated[str, Meta(description="the name until now")]
    name: Annotated[str, Meta(description="the name from now on")]


class VoiceEnrolled(SessionEvent, tag="voice.enrolled", frozen=True, kw_only=True):
    """A voice is known by its name from now on."""

    name: str
    turn: Annotated[int | None, Meta(description="it was enrolled from; null for a clip")]
    kept: Annotated[bool, Meta(description="whether the server keeps it after the session")]


class Warned(ServerMessage, tag="warning", frozen=True, kw_only=True):
    """Something that the client should know; nothing is lost."""

    code: str
    message: str


class Failed(ServerMessage, tag="error", frozen=True, kw_only=True):
    """What was sent could not be used. Where the server closes afterwards, the close code says so."""

    code: Annotated[str, Meta(description="see the table of errors")]
    message: Annotated[str, Meta(description="what was expected and what came")]
    retryable: Annotated[bool, Meta(description="whether the same may work later")]
    input_id: Annotated[Count | None, Meta(description="of the input that was refused")] = None


class Heartbeat(ServerMessage, tag="heartbeat", frozen=True, kw_only=True):
    """The connection lives; sent when nothing else was for a while."""

    audio_ms: Annotated[Milliseconds, Meta(description="audio received so far")]


class Pong(ServerMessage, tag="pong", frozen=True, kw_only=True):
    """Answers `ping`."""

    id: str | None


class SessionGoingAway(ServerMessage, tag="session.going_away", frozen=True, kw_only=True):
    """The server will close the connection soon; the session can be resumed."""

    reason: str
    time_left_ms: int


class EmotionTotals(Part, frozen=True, kw_only=True):
    """A label in the turns of a speaker."""

    turns: Annotated[int, Meta(description="that expressed it")]
    speaking_ms: Annotated[int, Meta(description="their length")]
    probability: Annotated[float, Meta(description="its mean over all turns of the speaker")]


class EmotionShift(Part, frozen=True, kw_only=True):
    """Turns with another emotion than the same speaker's turn before."""

    before: Annotated[str, Meta(description="the label of the turn before")]
    after: Annotated[str, Meta(description="the label of the turn")]
    count: Annotated[int, Meta(description="how often")]


class SpeakerSummary(Part, frozen=True, kw_only=True):
    """The whole of a conversation, of one speaker."""

    speaker: str
    turns: Annotated[int, Meta(description="turns that have an emotion")]
    speaking_ms: Annotated[int, Meta(description="their length; 0 without audio")]
    share: Annotated[
        float | None, Meta(description="of all speakers' speaking time, 0 to 1; null without audio")
    ]
    emotions: Annotated[
        dict[str, EmotionTotals], Meta(description="by label, in the checkpoint's order; all labels")
    ]
    shifts: Annotated[
        tuple[EmotionShift, ...], Meta(description="from one emotion to another, the most frequent first")
    ]
    interruptions: Annotated[int, Meta(description="turns that begin while somebody else speaks")]


class SessionClosed(SessionEvent, tag="session.closed", frozen=True, kw_only=True):
    """The last message, with totals and the whole of the conversation by speaker."""

    audio_ms: Annotated[int | None, Meta(description="audio heard")]
    turns: Annotated[int, Meta(description="turns that have an emotion")]
    failed_turns: int
    speakers: tuple[str, ...]
    summary: Annotated[
        tuple[SpeakerSummary, ...], Meta(description="of each speaker, in the order of `speakers`")
    ] = ()


class SessionDeleted(ServerMessage, tag="session.deleted", frozen=True, kw_only=True):
    """Answers `session.delete`: nothing of the session is stored any more. It is the last message."""


class SessionExported(ServerMessage, tag="session.exported", frozen=True, kw_only=True):
    """Answers `session.export`; `session_id` is that of the session. The server then closes with 1000."""

    format: str
    content: Annotated[str, Meta(description="the file's bytes, base64")]
    left_out: Annotated[
        int, Meta(description="turns that the format cannot hold: those without words in subtitles")
    ]


FromServer: TypeAlias = (
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
