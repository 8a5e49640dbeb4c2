"""Transcripts of a conversation in OpenAI's forms; speakers and emotions stand beside its own fields."""

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stream_erc.exports.conversations import Conversation, FinalTurn, final_turns, one_line
from stream_erc.exports.subtitles import srt, vtt
from stream_erc.protocol.encoding import Json, Message

FRAMES_PER_S = 100
"""Rate of the frames in which ``seek`` counts."""

NOT_MEASURED = 0.0
"""Value of fields of a segment that clients expect as numbers, and that are not measured here."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation that was heard to its end.

    Attributes:
        conversation: its turns.
        language: ISO 639-1 code of the language that was asked for, or is the server's default; "" for none.
        warnings: what was wrong with the recording.
    """

    conversation: Conversation
    language: str
    warnings: tuple[str, ...] = ()


def _text(transcript: Transcript) -> str:
    return " ".join(turn.line for turn in final_turns(transcript.conversation) if turn.line)


def _seconds(ms: int | None) -> float:
    return (ms or 0) / 1000


def _usage(transcript: Transcript) -> Message:
    """Return the length of the audio, in whole seconds that were begun."""
    return {"type": "duration", "seconds": math.ceil(transcript.conversation.duration_ms / 1000)}


def _json(transcript: Transcript) -> str:
    return _dump({"text": _text(transcript), "usage": _usage(transcript)})


def _verbose_json(transcript: Transcript) -> str:
    conversation = transcript.conversation
    turns = final_turns(conversation)
    languages = [str(turn.message["language"]) for turn in turns if turn.message.get("language")]
    most = max(languages, key=languages.count) if languages else transcript.language
    whole: Message = {
        "task": "transcribe",
        "language": most,
        "duration": _seconds(conversation.duration_ms),
        "text": _text(transcript),
        "segments": [_segment(number, turn) for number, turn in enumerate(turns)],
    }
    words = [word for turn in turns for word in _words(turn)]
    if words:
        whole["words"] = words
    if transcript.warnings:
        whole["warnings"] = list(transcript.warnings)
    return _dump({**whole, "usage": _usage(transcript)})


def _segment(number: int, turn: FinalTurn) -> Message:
    """Return a turn as a segment."""
    said = turn.line.encode()
    segment: Message = {
        "id": number,
        "seek": round(_seconds(turn.start_ms) * FRAMES_PER_S),
        "start": _seconds(turn.start_ms),
        "end": _seconds(turn.end_ms),
        "text": turn.line,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": NOT_MEASURED,
        "compression_ratio": len(said) / len(zlib.compress(said)),
        "no_speech_prob": NOT_MEASURED,
        "speaker": turn.speaker,
        "emotion": {
            "label": turn.emotion,
            "confidence": turn.confidence,
            "probabilities": dict(turn.probabilities),
        },
    }
    for name in ("language", "translation", "speaker_unsure", "overlap", "others"):
        if name in turn.message:
            segment[name] = turn.message[name]  # type: ignore[assignment]
    return segment


def _words(turn: FinalTurn) -> list[Json]:
    words = turn.message.get("words")
    if not isinstance(words, list | tuple):
        return []
    return [
        {
            "word": one_line(word["text"]),
            "start": _seconds(word["audio_start_ms"]),
            "end": _seconds(word["audio_end_ms"]),
            "probability": word["probability"],
            "speaker": turn.speaker,
        }
        for word in words
    ]


def _diarized_json(transcript: Transcript) -> str:
    turns = final_turns(transcript.conversation)
    segments: list[Json] = [diarized_segment(turn) for turn in turns if turn.line]
    whole: Message = {
        "task": "transcribe",
        "duration": _seconds(transcript.conversation.duration_ms),
        "text": _text(transcript),
        "segments": segments,
        "usage": _usage(transcript),
    }
    return _dump(whole)


def diarized_segment(turn: FinalTurn) -> Message:
    """Return a turn as a segment of a diarized transcript, also as an event of a stream."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{turn.number:03}",
        "start": _seconds(turn.start_ms),
        "end": _seconds(turn.end_ms),
        "text": turn.line,
        "speaker": turn.speaker,
        "emotion": {"label": turn.emotion, "confidence": turn.confidence},
    }


def done(transcript: Transcript) -> Message:
    """Return the last event of a stream."""
    return {"type": "transcript.text.done", "text": _text(transcript), "usage": _usage(transcript)}


def _dump(whole: Message) -> str:
    return json.dumps(whole, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Form:
    """A form of transcripts: how it is written, and its media type."""

    write: Callable[[Transcript], str]
    content_type: str


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "json": Form(_json, "application/json"),
        "text": Form(lambda transcript: _text(transcript) + "\n", "text/plain"),
        "srt": Form(lambda transcript: "".join(srt(transcript.conversation)), "text/plain"),
        "vtt": Form(lambda transcript: "".join(vtt(transcript.conversation)), "text/vtt"),
        "verbose_json": Form(_verbose_json, "application/json"),
        "diarized_json": Form(_diarized_json, "application/json"),
    }
)
"""``response_format`` -> form."""
