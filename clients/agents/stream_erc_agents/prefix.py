"""A turn's reading as words for a language model: a prefix before the turn, a line about the conversation.

What people say, and the names they give themselves, ends in a prompt. Square brackets mark the readings, so
no other text keeps its own: nothing that is said can look like a reading, or begin a line of its own.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from stream_erc_client import SpeakerUpdated, TurnFinal, TurnPartial, TurnRevised

Turn: TypeAlias = TurnFinal | TurnRevised | TurnPartial
Probabilities: TypeAlias = Mapping[str, float]

MAX_NAME_LENGTH = 40
"""Characters of a speaker or label that are kept."""

LATELY = 3
"""How many of a speaker's last turns a summary calls "lately"."""

_SQUARE = re.compile("SQUARE|TORTOISE SHELL|LENTICULAR")
"""In the Unicode names of square brackets and of what looks like them: they become round ones."""

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
"""Fillers and variation selectors, which can carry a text that nobody sees; those of emoji are kept."""

_JOINERS = "\u200c\u200d"
"""Invisible, and yet part of words and of emoji: the only format characters that are kept."""


@dataclass(frozen=True, slots=True)
class PrefixStyle:
    """What a prefix says.

    Attributes:
        labels: how many labels at most, the most probable first.
        threshold: a label less probable than this is left out; the first one stays.
        speaker: whether the speaker is named.
        min_confidence: where the first label is less probable than this, no emotion is named.
    """

    labels: int = 2
    threshold: float = 0.1
    speaker: bool = True
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.labels < 1:
            raise ValueError(f"expected labels of at least 1, got {self.labels}")
        for name, value in (("threshold", self.threshold), ("min_confidence", self.min_confidence)):
            if not 0 <= value <= 1:
                raise ValueError(f"expected {name} between 0 and 1, got {value}")


DEFAULT_STYLE = PrefixStyle()


def prefix(event: Turn, style: PrefixStyle = DEFAULT_STYLE) -> str:
    """The reading alone: ``([speaker_1, emotion anger=0.71, neutral=0.20])``; empty where it says nothing."""
    parts = []
    if style.speaker and event.speaker is not None:
        parts.append(safe_name(event.speaker))
    if event.emotion is not None and event.emotion.confidence >= style.min_confidence:
        first, *others = ranked(event.emotion.probabilities)[: style.labels]
        named = [first, *((label, p) for label, p in others if p >= style.threshold)]
        parts.append("emotion " + ", ".join(f"{safe_name(label)}={p:.2f}" for label, p in named))
    return f"([{', '.join(parts)}])" if parts else ""


def prefixed(event: Turn, text: str | None = None, style: PrefixStyle = DEFAULT_STYLE) -> str:
    """A turn for a prompt.

    Args:
        event: the turn.
        text: what was said, where it is known better than by the event.
        style: what the prefix says.

    Returns:
        One line, as ``([speaker_1, emotion anger=0.71, neutral=0.20]) Oh great.``; its only square brackets
        are those of the prefix.
    """
    return f"{prefix(event, style)} {safe_text(event.text if text is None else text)}".strip()


def summary(events: Iterable[object]) -> str:
    """How the conversation has gone, per speaker: one line for a system prompt, empty before the first turn.

    Args:
        events: a session's events, in order; those that are no turns may be among them.

    Returns:
        ``Expressed emotion so far: Anna (5 turns): anger 0.66, before that joy 0.58; Tom (2 turns): ...``
        The mean over a speaker's last three turns comes first, that over the turns before it second.
    """
    readings: dict[str, list[Probabilities]] = {}
    for turn in standing_turns(events):
        readings.setdefault(turn.speaker, []).append(turn.emotion.probabilities)
    told = [f"{safe_name(speaker)} {_trend(turns)}" for speaker, turns in readings.items()]
    return f"Expressed emotion so far: {'; '.join(told)}." if told else ""


def standing_turns(events: Iterable[object]) -> list[TurnFinal | TurnRevised]:
    """The turns as they stand after all the events: revised ones in place, under the speakers' last names.

    A session that was lost is followed by another one, whose turns are counted anew.
    """
    sessions: dict[str, dict[int, TurnFinal | TurnRevised]] = {}
    for event in events:
        if isinstance(event, TurnFinal | TurnRevised):
            sessions.setdefault(event.session_id, {})[event.turn] = event
        elif isinstance(event, SpeakerUpdated):
            turns = sessions.get(event.session_id, {})
            for k, turn in turns.items():
                if turn.speaker == event.speaker:
                    turns[k] = replace(turn, speaker=event.name)
    return [turns[k] for turns in sessions.values() for k in sorted(turns)]


def mean(readings: Sequence[Probabilities]) -> dict[str, float]:
    """The mean probability of each label; one that a reading lacks counts as 0 there."""
    labels = dict.fromkeys(label for reading in readings for label in reading)
    return {label: sum(r.get(label, 0.0) for r in readings) / len(readings) for label in labels}


def ranked(probabilities: Probabilities) -> list[tuple[str, float]]:
    """Labels with their probabilities, the most probable first."""
    return sorted(probabilities.items(), key=lambda item: -item[1])


def safe_text(text: str) -> str:
    """What was said, on one line, without square brackets and without characters that nobody sees."""
    return " ".join("".join(map(_visible, _UNSEEN.sub("", text))).split())


def safe_name(name: str) -> str:
    """A speaker or label: letters, digits and ``. ' - _`` only; ``unknown`` where nothing is left."""
    kept = " ".join(re.sub(r"[^\w.'-]", " ", safe_text(name)).split())
    return kept[:MAX_NAME_LENGTH].strip() or "unknown"


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":  # line ends and tabs part words
        return " "
    if category in ("Ps", "Pe") and _SQUARE.search(unicodedata.name(character)):
        return "(" if category == "Ps" else ")"
    return character if category[0] != "C" or character in _JOINERS else ""


def _trend(readings: Sequence[Probabilities]) -> str:
    (label, p), *_ = ranked(mean(readings[-LATELY:]))
    told = f"({len(readings)} turn{'s' if len(readings) > 1 else ''}): {safe_name(label)} {p:.2f}"
    if earlier := readings[:-LATELY]:
        (label, p), *_ = ranked(mean(earlier))
        told += f", before that {safe_name(label)} {p:.2f}"
    return told
