"""Entries of a file of turns, as its reader finds them; and the words of a recognizer, joined to turns."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

import ftfy

PAUSE_S = 0.5
"""Silence after which words, or the rolling lines of captions, are another turn."""

MAX_JOINED_S = 30.0
"""Length from which on joined words end at the next word, pause or not."""

IN_MS_FROM = 60
"""Median of whole numbers, as the length of turns, from which on they are milliseconds and no seconds."""


FASTEST = 60
"""Characters a second that nobody says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A turn as a file has it.

    Attributes:
        at: its place in the file, for messages: ``line 3``.
        speaker, text: None for what the file does not tell.
        start_s, end_s: seconds, None for what the file does not tell.
        group: the dialogue or recording that it belongs to, None if the file names none.
        extra: further columns, by name.
        whole: whether the times are whole numbers without a unit, so that they may be milliseconds.
        flaw: what is wrong with the times, which are None then.
        exact: whether the names and the text are taken as they are, as in files that this program wrote, and
            nothing is mended, or taken for a sound.
    """

    at: str
    speaker: str | None
    text: str | None
    start_s: float | None = None
    end_s: float | None = None
    group: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    flaw: str | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of a file that is no turn, with the reason; the rest of the file is read."""

    at: str
    reason: str


Found: TypeAlias = Entry | Fault


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of a recognizer with its punctuation; times in seconds, None where it was not aligned."""

    text: str
    start_s: float | None
    end_s: float | None
    speaker: str | None = None


# --- text -----------------------------------------------------------------------------------------

_ENCODINGS = ftfy.TextFixerConfig(
    unescape_html=False,
    fix_character_width=False,
    fix_line_breaks=False,
    remove_terminal_escapes=False,
    remove_control_chars=False,
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2060\ufeff]")


def clean(text: str, *, exact: bool = False) -> str:
    """Return a text on one line; broken encodings are mended (``donâ€™t``: ``don't``) if not `exact`."""
    if exact:
        return " ".join(text.split())
    if not text.isascii():
        text = ftfy.fix_text(text, _ENCODINGS)
    return " ".join(_CONTROLS.sub(" ", text).split())


# --- times ----------------------------------------------------------------------------------------

_CLOCK = re.compile(r"(?:(?:(\d{1,6}):)?(\d{1,3}):)?(\d{1,2})(?:[.,](\d{1,9}))?")
_NUMBER = re.compile(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?) ?(ms|msecs?|s|secs?|seconds)?")


def seconds_of(value: object, unit: str = "") -> float | None:
    """Convert a time to seconds: a number, or a text such as ``1.5``, ``1,5 s``, ``1500 ms``, ``0:01,5``.

    Args:
        value: the number or text.
        unit: ``ms`` for milliseconds; seconds otherwise, unless the text has a unit of its own.

    Returns:
        None if it is no time, or beyond 10^9 s.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip().lower()
    if frames := re.fullmatch(r"(\d+:\d\d:\d\d)[:;](\d\d)", text):  # of editing programs: taken as thirtieths
        whole = seconds_of(frames[1])
        return None if whole is None else whole + int(frames[2]) / 30
    if ":" in text:
        if not (parts := _CLOCK.fullmatch(text)):
            return None
        hours, minutes, seconds, fraction = parts.groups()
        if int(seconds) > 59 or (hours and int(minutes) > 59):
            return None
        return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(f"{seconds}.{fraction or 0}")
    if not (parts := _NUMBER.fullmatch(text)) or len(text) > 40:
        return None
    number = float(parts[1].replace(",", "."))
    if abs(number) > 1e9:
        return None
    return number / 1000 if (parts[2] or unit).startswith("ms") else number


def is_whole(value: object) -> bool:
    """Return whether a time is a whole number without a unit."""
    return not isinstance(value, bool) and isinstance(value, int | str) and str(value).strip().isdigit()


def with_unit_told(found: Sequence[Found]) -> tuple[list[Found], str | None]:
    """Convert whole numbers without a unit to seconds where they must be milliseconds.

    They are where turns would last for minutes in seconds, and their texts can be said in milliseconds.

    Returns:
        The entries, and what is to be said of it, None if nothing was converted.
    """
    entries = [item for item in found if isinstance(item, Entry) and item.start_s is not None]
    if not entries or not all(entry.whole for entry in entries):
        return list(found), None
    starts = sorted(entry.start_s or 0 for entry in entries)
    lengths = [entry.end_s - (entry.start_s or 0) for entry in entries if entry.end_s is not None]
    lengths = lengths or [after - before for before, after in itertools.pairwise(starts)]
    characters = sum(len(entry.text or "") for entry in entries)
    if not lengths or median(lengths) < IN_MS_FROM or characters > FASTEST * sum(lengths) / 1000:
        return list(found), None
    return [
        _in_ms(item) for item in found
    ], "expected times in seconds, got such as are milliseconds: read so"


def _in_ms(item: Found) -> Found:
    if not isinstance(item, Entry):
        return item
    start, end = (None if at is None else at / 1000 for at in (item.start_s, item.end_s))
    return Entry(item.at, item.speaker, item.text, start, end, item.group, item.extra)


# --- words to turns -------------------------------------------------------------------------------


def turns_of_words(
    at: str, words: Iterable[SpokenWord], pause_s: float = PAUSE_S, group: str | None = None
) -> Iterator[Entry]:
    """Join words to turns, which end with a change of speaker, a pause, or after half a minute.

    A word that was not aligned belongs to the turn of the word before it.
    """
    run: list[SpokenWord] = []
    for word in words:
        if run and word.start_s is not None:
            start = next((w.start_s for w in run if w.start_s is not None), word.start_s)
            end = next((w.end_s for w in reversed(run) if w.end_s is not None), word.start_s)
            apart = word.start_s - end > pause_s or word.start_s - start > MAX_JOINED_S
            if apart or word.speaker != run[-1].speaker:
                yield from _joined(at, run, group)
                run = []
        run.append(word)
    yield from _joined(at, run, group)


def _joined(at: str, run: Sequence[SpokenWord], group: str | None) -> Iterator[Entry]:
    starts = [word.start_s for word in run if word.start_s is not None]
    ends = [word.end_s for word in run if word.end_s is not None]
    if starts and ends:
        text = " ".join(word.text.strip() for word in run)
        speaker = next((word.speaker for word in run if word.speaker is not None), None)
        yield Entry(at, speaker, text, min(starts), max(ends), group)


def shared_out(start_s: float, end_s: float, lengths: Sequence[int]) -> list[tuple[float, float]]:
    """Divide a span among parts, by the lengths of their texts; a part has at least one character."""
    total, at, spans = sum(max(1, length) for length in lengths), start_s, []
    for length in lengths:
        until = at + (end_s - start_s) * max(1, length) / total
        spans.append((at, until))
        at = until
    return spans
