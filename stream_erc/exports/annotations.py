"""Annotations of speech: RTTM, TextGrid (Praat) and EAF (ELAN).

RTTM holds who spoke when, and neither words nor emotions; its names have no spaces. TextGrid and EAF have
tiers for each speaker: the words, ``Name``; then, with the same times, the emotion, ``Name / emotion``. A
tier cannot hold spans that overlap, so turns of one speaker that do, as a correction can make them, take a
second tier, ``Name (2)`` with ``Name / emotion (2)``. By these pairs, `stream_erc.sources` knows an export.

The files are written here and not by pympi, which looks for the parent of each dependent annotation by its
time: that takes quadratic time, and finds the turn before where two touch. The tests read what is written
with praatio and pympi.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree import ElementTree

from stream_erc.exports.conversations import Conversation, FinalTurn, final_turns

WORDS = "{}"
EMOTION = "{} / emotion"
CONFIDENCE = "{} / confidence"
"""The names of a speaker's tiers."""

_Slots: TypeAlias = dict[tuple[int, int], str]
"""(turn, 0 for its start and 1 for its end) -> the id of the time slot; each turn has its own."""

_EAF_FORMAT = "3.0"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


# --- RTTM -----------------------------------------------------------------------------------------


def rttm(conversation: Conversation) -> Iterator[str]:
    """Yield the lines of an RTTM file."""
    turns = final_turns(conversation)
    names = _without_spaces([turn.speaker for turn in turns])
    name = conversation.source or conversation.id
    recording = re.sub(r"\s+", "_", name.rpartition(".")[0] or name)
    for turn in turns:
        start, end = _span(turn)
        times = f"{start / 1000:.3f} {(end - start) / 1000:.3f}"
        yield f"SPEAKER {recording} 1 {times} <NA> <NA> {names[turn.speaker]} <NA> <NA>\n"


def _without_spaces(speakers: Sequence[str]) -> dict[str, str]:
    """Return speaker -> a name without spaces that no other speaker has."""
    plain = {name for name in speakers if not re.search(r"\s", name) and name not in ("", "<NA>")}
    names: dict[str, str] = {}
    for speaker in speakers:
        if speaker in names:
            continue
        wanted = speaker if speaker in plain else re.sub(r"\s+", "_", speaker).strip("<>") or "unnamed"
        taken = plain | set(names.values()) if speaker not in plain else set()
        found, number = wanted, 2
        while found in taken:
            found, number = f"{wanted}_{number}", number + 1
        names[speaker] = found
    return names


# --- tiers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tier:
    """Turns of one speaker that do not overlap, in order of start; `number` keeps such tiers apart."""

    speaker: str
    number: int
    turns: list[FinalTurn]

    def name(self, form: str = WORDS) -> str:
        """Return the name of the tier of words, or of another one of these turns."""
        return _name(form, self.speaker, self.number)


def _tiers(conversation: Conversation) -> list[_Tier]:
    """Return the tiers of all speakers, in order of appearance."""
    by_speaker: dict[str, list[FinalTurn]] = {}
    for turn in sorted(final_turns(conversation), key=_span):
        by_speaker.setdefault(turn.speaker, []).append(turn)
    taken: set[str] = set()
    first = {speaker: _new_number(speaker, taken) for speaker in by_speaker}
    tiers: list[_Tier] = []
    for speaker, turns in by_speaker.items():
        for k, row in enumerate(_rows(turns)):
            number = first[speaker] if k == 0 else _new_number(speaker, taken)
            tiers.append(_Tier(speaker, number, row))
    return tiers


def _rows(turns: Sequence[FinalTurn]) -> list[list[FinalTurn]]:
    """Divide turns in order of start into rows without overlap, as few as can be."""
    rows: list[list[FinalTurn]] = []
    for turn in turns:
        row = next((row for row in rows if _span(row[-1])[1] <= _span(turn)[0]), None)
        if row is None:
            rows.append([turn])
        else:
            row.append(turn)
    return rows


def _new_number(speaker: str, taken: set[str]) -> int:
    """Return the first number with which a speaker's tiers have new names, and add these to `taken`."""
    for number in itertools.count(1):
        names = {_name(form, speaker, number) for form in (WORDS, EMOTION, CONFIDENCE)}
        if not taken & names:
            break
    taken |= names
    return number


def _name(form: str, speaker: str, number: int) -> str:
    return form.format(speaker) + (f" ({number})" if number > 1 else "")


def _span(turn: FinalTurn) -> tuple[int, int]:
    assert turn.start_ms is not None and turn.end_ms is not None, "a turn without audio"
    return turn.start_ms, turn.end_ms


# --- TextGrid -------------------------------------------------------------------------------------


def textgrid(conversation: Conversation) -> Iterator[str]:
    """Yield a TextGrid in Praat's long format; a gap is an interval without text."""
    end_ms = max(conversation.duration_ms, 1)
    tiers = _tiers(conversation)
    end_ms = max([end_ms, *(_span(tier.turns[-1])[1] for tier in tiers)])
    yield 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    yield f"xmin = 0\nxmax = {_seconds(end_ms)}\n"
    if not tiers:
        yield "tiers? <absent>\n"
        return
    yield f"tiers? <exists>\nsize = {2 * len(tiers)}\nitem []:\n"
    for number, tier in enumerate(tiers):
        spoken = [(*_span(turn), turn.line) for turn in tier.turns]
        shown = [(*_span(turn), f"{turn.emotion} {turn.confidence:.2f}") for turn in tier.turns]
        yield from _interval_tier(2 * number + 1, tier.name(), spoken, end_ms)
        yield from _interval_tier(2 * number + 2, tier.name(EMOTION), shown, end_ms)


def _interval_tier(
    number: int, name: str, spans: Sequence[tuple[int, int, str]], end_ms: int
) -> Iterator[str]:
    intervals: list[tuple[int, int, str]] = []
    at = 0
    for start, end, text in spans:
        if start > at:
            intervals.append((at, start, ""))
        intervals.append((start, end, text))
        at = end
    if at < end_ms:
        intervals.append((at, end_ms, ""))
    yield f'    item [{number}]:\n        class = "IntervalTier"\n        name = {_quoted(name)}\n'
    yield f"        xmin = 0\n        xmax = {_seconds(end_ms)}\n"
    yield f"        intervals: size = {len(intervals)}\n"
    for position, (start, end, text) in enumerate(intervals, 1):
        yield f"        intervals [{position}]:\n            xmin = {_seconds(start)}\n"
        yield f"            xmax = {_seconds(end)}\n            text = {_quoted(text)}\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


# --- EAF ------------------------------------------------------------------------------------------


def eaf(conversation: Conversation) -> str:
    """Return an ELAN file: for each speaker a tier of words, and two that depend on it."""
    tiers = _tiers(conversation)
    ElementTree.register_namespace("xsi", _XSI)
    schema = f"http://www.mpi.nl/tools/elan/EAFv{_EAF_FORMAT}.xsd"
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "stream_erc",
            "DATE": str((conversation.created or {}).get("created_at") or "1970-01-01T00:00:00+00:00"),
            "FORMAT": _EAF_FORMAT,
            "VERSION": _EAF_FORMAT,
            f"{{{_XSI}}}noNamespaceSchemaLocation": schema,
        },
    )
    ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    order = ElementTree.SubElement(root, "TIME_ORDER")
    edges = [
        (ms, turn.number, end) for tier in tiers for turn in tier.turns for end, ms in enumerate(_span(turn))
    ]
    slots: _Slots = {}
    for count, (ms, turn, end) in enumerate(sorted(edges), 1):
        slots[turn, end] = f"ts{count}"
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{count}", "TIME_VALUE": str(ms)})
    last = 0
    for tier in tiers:
        last = _add_tiers(root, tier, slots, last)
    for kind, constraint in (("turn", None), ("emotion", "Symbolic_Association")):
        attributes = {
            "GRAPHIC_REFERENCES": "false",
            "LINGUISTIC_TYPE_ID": kind,
            "TIME_ALIGNABLE": str(constraint is None).lower(),
        }
        if constraint is not None:
            attributes["CONSTRAINTS"] = constraint
        ElementTree.SubElement(root, "LINGUISTIC_TYPE", attributes)
    ElementTree.SubElement(
        root,
        "CONSTRAINT",
        {"DESCRIPTION": "1-1 association with a parent annotation", "STEREOTYPE": "Symbolic_Association"},
    )
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, "unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _add_tiers(root: ElementTree.Element, tier: _Tier, slots: _Slots, last: int) -> int:
    """Add the tier of words and those that depend on it; return the number of the last annotation."""
    about = {"PARTICIPANT": tier.speaker}
    words = ElementTree.SubElement(
        root, "TIER", {"LINGUISTIC_TYPE_REF": "turn", "TIER_ID": tier.name(), **about}
    )
    parents = []
    for turn in tier.turns:
        last += 1
        start, end = slots[turn.number, 0], slots[turn.number, 1]
        parents.append(f"a{last}")
        _annotate(
            words,
            "ALIGNABLE_ANNOTATION",
            {"ANNOTATION_ID": f"a{last}", "TIME_SLOT_REF1": start, "TIME_SLOT_REF2": end},
            turn.line,
        )
    for form in (EMOTION, CONFIDENCE):
        attributes = {
            "LINGUISTIC_TYPE_REF": "emotion",
            "PARENT_REF": tier.name(),
            "TIER_ID": tier.name(form),
        }
        dependent = ElementTree.SubElement(root, "TIER", {**attributes, **about})
        for turn, parent in zip(tier.turns, parents, strict=True):
            last += 1
            value = turn.emotion if form is EMOTION else f"{turn.confidence:.6g}"
            _annotate(
                dependent, "REF_ANNOTATION", {"ANNOTATION_ID": f"a{last}", "ANNOTATION_REF": parent}, value
            )
    return last


def _annotate(tier: ElementTree.Element, kind: str, attributes: dict[str, str], value: str) -> None:
    around = ElementTree.SubElement(ElementTree.SubElement(tier, "ANNOTATION"), kind, attributes)
    ElementTree.SubElement(around, "ANNOTATION_VALUE").text = value
