"""Readings as text for a language model: a prefix for a turn, a summary line for the conversation.

Transcripts and speakers' names end up in a prompt. Square brackets mark the readings, so they are removed
from all other text: nothing that people say can look like a reading, or begin a line of its own.
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
"""Maximum length of a speaker or label, in characters."""

LATELY = 3
"""Number of a speaker's last turns that a summary averages first."""

_SQUARE = re.compile("SQUARE|TORTOISE SHELL|LENTICULAR")
"""In the Unicode names of square brackets and their lookalikes, which become round brackets."""

_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
"""Fillers and variation selectors, which can hide text; the variation selectors of emoji are kept."""

_JOINERS = "\u200c\u200d"
"""Invisible parts of words and emoji: the only format characters that are kept."""


@dataclass(frozen=True, slots=True)
class PrefixStyle:
    """The contents of a prefix.

    Attributes:
        labels: maximum number of labels, the most probable first.
        threshold: labels less probable than this are left out, except the first.
        speaker: whether to name the speaker.
        min_confidence: name no emotion if the first label is less probable than this.
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
    """Return the reading alone, as ``([speaker_1, emotion anger=0.71, neutral=0.20])``; "" if it is empty."""
    parts = []
    if style.speaker and event.speaker is not None:
        parts.append(safe_name(event.speaker))
    if event.emotion is not None and event.emotion.confidence >= style.min_confidence:
        first, *others = ranked(event.emotion.probabilities)[: style.labels]
        shown = [first, *((label, p) for label, p in others if p >= style.threshold)]
        parts.append("emotion " + ", ".join(f"{safe_name(label)}={p:.2f}" for label, p in shown))
    return f"([{', '.join(parts)}])" if parts else ""


def prefixed(event: Turn, text: str | None = None, style: PrefixStyle = DEFAULT_STYLE) -> str:
    """Return a turn as text for a prompt.

    Args:
        event: the turn.
        text: the words, if known better than from the event.
        style: the contents of the prefix.

    Returns:
        One line, as ``([speaker_1, emotion anger=0.71, neutral=0.20]) Oh great.``; its only square brackets
        are those of the prefix.
    """
    return f"{prefix(event, style)} {safe_text(event.text if text is None else text)}".strip()


def summary(events: Iterable[object]) -> str:
    """Summarize the conversation by speaker, in one line for a system prompt; "" before the first turn.

    Args:
        events: a session's events, in order; events other than turns are ignored.

    Returns:
        ``Expressed emotion so far: Anna (5 turns): anger 0.66, before that joy 0.58; Tom (2 turns): ...``
        The mean over a speaker's last three turns comes first, then the mean over the turns before.
    """
    readings: dict[str, list[Probabilities]] = {}
    for turn in standing_turns(events):
        readings.setdefault(turn.speaker, []).append(turn.emotion.probabilities)
    parts = [f"{safe_name(speaker)} {_trend(turns)}" for speaker, turns in readings.items()]
    return f"Expressed emotion so far: {'; '.join(parts)}." if parts else ""


def standing_turns(events: Iterable[object]) -> list[TurnFinal | TurnRevised]:
    """Return the turns after all events: revised ones in place, with the speakers' latest names.

    After a lost session, the turns of the next one are numbered from 0 again.
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
    """Return the mean probability of each label; a label missing from a reading counts as 0."""
    labels = dict.fromkeys(label for reading in readings for label in reading)
    return {label: sum(r.get(label, 0.0) for r in readings) / len(readings) for label in labels}


def ranked(probabilities: Probabilities) -> list[tuple[str, float]]:
    """Return the labels with their probabilities, the most probable first."""
    return sorted(probabilities.items(), key=lambda item: -item[1])


def safe_text(text: str) -> str:
    """Return a text on one line, without square brackets and invisible characters."""
    return " ".join("".join(map(_visible, _INVISIBLE.sub("", text))).split())


def safe_name(name: str) -> str:
    """Return a speaker or label with only letters, digits and ``. ' - _``; ``unknown`` if nothing is left."""
    kept = " ".join(re.sub(r"[^\w.'-]", " ", safe_text(name)).split())
    return kept[:MAX_NAME_LENGTH].strip() or "unknown"


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":  # line ends and tabs separate words
        return " "
    if category in ("Ps", "Pe") and _SQUARE.search(unicodedata.name(character)):
        return "(" if category == "Ps" else ")"
    return character if category[0] != "C" or character in _JOINERS else ""


def _trend(readings: Sequence[Probabilities]) -> str:
    (label, p), *_ = ranked(mean(readings[-LATELY:]))
    text = f"({len(readings)} turn{'s' if len(readings) > 1 else ''}): {safe_name(label)} {p:.2f}"
    if earlier := readings[:-LATELY]:
        (label, p), *_ = ranked(mean(earlier))
        text += f", before that {safe_name(label)} {p:.2f}"
    return text
