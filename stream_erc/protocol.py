"""Events as messages: one JSON object each, in a file (EVENTS.jsonl) as on the wire.

Every message has

- ``type``: one of those below;
- ``session_id``: which conversation; a file of several text dialogues holds several sessions;
- ``seq``: 0, 1, 2 ... within the session;
- ``dialogue``: only where the input named the dialogue, as it named it.

Times are integer milliseconds since the session's audio began; a text-only turn has ``null`` times.
A message may gain fields in later versions; readers ignore what they do not know.

``session.created``
    The first message. ``model``: the checkpoint's name. ``asr``: the recognizer's name. ``labels``: the
    emotion labels, in the checkpoint's order. ``source``: ``{"name", "duration_ms"}``, what is being heard
    and for how long, where known.

``speech.started``
    ``audio_start_ms``: speech began there; a turn follows.

``turn.partial``
    A turn that is still being spoken. ``turn``: its index, that of the final turn to come. ``speaker``,
    ``audio_start_ms``, ``audio_end_ms``, ``text``: so far. ``emotion``: provisional, or ``null``.

``turn.final``
    A turn. ``turn``: 0, 1, 2 ... in order; ``speaker``: the given name, or ``speaker_1`` ... by order of
    appearance; ``audio_start_ms``, ``audio_end_ms``: when it was spoken; ``text``: what was said.
    ``emotion``: ``{"label", "confidence", "probabilities": {label: p}}``: the expressed emotion, the
    probability of that label, and of every label (they sum to 1). ``latency_ms``: ``endpointing``, the
    silence that was waited for; ``asr``, ``features``, ``emotion``: compute time of the stages; ``total``:
    from the end of speech to this message, waiting included. ``revision``: 0.

``turn.revised``
    A speaker correction changed a final turn: the fields of ``turn.final`` with ``revision`` 1, 2 ...; it
    replaces the earlier message of the same ``turn``.

``turn.failed``
    A turn that could not be read. ``turn``, ``audio_start_ms``, ``audio_end_ms``, ``message``: what was
    expected and what came. The session goes on. A turn that had been final fails where it could not be read
    again after a speaker correction.

``session.closed``
    The last message. ``audio_ms``: audio heard. ``turns``, ``failed_turns``: how many of each there were.
    ``speakers``: their names.
"""

import json
from collections.abc import Sequence
from typing import TypeAlias

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import (
    Emotion,
    EmotionEvent,
    Event,
    Latency,
    PartialTurn,
    SessionClosed,
    SpeechStarted,
    TurnFailed,
)

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | dict[str, "Json"] | None
Message: TypeAlias = dict[str, Json]


def to_ms(samples: int | None) -> int | None:
    """Samples as the wire's integer milliseconds."""
    return None if samples is None else round(samples * 1000 / SAMPLE_RATE)


class MessageEncoder:
    """Numbers a session's messages.

    Args:
        session_id: the session's name on the wire.
        dialogue: the input's name for it, if any.
    """

    def __init__(self, session_id: str, dialogue: str | None = None) -> None:
        self._session_id, self._dialogue = session_id, dialogue
        self._seq = 0

    def created(
        self, *, model: str, asr: str, labels: Sequence[str], name: str, duration_ms: int | None
    ) -> Message:
        """The ``session.created`` message."""
        source: Json = {"name": name, "duration_ms": duration_ms}
        return self._message(
            "session.created", {"model": model, "asr": asr, "labels": list(labels), "source": source}
        )

    def encode(self, event: Event) -> Message:
        """The message of an event."""
        match event:
            case SpeechStarted(start):
                return self._message("speech.started", {"audio_start_ms": to_ms(start)})
            case PartialTurn():
                emotion = None if event.emotion is None else emotion_fields(event.emotion)
                span = {"audio_start_ms": to_ms(event.start), "audio_end_ms": to_ms(event.end)}
                return self._message(
                    "turn.partial",
                    {
                        "turn": event.index,
                        "speaker": event.speaker,
                        **span,
                        "text": event.text,
                        "emotion": emotion,
                    },
                )
            case EmotionEvent():
                return self._message("turn.revised" if event.revision else "turn.final", _turn_fields(event))
            case TurnFailed():
                span = {"audio_start_ms": to_ms(event.start), "audio_end_ms": to_ms(event.end)}
                return self._message("turn.failed", {"turn": event.index, **span, "message": event.message})
            case SessionClosed():
                return self._message(
                    "session.closed",
                    {
                        "audio_ms": to_ms(event.audio_samples),
                        "turns": event.turns,
                        "failed_turns": event.failed_turns,
                        "speakers": list(event.speakers),
                    },
                )

    def _message(self, kind: str, fields: Message) -> Message:
        message: Message = {"type": kind, "session_id": self._session_id, "seq": self._seq}
        if self._dialogue is not None:
            message["dialogue"] = self._dialogue
        self._seq += 1
        return message | fields


def to_json(message: Message) -> str:
    """One line of JSON, without a line end."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False)


def emotion_fields(emotion: Emotion) -> Message:
    """The ``emotion`` object, probabilities to six decimals."""
    return {
        "label": emotion.label,
        "confidence": round(emotion.confidence, 6),
        "probabilities": {label: round(p, 6) for label, p in emotion.probabilities.items()},
    }


def _turn_fields(event: EmotionEvent) -> Message:
    return {
        "turn": event.turn.index,
        "speaker": event.speaker_name,
        "audio_start_ms": to_ms(event.turn.start),
        "audio_end_ms": to_ms(event.turn.end),
        "text": event.turn.text,
        "emotion": emotion_fields(event.emotion),
        "latency_ms": _latency_fields(event.latency),
        "revision": event.revision,
    }


def _latency_fields(latency: Latency) -> Message:
    return {
        "endpointing": round(latency.endpointing, 1),
        "asr": round(latency.asr, 1),
        "features": round(latency.features, 1),
        "emotion": round(latency.emotion, 1),
        "total": round(latency.total, 1),
    }
