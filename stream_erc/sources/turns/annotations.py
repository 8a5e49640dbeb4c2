"""Tiers of annotations: ELAN's ``.eaf`` and Praat's ``.TextGrid``.

Both are read here. pympi 1.71 refuses an ELAN file that names no schema, and gives annotations between time
slots without times none; praatio 6.2.2 refuses a TextGrid with numbers such as ``5.7e-14``, which Praat
writes.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias
from xml.etree import ElementTree

from stream_erc.exceptions import TurnsError
from stream_erc.sources.turns.entries import Entry, Fault, Found, SpokenWord, turns_of_words

_SPEECH = re.compile(
    r"(?:^|[^a-z])(?:spch|text|txt|tx|utt(?:erance)?s?|ipus?|transcript(?:ion)?s?|orth?o?(?:graph(?:y|ic))?|speech|"
    r"sentences?|phrases?|verbal|talk|turns?|default|tiers? ?\d*|segments?)(?:[^a-z]|$)",
    re.IGNORECASE,
)
"""Names of tiers that hold speech."""

_NO_SPEECH = re.compile(
    r"gestur|gaze|\bnotes?\b|comment|emotion|affect|valence|arousal|noise|sounds?\b|music|activit|posture|"
    r"head|hand|face|facial|eye|smile|laugh|breath|topic|translat|gloss|\bpos\b|morph|phon|syllab|pitch|tones?\b|"
    r"tobi|break|pause|silence|vad",
    re.IGNORECASE,
)
_WORDS = re.compile(r"(?P<who>.*?)[ _@.:|-]*\b(?:words?|wrd|ort-mau|MAU-words)$", re.IGNORECASE)
_SILENCE = frozenset(
    ("", "<sil>", "sil", "sp", "spn", "<p:>", "<p>", "<s>", "#", "_", "<eps>", "<unk>", "..", "*", "-")
)


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier: its name, its participant if the file names one, and its intervals; some have no text."""

    name: str
    participant: str | None
    intervals: tuple[tuple[str, float, float, str], ...]


def _all_turns(tiers: Sequence[Tier], silence: frozenset[str] = frozenset(("",))) -> Iterator[Found]:
    """Yield the turns of exported tiers of speech, which have their emotions behind them, and of all others.

    Args:
        tiers: all tiers of the file.
        silence: texts that stand for silence in tiers that are no exports, in lower case.
    """
    others: list[Tier] = []
    rest = list(tiers)
    while rest:
        tier = rest.pop(0)
        if rest and rest[0].name in _emotions_of(tier.name):
            yield from _exported(tier, rest.pop(0))
        else:
            others.append(tier)
    spoken = [
        replace(t, intervals=tuple(i for i in t.intervals if i[3].strip().lower() not in silence))
        for t in others
    ]
    yield from _turns(spoken, alone=len(others) == len(tiers))


def _emotions_of(name: str) -> set[str]:
    """Return the names that the tier of emotions may have behind an exported tier; see `exports`."""
    found = re.fullmatch(r"(.*) (\(\d+\))", name)
    return {f"{name} / emotion", f"{found[1]} / emotion {found[2]}" if found else ""}


def _exported(tier: Tier, emotions: Tier) -> Iterator[Found]:
    """Yield the turns of an exported tier; those without words have but an emotion."""
    first = emotions.name == f"{tier.name} / emotion"
    speaker = tier.participant or (tier.name if first else tier.name.rpartition(" (")[0])
    silent = {start for _, start, _, text in emotions.intervals if text}
    for at, start, end, text in tier.intervals:
        if text or start in silent:
            yield Entry(at, speaker, text or None, start, end, exact=True)


def _turns(tiers: Sequence[Tier], *, alone: bool) -> Iterator[Found]:
    """Yield the turns of the tiers that hold speech.

    Such are all tiers but those that are named for something else. Tiers of words are read where there are no
    others.

    Args:
        tiers: their intervals all have a text.
        alone: whether one of them must hold speech, since there are no further ones.
    """
    filled = [tier for tier in tiers if tier.intervals]
    words = [tier for tier in filled if _WORDS.fullmatch(tier.name)]
    others = [tier for tier in filled if tier not in words]
    speech = [tier for tier in others if not _NO_SPEECH.search(tier.name) or _SPEECH.search(tier.name)]
    speech = [tier for tier in speech if _SPEECH.search(tier.name) or not _named_beside(tier, speech)]
    if not speech and not words and alone:
        speech = others
    for tier in others:
        if tier not in speech:
            yield Fault(f"tier {tier.name!r}", "expected speech, got a tier that is named for something else")
    for tier in speech:
        for at, start, end, text in tier.intervals:
            yield Entry(at, speaker_of(tier), text, start, end)
    if not speech:
        for tier in words:
            spoken = (SpokenWord(text, start, end) for _, start, end, text in tier.intervals)
            for entry in turns_of_words(tier.intervals[0][0], spoken):
                match = _WORDS.fullmatch(tier.name)
                who = tier.participant or (match and match["who"].strip()) or None
                yield Entry(entry.at, who, entry.text, entry.start_s, entry.end_s)


def _named_beside(tier: Tier, tiers: Sequence[Tier]) -> bool:
    """Return whether another tier of the same participant is for speech: ``Ann-Spch`` beside ``Ann-RH``."""
    for other in tiers:
        who = speaker_of(other)
        if other is not tier and who and _SPEECH.search(other.name):
            rest = tier.name.removeprefix(who)
            if tier.participant == who or (rest != tier.name and re.match(r"[^a-z0-9]", rest, re.IGNORECASE)):
                return True
    return False


def speaker_of(tier: Tier) -> str | None:
    """Return who speaks in a tier: its participant, or its name unless that only tells of speech."""
    if tier.participant:
        return tier.participant
    who = re.sub(r"^(?:tx|text|utt|ref|ortho?|transcription)@|@.*$", "", tier.name, flags=re.IGNORECASE)
    who = re.sub(_SPEECH, " ", who).strip(" _-.:|@()") if _SPEECH.search(who) else who.strip()
    return who or None


# --- ELAN -----------------------------------------------------------------------------------------

Slots: TypeAlias = dict[str, float | None]


def read_eaf(text: str) -> Iterator[Found]:
    """Read the tiers of an ELAN document that have no parent, or the texts below such as have only numbers.

    Raises:
        TurnsError: it is no XML, or no ELAN document; the message is without the file's name.
    """
    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ElementTree.ParseError as error:
        raise TurnsError(f"expected an ELAN document, got: {error}") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise TurnsError(f"expected an ELAN document, got <{root.tag[:40]}>")
    slots: Slots = {}
    for slot in root.iterfind("TIME_ORDER/TIME_SLOT"):
        value = slot.get("TIME_VALUE", "")
        slots[slot.get("TIME_SLOT_ID", "")] = (
            int(value) / 1000 if re.fullmatch(r"-?\d{1,12}", value) else None
        )
    elements = list(root.iterfind("TIER"))
    spans: dict[str, tuple[float, float]] = {}
    for element in elements:
        spans |= _aligned(element, slots)
    _follow(elements, spans)
    tiers = []
    for element in elements:
        if not element.get("PARENT_REF"):
            name = element.get("TIER_ID", "")
            below = [e for e in elements if e.get("PARENT_REF") == name]
            emotions = next((e for e in below if e.get("TIER_ID") in _emotions_of(name)), None)
            read = [_text_below(element, elements)] if emotions is None else [element, emotions]
            for chosen in read:
                intervals, faults = _intervals(chosen, spans)
                yield from faults
                who = element.get("PARTICIPANT") or chosen.get("PARTICIPANT")
                tiers.append(Tier(chosen.get("TIER_ID", ""), (who or "").strip() or None, tuple(intervals)))
    yield from _all_turns(tiers)


def _aligned(tier: ElementTree.Element, slots: Slots) -> dict[str, tuple[float, float]]:
    """Return the spans of a tier's annotations; slots without times lie evenly between others."""
    ends = [
        (a.get("ANNOTATION_ID", ""), a.get("TIME_SLOT_REF1", ""), a.get("TIME_SLOT_REF2", ""))
        for a in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION")
    ]
    order = list(dict.fromkeys(slot for _, *both in ends for slot in both))
    times = dict(zip(order, _between([slots.get(slot) for slot in order]), strict=True))
    spans = {}
    for name, first, last in ends:
        start, end = times[first], times[last]
        if start is not None and end is not None:
            spans[name] = (start, end)
    return spans


def _between(times: Sequence[float | None]) -> list[float | None]:
    """Fill in missing times evenly between their neighbours; those at the ends stay missing."""
    filled = list(times)
    known = [i for i, time in enumerate(times) if time is not None]
    for a, b in itertools.pairwise(known):
        for i in range(a + 1, b):
            first, last = times[a] or 0.0, times[b] or 0.0
            filled[i] = first + (last - first) * (i - a) / (b - a)
    return filled


def _follow(elements: Sequence[ElementTree.Element], spans: dict[str, tuple[float, float]]) -> None:
    """Give annotations without time slots the span of the annotation that they refer to, shared evenly."""
    refers = {
        ref.get("ANNOTATION_ID", ""): (ref.get("ANNOTATION_REF", ""), tier.get("TIER_ID", ""))
        for tier in elements
        for ref in tier.iterfind("ANNOTATION/REF_ANNOTATION")
    }
    while refers:
        ready = {name: key for name, key in refers.items() if key[0] in spans}
        if not ready:
            return
        siblings: dict[tuple[str, str], list[str]] = {}
        for name, key in ready.items():
            siblings.setdefault(key, []).append(name)
            del refers[name]
        for (parent, _), names in siblings.items():
            start, end = spans[parent]
            for k, name in enumerate(names):
                step = (end - start) / len(names)
                spans[name] = (start + k * step, start + (k + 1) * step)


def _text_below(tier: ElementTree.Element, elements: Sequence[ElementTree.Element]) -> ElementTree.Element:
    """Return the tier with the text of a root tier: itself, or the one below where it has only numbers."""
    values = [(v.text or "").strip() for v in tier.iterfind("ANNOTATION/*/ANNOTATION_VALUE")]
    if any(any(c.isalpha() for c in re.sub(r"^\S+\.\d+$", "", value)) for value in values):
        return tier
    below = [e for e in elements if e.get("PARENT_REF") == tier.get("TIER_ID")]
    return next((e for e in below if _SPEECH.search(e.get("TIER_ID", ""))), below[0] if below else tier)


def _intervals(
    tier: ElementTree.Element, spans: Mapping[str, tuple[float, float]]
) -> tuple[list[tuple[str, float, float, str]], list[Fault]]:
    found, faults = [], []
    for annotation in tier.iterfind("ANNOTATION/*"):
        name, text = annotation.get("ANNOTATION_ID", ""), annotation.findtext("ANNOTATION_VALUE") or ""
        at = f"annotation {name} of tier {tier.get('TIER_ID', '')!r}"
        if name not in spans:
            faults.append(Fault(at, "expected a time, got none"))
        else:
            found.append((at, *spans[name], text.strip()))
    return found, faults


# --- Praat ----------------------------------------------------------------------------------------

_PRAAT = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?<!\S)(?P<number>-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)%?(?!\S)|(?<!\S)<(?P<flag>\w+)>|![^\n]*'
)
"""What Praat reads of its text files, long and short: texts, free-standing numbers and flags."""


def read_textgrid(text: str) -> Iterator[Found]:
    """Read the interval tiers of a TextGrid; tiers of points have no turns.

    Raises:
        TurnsError: it is no TextGrid; the message is without the file's name.
    """
    if "ooTextFile" not in text[:200] or "TextGrid" not in text[:400]:
        raise TurnsError(f"expected a TextGrid of Praat, got {text[:40]!r}")
    tokens = _tokens(text)
    tiers: list[Tier] = []
    try:
        for _, kind in tokens:
            if kind == "<exists>":
                break
        for _ in range(int(_number(tokens))):
            kind, name, _, _ = _text(tokens), _text(tokens), _number(tokens), _number(tokens)
            intervals: list[tuple[str, float, float, str]] = []
            try:
                for item in _intervals_of(tokens, points=kind != "IntervalTier"):
                    intervals.append(item)
            finally:
                tiers.append(Tier(name.strip(), None, tuple(intervals)))
    except _BrokenOff as error:
        line = error.line or text.count("\n") + 1
        yield Fault(f"line {line}", f"expected {error.wanted}, got {error.got}; the rest is left out")
    yield from _all_turns(tiers, _SILENCE)


class _BrokenOff(Exception):
    """A TextGrid that ends before it should, or has something else in a place."""

    def __init__(self, wanted: str, token: tuple[int, float | str] | None) -> None:
        super().__init__(wanted)
        self.wanted = wanted
        self.line, got = token or (0, "the end")
        self.got = repr(got)[:60] if token else got


def _tokens(text: str) -> Iterator[tuple[int, float | str]]:
    """Yield the line and value of each token; texts begin with a quotation mark, unlike flags."""
    line, at = 1, 0
    for match in _PRAAT.finditer(text):
        line, at = line + text.count("\n", at, match.start()), match.start()
        if match["text"] is not None:
            yield line, '"' + match["text"].replace('""', '"')
        elif match["number"]:
            yield line, float(match["number"])
        elif match["flag"]:
            yield line, f"<{match['flag']}>"


def _number(tokens: Iterator[tuple[int, float | str]]) -> float:
    token = next(tokens, None)
    if token is None or isinstance(token[1], str) or not abs(token[1]) < 1e9:
        raise _BrokenOff("a number", token)
    return token[1]


def _text(tokens: Iterator[tuple[int, float | str]]) -> str:
    token = next(tokens, None)
    if token is None or not isinstance(token[1], str):
        raise _BrokenOff("a text in quotation marks", token)
    return token[1][1:]


def _intervals_of(
    tokens: Iterator[tuple[int, float | str]], *, points: bool
) -> Iterator[tuple[str, float, float, str]]:
    """Yield the intervals of a tier; points are read and passed over."""
    for _ in range(int(_number(tokens))):
        token = next(tokens, None)
        if token is None or isinstance(token[1], str):
            raise _BrokenOff("a number", token)
        end = token[1] if points else _number(tokens)
        text = _text(tokens).strip()
        if not points:
            yield f"line {token[0]}", token[1], end, text
