"""The conversation in the end: messages folded to the last state of each turn, under the last names.

`fold` is the one place that says what later messages change: a revision replaces its turn, a failed
classification takes a turn's emotion away, a new name holds for the turns before it. The report and every
export read the result.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

Message: TypeAlias = Mapping[str, object]
"""A message of the wire, as an object of JSON."""

_TURNS = ("turn.final", "turn.revised", "turn.failed")
_NO_TEXT = re.compile("[\ud800-\udfff\ufffe\uffff]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Half surrogate pairs and control characters, which no format holds."""


@dataclass(slots=True)
class Conversation:
    """A session's messages in the end.

    Attributes:
        id: the session's id.
        created: its ``session.created``, None if there was none.
        turns: the last message of each turn, in the order of the turns, with the speakers' last names.
        closed: its ``session.closed``, None if it was not finished.
    """

    id: str
    created: Message | None = None
    turns: list[Message] = field(default_factory=list)
    closed: Message | None = None

    @property
    def dialogue(self) -> str | None:
        """The input's name for it, None if it has none."""
        name = (self.created or {}).get("dialogue")
        return None if name is None else plain(name)

    @property
    def source(self) -> str | None:
        """The name of what was heard, None if unknown."""
        source = (self.created or {}).get("source")
        name = source.get("name") if isinstance(source, Mapping) else None
        return None if name is None else one_line(name)

    @property
    def labels(self) -> list[str]:
        """All emotion labels, in the checkpoint's order."""
        declared = (self.created or {}).get("labels")
        labels = dict.fromkeys(map(str, declared)) if isinstance(declared, list | tuple) else {}
        for turn in self.turns:
            emotion = turn.get("emotion")
            if isinstance(emotion, Mapping):
                probabilities = emotion.get("probabilities")
                labels.update(dict.fromkeys(probabilities if isinstance(probabilities, Mapping) else ()))
                labels[str(emotion.get("label"))] = None
        return list(labels)

    @property
    def summary(self) -> list[Message]:
        """The summary of each speaker, empty if the session was not finished."""
        summary = (self.closed or {}).get("summary")
        return (
            [one for one in summary if isinstance(one, Mapping)] if isinstance(summary, list | tuple) else []
        )

    @property
    def duration_ms(self) -> int:
        """The length of the audio, at least up to the end of the last turn; 0 without audio."""
        source = (self.created or {}).get("source")
        lengths = [turn.get("audio_end_ms") for turn in self.turns]
        lengths.append((self.closed or {}).get("audio_ms"))
        lengths.append(source.get("duration_ms") if isinstance(source, Mapping) else None)
        return max((ms for ms in lengths if isinstance(ms, int)), default=0)


@dataclass(frozen=True, slots=True)
class FinalTurn:
    """A turn in the end, as it is exported.

    Attributes:
        number: the turn's 0-based position in the session.
        speaker: the name, on one line.
        text: what was said; may have several lines.
        start_ms, end_ms: the span in the audio, at least 1 ms; None for a turn without audio.
        probabilities: label -> probability.
        extra: further columns that were given with the turn, by name.
        message: the message that it was made from, for fields that only some formats hold.
    """

    number: int
    speaker: str
    text: str
    start_ms: int | None
    end_ms: int | None
    emotion: str
    confidence: float
    probabilities: Mapping[str, float]
    extra: Mapping[str, str]
    message: Message

    @property
    def line(self) -> str:
        """The text on one line."""
        return one_line(self.text)


def fold(messages: Iterable[Message]) -> list[Conversation]:
    """Collect the conversations of one or more sessions, in the order of their first messages.

    Args:
        messages: in order; momentary ones (partial turns) are ignored.
    """
    conversations: dict[str, Conversation] = {}
    turns: dict[str, dict[int, Message]] = {}
    for message in messages:
        name, kind, turn = str(message.get("session_id")), message["type"], message.get("turn")
        conversation = conversations.setdefault(name, Conversation(name))
        known = turns.setdefault(name, {})
        if kind == "session.created":
            conversation.created = message
        elif kind == "session.closed":
            conversation.closed = message
        elif kind in _TURNS and isinstance(turn, int):
            known[turn] = message
        elif kind == "speaker.updated":
            _rename(known, str(message.get("speaker")), str(message.get("name")))
    for name, conversation in conversations.items():
        conversation.turns = [turns[name][turn] for turn in sorted(turns[name])]
    return list(conversations.values())


def _rename(turns: dict[int, Message], speaker: str, name: str) -> None:
    """Give a speaker's turns, and mentions in others' turns, the new name."""
    for number, turn in turns.items():
        others = turn.get("others")
        mentions = list(others) if isinstance(others, list | tuple) else []
        if turn.get("speaker") != speaker and speaker not in mentions:
            continue
        changed = {**turn}
        if turn.get("speaker") == speaker:
            changed["speaker"] = name
        if mentions:
            now = dict.fromkeys(name if other == speaker else other for other in mentions)
            changed["others"] = [other for other in now if other != changed.get("speaker")]
        turns[number] = changed


def final_turns(conversation: Conversation) -> list[FinalTurn]:
    """Return the turns that have an emotion; failed turns have no speaker, words or emotion to export."""
    return [_final(turn) for turn in conversation.turns if isinstance(turn.get("emotion"), Mapping)]


def _final(message: Message) -> FinalTurn:
    emotion = cast(Mapping[str, object], message["emotion"])
    probabilities, extra = emotion.get("probabilities"), message.get("extra")
    start, end = message.get("audio_start_ms"), message.get("audio_end_ms")
    timed = isinstance(start, int) and isinstance(end, int)
    return FinalTurn(
        number=cast(int, message["turn"]),
        speaker=one_line(message.get("speaker")),
        text=plain(message.get("text")),
        start_ms=cast(int, start) if timed else None,
        end_ms=max(cast(int, end), cast(int, start) + 1) if timed else None,
        emotion=one_line(emotion.get("label")),
        confidence=cast(float, emotion.get("confidence")),
        probabilities=cast(Mapping[str, float], probabilities if isinstance(probabilities, Mapping) else {}),
        extra={one_line(k): plain(v) for k, v in extra.items()} if isinstance(extra, Mapping) else {},
        message=message,
    )


def plain(value: object) -> str:
    """Return a text without control characters and half surrogate pairs, and with plain line ends."""
    return "" if value is None else re.sub("\r\n?", "\n", _NO_TEXT.sub(" ", str(value))).strip()


def one_line(value: object) -> str:
    """Return a text on one line, its words separated by single spaces."""
    return " ".join(plain(value).split())
