"""Transcripts with a turn, or a word, a line: RTTM, CTM, IEMOCAP's, Otter's, lines that begin with a time."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from stream_erc.sources.text_files import short
from stream_erc.sources.turns.entries import Entry, Fault, Found, SpokenWord, seconds_of, turns_of_words
from stream_erc.sources.turns.naming import split_exported, split_name

RTTM_OTHER_TYPES = frozenset(
    "SEGMENT NOSCORE NO_RT_METADATA LEXEME NON-LEX NON-SPEECH FILLER EDIT IP SU CB A/P SPKR-INFO".split()
)
_COMMENTS = (";", "#")

IEMOCAP = re.compile(r"(Ses\d\d)[FM]_\w+_([FM])\w+ *\[(\d+(?:\.\d+)?) *- *(\d+(?:\.\d+)?)\] *: *(.*)")
_ASIDE = re.compile(r"\w{1,20} *: *(.*)")

_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?"
OTTER = re.compile(rf"(?P<name>\S.{{0,80}}?)(?:\s\s+|\t)\(?(?P<start>{_TIME})\)?(?P<end>)(?P<text>)\s*")
_UNTIL = rf"(?:\s*(?:-->|-|–|—|to)\s*(?P<end>{_TIME}))?"  # noqa: RUF001
TIME_FIRST = re.compile(
    rf"[\[(]?(?P<start>{_TIME}){_UNTIL}[\])]?(?:\s*[-–—|]\s+|\s+|$)(?P<name>)(?P<text>.*)"  # noqa: RUF001
)
NAME_FIRST = re.compile(
    rf"(?P<name>[^\W\d_].{{0,80}}?) ?[\[(](?P<start>{_TIME}){_UNTIL}[\])] ?:?\s*(?P<text>.*)"
)
BRACKETED = re.compile(rf"\[(?P<name>[^\[\]]{{1,80}})\] (?P<start>{_TIME})(?P<end>)\s*(?P<text>.*)")
_EXPORTED = re.compile(r"\[((?:\d+:)?\d\d:\d\d\.\d{3}) - ((?:\d+:)?\d\d:\d\d\.\d{3})\] ")
_DIALOGUE, _TRANSLATION = "== ", "    in English: "
_FOOTERS = re.compile(r"(?:Transcribed|Powered|Notes taken) by https?://\S+|SPEAKERS|(?:SUMMARY )?KEYWORDS")


def read_rttm(lines: Sequence[str]) -> Iterator[Found]:
    """Read the ``SPEAKER`` lines of RTTM; other standard line types are passed over."""
    for number, line in enumerate(lines, 1):
        at, fields = f"line {number}", line.split()
        if not fields or fields[0].startswith(_COMMENTS) or fields[0] in RTTM_OTHER_TYPES:
            continue
        if fields[0] != "SPEAKER" or len(fields) < 8:
            wanted = "SPEAKER FILE CHANNEL START DURATION <NA> <NA> NAME <NA> <NA>"
            yield Fault(at, f"expected {wanted}, got {short(line.strip())}")
            continue
        start, duration = (seconds_of(field) for field in fields[3:5])
        if start is None or duration is None:
            yield Fault(at, f"expected a number as start and duration, got {' '.join(fields[3:5])[:60]!r}")
            continue
        name = " ".join(
            fields[7 : max(8, len(fields) - 2)]
        )  # a name of two words, though it may have but one
        who = None if name == "<NA>" else name
        yield Entry(at, who, None, start, start + duration, fields[1], exact=True)


def read_ctm(lines: Sequence[str]) -> Iterator[Found]:
    """Read the words of CTM (``FILE CHANNEL START DURATION WORD [CONFIDENCE [TYPE SPEAKER]]``) as turns.

    Words are joined until a pause. Channels are speakers where there are several, unless lines name them.
    """
    rows: list[tuple[int, str, str, SpokenWord]] = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith(_COMMENTS) or fields[2:3] == ["*"]:
            continue
        start, duration = (seconds_of(field) for field in ([*fields[2:4], "", ""])[:2])
        if len(fields) < 5 or start is None or duration is None:
            got = short(line.strip())
            yield Fault(
                f"line {number}", f"expected FILE CHANNEL START DURATION WORD [CONFIDENCE], got {got}"
            )
            continue
        if len(fields) > 6 and fields[6] not in ("lex", "<NA>", "un-lex", "fp", "frag", "for-lex", "misc"):
            continue  # non-lex, non-speech ...
        speaker = fields[7] if len(fields) > 7 and fields[7] not in ("<NA>", "unknown") else None
        if fields[4] not in ("<eps>", "<s>", "</s>", "<sil>", "SIL"):
            word = SpokenWord(fields[4].removeprefix("▁"), start, start + duration, speaker)
            rows.append((number, fields[0], fields[1], word))
    several = len({(name, channel) for _, name, channel, _ in rows}) > len({row[1] for row in rows})
    rows.sort(key=lambda row: (row[1], row[2]))
    for (name, channel), run in groupby(rows, key=lambda row: (row[1], row[2])):
        words = [(number, word) for number, _, _, word in run]
        words.sort(key=lambda item: item[1].start_s or 0)
        for entry in turns_of_words(f"line {words[0][0]}", [word for _, word in words], group=name):
            who = entry.speaker or (channel if several else None)
            yield Entry(entry.at, who, entry.text, entry.start_s, entry.end_s, name)


def read_iemocap(lines: Sequence[str]) -> Iterator[Found]:
    """Read a transcript of IEMOCAP; the speakers are those of training (``Ses01_F``)."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if found := IEMOCAP.fullmatch(line.strip()):
            session, who, start, end, text = found.groups()
            yield Entry(f"line {number}", f"{session}_{who}", text, float(start), float(end))
        elif not ((aside := _ASIDE.fullmatch(line.strip())) and len(line.split(":")[0]) < 3 and aside):
            yield Fault(
                f"line {number}",
                f"expected NAME [START-END]: TEXT, got {short(line.strip())}",
            )


def lines_pattern(lines: Sequence[str]) -> re.Pattern[str] | None:
    """Return the pattern of the lines that begin turns in a text file, None if it is of no such kind."""
    some = [line.strip() for line in lines if line.strip()][:200]
    counts = {p: sum(_is_head(p, line) for line in some) for p in (TIME_FIRST, OTTER, NAME_FIRST, BRACKETED)}
    best = max(counts, key=lambda pattern: counts[pattern])
    return best if counts[best] else None


def _is_head(pattern: re.Pattern[str], line: str) -> bool:
    return pattern.fullmatch(line) is not None


def read_timed_lines(lines: Sequence[str], pattern: re.Pattern[str]) -> Iterator[Found]:
    """Read a transcript whose turns begin with a line that has a time, such as Otter's ``Ann Lee  0:05``.

    The text is on that line, or on those that follow.
    """
    head: tuple[int, str | None, float, float | None] | None = None
    said: list[str] = []
    for number, line in enumerate([*lines, None], 1):
        text = None if line is None else line.strip()
        found = pattern.fullmatch(text) if text else None
        start = seconds_of(found["start"]) if found else None
        if text is not None and (found is None or start is None):
            if head is None and text and not _FOOTERS.match(text) and number > 12:
                yield Fault(f"line {number}", f"expected a line with a time, got {short(text)}")
            elif text and not _FOOTERS.fullmatch(text):
                said.append(text)
            continue
        if head is not None:
            yield _entry(head, " ".join(said))
        if found is not None and start is not None:
            head = number, found["name"].strip(" :-") or None, start, seconds_of(found["end"] or "")
            said = [found["text"]] if found["text"] else []


def is_exported(lines: Sequence[str]) -> bool:
    """Return whether lines are a text file that this program exported."""
    first = next((line for line in lines if line.strip() and not line.startswith(_DIALOGUE)), "")
    return _exported("", first.strip(), None) is not None


def read_exported(lines: Sequence[str]) -> Iterator[Found]:
    """Read a text file that this program exported: ``[00:01.250 - 00:03.000] Name (joy 87%): text``."""
    held: Entry | None = None
    group: str | None = None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if (entry := _exported(f"line {number}", text, group)) is not None:
            if held is not None:
                yield held
            held = entry
        elif line.startswith(_DIALOGUE):
            group = text.removeprefix(_DIALOGUE)
        elif held is not None and text and not line.startswith(_TRANSLATION):
            held = replace(held, text=f"{held.text or ''} {text}")
    if held is not None:
        yield held


def _exported(at: str, line: str, group: str | None) -> Entry | None:
    """Return the turn of an exported line, None if it begins none."""
    times = _EXPORTED.match(line)
    if (parts := split_exported(line[times.end() :] if times else line)) is None:
        return None
    start, end = (seconds_of(time) for time in times.groups()) if times else (None, None)
    return Entry(at, parts[0], parts[1] or None, start, end, group, exact=True)


def _entry(head: tuple[int, str | None, float, float | None], text: str) -> Entry:
    number, name, start, end = head
    if name is None:
        name, text = split_name(text)
    return Entry(f"line {number}", name, text or None, start, end)
