"""Conversion of events and client frames to messages, and of messages to lines of JSON."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypedDict, cast, overload

import msgspec
from msgspec import UNSET, UnsetType

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import (
    ClientInput,
    ClipEnrolment,
    Emotion,
    EmotionEvent,
    Event,
    GivenTurn,
    InputRejected,
    Latency,
    PartialTurn,
    SessionClosed,
    SpeakerRenamed,
    SpeakerRenaming,
    SpeakerSummary,
    SpeechStarted,
    SpeechStopped,
    TurnEnrolment,
    TurnFailed,
    VoiceEnrolled,
    Word,
)
from stream_erc.protocol import messages
from stream_erc.protocol.errors import ERRORS, Refusal
from stream_erc.protocol.messages import EmotionReading, LatencyParts, ServerMessage, SessionEvent

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | dict[str, "Json"] | None
Message: TypeAlias = dict[str, Json]


@overload
def to_ms(samples: int) -> int: ...


@overload
def to_ms(samples: int | None) -> int | None: ...


def to_ms(samples: int | None) -> int | None:
    """Convert samples to the wire's integer milliseconds."""
    return None if samples is None else round(samples * 1000 / SAMPLE_RATE)


class Envelope(TypedDict):
    """The fields that every message of the server has; `seq` stays 0 until `to_message` gives it."""

    session_id: str
    seq: int
    created_at: str | UnsetType
    dialogue: str | UnsetType


class MessageEncoder:
    """An encoder of a session's events as messages; it numbers the events that are never lost.

    Args:
        session_id: the session's id on the wire.
        dialogue: the input's name for it, if any.
        event_id: id of the session's last event so far, 0 at its beginning.
        now: returns the time as ISO 8601, for ``created_at``; None leaves that out.
    """

    def __init__(
        self,
        session_id: str,
        dialogue: str | None = None,
        event_id: int = 0,
        now: Callable[[], str] | None = None,
    ) -> None:
        self.session_id, self.event_id = session_id, event_id
        self._dialogue = UNSET if dialogue is None else dialogue
        self._now = now

    def envelope(self) -> Envelope:
        """Return the common fields of the next message."""
        created_at = UNSET if self._now is None else self._now()
        return {"session_id": self.session_id, "seq": 0, "created_at": created_at, "dialogue": self._dialogue}

    def encode(self, event: Event) -> ServerMessage:
        """Return the message of an event; one that is never lost gets the next event number."""
        envelope = self.envelope()
        match event:
            case SpeechStarted(start, channel):
                return messages.SpeechStarted(
                    **envelope, audio_start_ms=to_ms(start), channel=_channel(channel)
                )
            case SpeechStopped(end, channel):
                return messages.SpeechStopped(**envelope, audio_end_ms=to_ms(end), channel=_channel(channel))
            case PartialTurn():
                return messages.TurnPartial(
                    **envelope,
                    turn=event.index,
                    speaker=event.speaker,
                    audio_start_ms=to_ms(event.start),
                    audio_end_ms=to_ms(event.end),
                    text=event.text,
                    emotion=None if event.emotion is None else _reading(event.emotion),
                    channel=_channel(event.channel),
                )
            case InputRejected(number, given, reason):
                code = _error_code(given)
                return messages.Failed(
                    **envelope, code=code, message=reason, retryable=ERRORS[code][1], input_id=number
                )
        self.event_id += 1
        match event:
            case EmotionEvent():
                kind = messages.TurnRevised if event.revision else messages.TurnFinal
                return kind(
                    **envelope,
                    event_id=self.event_id,
                    turn=event.turn.index,
                    speaker=event.speaker_name,
                    speaker_unsure=event.turn.unsure or UNSET,
                    audio_start_ms=to_ms(event.turn.start),
                    audio_end_ms=to_ms(event.turn.end),
                    text=event.turn.text,
                    language=event.turn.language or UNSET,
                    translation=event.turn.translation or UNSET,
                    words=tuple(map(_timed_word, event.turn.words)) or UNSET,
                    overlap=round(event.turn.overlap, 2) or UNSET,
                    others=event.others or UNSET,
                    emotion=_reading(event.emotion),
                    latency_ms=_latency(event.latency),
                    revision=event.revision,
                    channel=_channel(event.turn.channel),
                )
            case TurnFailed():
                return messages.TurnFailed(
                    **envelope,
                    event_id=self.event_id,
                    turn=event.index,
                    audio_start_ms=to_ms(event.start),
                    audio_end_ms=to_ms(event.end),
                    message=event.message,
                    channel=_channel(event.channel),
                )
            case VoiceEnrolled():
                return messages.VoiceEnrolled(
                    **envelope, event_id=self.event_id, name=event.name, turn=event.turn, kept=event.keep
                )
            case SpeakerRenamed():
                return messages.SpeakerUpdated(
                    **envelope, event_id=self.event_id, speaker=event.previous, name=event.name
                )
            case SessionClosed():  # pragma: no branch  (mypy sees that no event is left)
                return messages.SessionClosed(
                    **envelope,
                    event_id=self.event_id,
                    audio_ms=to_ms(event.audio_samples),
                    turns=event.turns,
                    failed_turns=event.failed_turns,
                    speakers=event.speakers,
                    summary=tuple(map(_summary, event.summary)),
                )


class FileEncoder:
    """An encoder of a recorded session's events as the messages of a file, numbered from 0.

    Args:
        session_id: the session's id in the file.
        dialogue: the input's name for it, if any.
        given: the turns that are known, by their numbers: a turn's message has what else its file tells.
    """

    def __init__(
        self, session_id: str, dialogue: str | None = None, given: Sequence[GivenTurn] | None = None
    ) -> None:
        self._encoder, self._seq = MessageEncoder(session_id, dialogue), itertools.count()
        self._given = given or ()

    def created(
        self,
        *,
        model: str,
        asr: str,
        labels: Sequence[str],
        name: str,
        duration_ms: int | None,
        channels: Sequence[str | None] | None = None,
    ) -> Message:
        """Return the ``session.created`` message of a recording."""
        separate = UNSET if channels is None else tuple(channels)
        source = messages.Source(name=name, duration_ms=duration_ms, channels=separate)
        created = messages.SessionCreated(
            **self._encoder.envelope(), model=model, asr=asr, labels=tuple(labels), source=source
        )
        return to_message(created, next(self._seq))

    def encode(self, event: Event) -> Message:
        """Return the message of an event."""
        message = self._encoder.encode(event)
        if isinstance(message, messages.TurnFields | messages.TurnFailed) and message.turn < len(self._given):
            given = self._given[message.turn]
            message = msgspec.structs.replace(message, extra=dict(given.extra) or UNSET)
            if message.audio_start_ms is None:
                start, end = to_ms(given.start), to_ms(given.end)
                message = msgspec.structs.replace(message, audio_start_ms=start, audio_end_ms=end)
        return to_message(message, next(self._seq))


def parse(text: str) -> messages.FromClient:
    """Parse a client's text frame.

    Raises:
        Refusal: ``invalid_message``.
    """
    try:
        message: messages.FromClient = _FROM_CLIENT.decode(text)
    except msgspec.ValidationError as error:
        raise Refusal(
            "invalid_message", f"expected a message of the protocol, got one with: {error}"
        ) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refusal(
            "invalid_message", f"expected a JSON object, got {len(text)} characters: {error}"
        ) from error
    return message


_FROM_CLIENT: msgspec.json.Decoder[messages.FromClient] = msgspec.json.Decoder(messages.FromClient)


def event_id_of(message: ServerMessage) -> int:
    """Return the number of an event, 0 for any other message."""
    return message.event_id if isinstance(message, SessionEvent) else 0


def to_message(message: ServerMessage, seq: int = 0) -> Message:
    """Return a message as the object that goes on the wire, numbered `seq`."""
    return cast(Message, msgspec.json.decode(msgspec.json.encode(message))) | {"seq": seq}


def to_json(message: Message) -> str:
    """Return one line of JSON, without a line end."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False)


def schema() -> Message:
    """Return the JSON Schema of all messages, of client and server."""
    kinds = (messages.FromClient, messages.FromServer)
    (client, server), parts = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"stream_erc protocol {messages.PROTOCOL_VERSION}",
        "description": "What a client sends (FromClient) and what the server sends (FromServer).",
        "anyOf": [{"$ref": "#/$defs/FromClient"}, {"$ref": "#/$defs/FromServer"}],
        "$defs": cast(Message, {"FromClient": client, "FromServer": server, **parts}),
    }


def _channel(channel: int | None) -> int | UnsetType:
    return UNSET if channel is None else channel


def _error_code(given: ClientInput) -> str:
    """Return the code of the error that rejects an input."""
    match given:
        case SpeakerRenaming():
            return "invalid_speaker"
        case TurnEnrolment() | ClipEnrolment():
            return "invalid_voice"
        case _:
            return "invalid_turn"


def _timed_word(word: Word) -> messages.TimedWord:
    return messages.TimedWord(
        text=word.text,
        audio_start_ms=to_ms(word.start),
        audio_end_ms=to_ms(word.end),
        probability=round(word.probability, 3),
    )


def _reading(emotion: Emotion) -> EmotionReading:
    """Return the ``emotion`` object, with probabilities to six decimals."""
    return EmotionReading(
        label=emotion.label,
        confidence=round(emotion.confidence, 6),
        probabilities={label: round(p, 6) for label, p in emotion.probabilities.items()},
    )


def _summary(summary: SpeakerSummary) -> messages.SpeakerSummary:
    """Return the summary of a speaker, with shares and probabilities to four decimals."""
    return messages.SpeakerSummary(
        speaker=summary.speaker,
        turns=summary.turns,
        speaking_ms=to_ms(summary.samples),
        share=None if summary.share is None else round(summary.share, 4),
        emotions={
            totals.label: messages.EmotionTotals(
                turns=totals.turns,
                speaking_ms=to_ms(totals.samples),
                probability=round(totals.probability, 4),
            )
            for totals in summary.emotions
        },
        shifts=tuple(
            messages.EmotionShift(before=shift.before, after=shift.after, count=shift.count)
            for shift in summary.shifts
        ),
        interruptions=summary.interruptions,
    )


def _latency(latency: Latency) -> LatencyParts:
    """Return the ``latency_ms`` object, to a tenth of a millisecond."""
    return LatencyParts(
        endpointing=round(latency.endpointing, 1),
        asr=round(latency.asr, 1),
        features=round(latency.features, 1),
        emotion=round(latency.emotion, 1),
        total=round(latency.total, 1),
    )
