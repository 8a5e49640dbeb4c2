"""Cues of SubRip (SRT) and WebVTT files, also those of Zoom, Teams, Otter and YouTube.

pysubs2 removes tags. This module does the rest: it reads voice tags, and separates cues from everything else
(a damaged time line, a comment, a style sheet, a cue's name), which pysubs2 would add to the text of the
previous cue. A cue ends at the next time line or an empty line; a line of spaces is part of it, since YouTube
pads its cues with one.
"""

import html
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pysubs2

from stream_erc.sources.turns.entries import MAX_JOINED_S, PAUSE_S, Entry, Fault, Found, shared_out
from stream_erc.sources.turns.naming import any_name, parts_of, split_exported, spoken

MAX_CUE_CHARS = 10_000  # searching for tags takes quadratic time if none is closed
MAX_AFTER_WORD_S = 1.0
"""Longest time that a caption's last word takes, where the time of its beginning is known."""

EXAMPLE = "00:00:01,000 --> 00:00:02,500"
_STAMP = r"(?:(\d{1,3}):)?([0-5]?\d):([0-5]?\d)(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"{_STAMP} *(?:-{{1,3}}>|[–—]>|→) *{_STAMP}(?:\s.*)?")  # noqa: RUF001
_ARROW = re.compile(r"-->|^[\d\s:.,]*\d\s*(?:-{1,3}>|[–—]>|→)\s*\d")  # noqa: RUF001
_SPACED = re.compile(r"(?<=\d)\s*([:.,])\s*(?=\d)")
_NOT_CUES = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")

_VOICE = re.compile(r"<v(?:\.[^\s>]*)?[ \t]+([^>]*)>")
_VOICE_MARK = re.compile("\x02([^\x03]*)\x03")  # stands for a voice tag while pysubs2 removes the tags
_EXPORTED = "WEBVTT - stream_erc"  # the first line of an exported file
_EXPORTED_VOICE = re.compile(r"<v\.[\w-]* ([^<>]+)>(.*)")
_MARKUP = re.compile(r"<\S|[{}]")  # never unescaped in an exported cue
_WORD_TIME = re.compile(r"<(?:(\d+):)?(\d\d):(\d\d)\.(\d{3})>")  # within a cue, as in karaoke and captions


@dataclass(frozen=True, slots=True)
class Cue:
    """A cue; times in seconds.

    Attributes:
        line: line number of its times in the file, 1-based.
        lines: its text, with tags.
    """

    line: int
    start_s: float
    end_s: float
    lines: tuple[str, ...]

    @property
    def timed(self) -> bool:
        """Whether words within it have times, as in captions that roll."""
        return any(_WORD_TIME.search(line) for line in self.lines)


def read_cues(lines: Sequence[str]) -> Iterator[Found]:
    """Read the turns of a file's cues; a cue without text is none.

    Args:
        lines: the whole file, SRT or WebVTT, without line ends.
    """
    header = lines[0].strip() if lines else ""
    voices = header == _EXPORTED or not header.startswith("WEBVTT")  # of SRT, only exports have such
    cues: list[Cue] = []
    for item in _cues(lines):
        if isinstance(item, Fault):
            yield item
        else:
            cues.append(item)
    if (exported := [_exported(cue, voices=voices) for cue in cues]) and all(exported):
        yield from (entry for entry in exported if entry is not None)
        return
    if any(cue.timed for cue in cues) or _rolls(cues):
        yield from _rolled(cues)
        return
    turns = [[entry] if entry else _turns(cue) for cue, entry in zip(cues, exported, strict=True)]
    yield from _with_odd_names(list(itertools.chain.from_iterable(turns)))


def _with_odd_names(found: Sequence[Found]) -> Iterator[Found]:
    """Take names of any form where every other cue has one, as in a meeting, or that come again."""
    named = sum(isinstance(item, Entry) and item.speaker is not None for item in found)
    plain = [item for item in found if isinstance(item, Entry) and item.speaker is None]
    split = {id(item): pair for item in plain if (pair := any_name(item.text or ""))}
    counts = Counter(name for name, _ in split.values())
    meeting = named > 1 and len(split) == len(plain)
    for item in found:
        pair = split.get(id(item))
        if pair and isinstance(item, Entry) and (meeting or counts[pair[0]] > 1):
            item = replace(item, speaker=pair[0], text=pair[1])
        yield item


def is_time_line(line: str) -> bool:
    """Return whether a line is the times of a cue."""
    return _TIMES.fullmatch(line) is not None


# --- cues -----------------------------------------------------------------------------------------


def _cues(lines: Sequence[str]) -> Iterator[Cue | Fault]:
    """Yield the cues, and what stands between them and is neither a number, a name nor a comment."""
    stripped = [line.strip() for line in lines]
    arrows = [i for i, line in enumerate(stripped) if _ARROW.search(line)]
    bounds = [*arrows, len(lines)]
    yield from _between(lines, 0, bounds[0], named=bool(arrows), header=True)
    for arrow, following in itertools.pairwise(bounds):
        empty = next((i for i in range(arrow + 1, following) if not lines[i]), following)
        words = [line for line in stripped[arrow + 1 : empty] if line]
        if empty == following < len(lines) and words and _ends_with_a_name(stripped, following, words):
            words.pop()  # the next cue's number or name, without an empty line before it
        yield from _cue(arrow + 1, stripped[arrow], words)
        yield from _between(lines, empty, following, named=following < len(lines))


def _ends_with_a_name(stripped: Sequence[str], following: int, words: Sequence[str]) -> bool:
    """Return whether the last of a cue's lines is the number or name of the cue that follows."""
    apart = len(words) > 1 and bool(stripped[following - 1]) and not stripped[following - 2]
    return words[-1].isdigit() or apart


def _cue(number: int, line: str, words: Sequence[str]) -> Iterator[Cue | Fault]:
    at = f"line {number}"
    times = _TIMES.fullmatch(_SPACED.sub(r"\1", line.split(" align:")[0]))
    if times is None:
        yield Fault(at, f"expected times ({EXAMPLE}), got {line[:60]!r}")
    elif (length := sum(map(len, words))) > MAX_CUE_CHARS:
        yield Fault(at, f"expected at most {MAX_CUE_CHARS} characters in a cue, got {length}")
    else:
        start, end = (_seconds(times.groups()[k : k + 4]) for k in (0, 4))
        yield Cue(number, start, end, tuple(words))


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(f"{seconds}.{fraction or 0}")


def _between(
    lines: Sequence[str], first: int, after: int, *, named: bool, header: bool = False
) -> Iterator[Fault]:
    """Yield a fault for each stray block of lines [first, after), which stand between cues.

    Args:
        lines: the file.
        first: where the block begins.
        after: where it ends: at a time line, or at the end of the file.
        named: whether the last line may be the number or name of the cue that follows.
        header: whether the file's header may be among them.
    """
    block: list[int] = []
    for i in [*range(first, after), None]:
        if i is not None and lines[i].strip():
            block.append(i)
            continue
        if block:
            opening = lines[block[0]].strip()
            is_header = header and opening.split()[0] == "WEBVTT"
            header = False
            name = named and (i is None or i >= after) and len(block) == 1
            if not (is_header or name or _NOT_CUES.match(opening) or _numbers(lines, block)):
                yield Fault(f"line {block[0] + 1}", f"expected a cue ({EXAMPLE}), got {opening[:60]!r}")
        block = []


def _numbers(lines: Sequence[str], block: Sequence[int]) -> bool:
    return all(lines[i].strip().lstrip("\ufeff").isdigit() for i in block)


def _exported(cue: Cue, *, voices: bool) -> Entry | None:
    """Return the turn of a cue that this program exported, None for another one.

    Args:
        cue: times and text.
        voices: whether a voice tag with a class is a mark of an export.
    """
    text = " ".join(cue.lines)
    voice = _EXPORTED_VOICE.fullmatch(text) if voices else None
    parts = (voice[1], voice[2]) if voice else split_exported(text)
    if parts is None or _MARKUP.search(parts[1]):
        return None
    who, said = map(html.unescape, parts)
    return Entry(f"line {cue.line}", who, said, cue.start_s, cue.end_s, exact=True)


# --- cues to turns --------------------------------------------------------------------------------


def _turns(cue: Cue) -> Iterator[Found]:
    """Yield the turns of a cue, which share its time by the lengths of their texts."""
    try:
        parts = [(who, said) for who, said in _parts(cue.lines) if said]
    except ValueError:
        yield Fault(f"line {cue.line}", "expected one pair of times in a cue, got several")
        return
    spans = shared_out(cue.start_s, cue.end_s, [len(said) for _, said in parts])
    for (who, said), (start, end) in zip(parts, spans, strict=True):
        yield Entry(f"line {cue.line}", who, said, start, end)


def _parts(lines: Sequence[str]) -> list[tuple[str | None, str]]:
    """Divide a cue into (speaker, text) parts; the speaker is None if the cue names none."""
    text = _plain(lines)
    voices = _VOICE_MARK.split(text)  # before, name, said, name, said, ...
    if len(voices) > 1:
        parts = [(None, voices[0]), *zip(voices[1::2], voices[2::2], strict=True)]
        return [(name and _joined(name), _joined(said)) for name, said in parts]
    return parts_of([line for line in map(_joined, text.split("\n")) if line])


def _plain(lines: Sequence[str]) -> str:
    """Return a cue's text without tags, and with marks for voices.

    Raises:
        ValueError: a line of its text is a pair of times.
    """
    text = r"\N".join(lines)  # \N: a line break to pysubs2
    if "<" not in text and "{" not in text and "\\" not in text.replace(r"\N", ""):
        return "\n".join(lines)
    marked = _WORD_TIME.sub("", _VOICE.sub("\x02\\1\x03", text))
    events = pysubs2.SSAFile.from_string(f"{EXAMPLE}\n{marked}\n", format_="srt")
    if len(events) != 1:
        raise ValueError
    return events[0].plaintext


def _joined(text: str) -> str:
    """Join text to one line, without entities."""
    return " ".join(html.unescape(text).split())


# --- captions that roll ---------------------------------------------------------------------------


def _rolls(cues: Sequence[Cue]) -> bool:
    """Return whether each line stands in two cues: below where it is new, and above where it is not.

    Such are captions converted from automatic ones. A third of the cues must repeat, so that a speaker may
    say a thing twice.
    """
    pairs = list(itertools.pairwise(cues))
    scrolled = sum(0 < _repeated(a, b) < len(b.lines) for a, b in pairs)
    flashes = sum(_flash(b) and bool(_repeated(a, b)) for a, b in pairs)
    return scrolled > 0 and 3 * (scrolled + flashes) >= len(pairs)


def _flash(cue: Cue) -> bool:
    """Return whether a cue is too short to be read: it repeats a line between two others."""
    return cue.end_s - cue.start_s <= 0.05


def _repeated(before: Cue, cue: Cue) -> int:
    """Return the number of a cue's first lines that the cue before it shows last."""
    if cue.start_s - before.end_s > 0.1:
        return 0
    old, new = ([_words(line) for line in c.lines] for c in (before, cue))
    return max((k for k in range(1, min(len(old), len(new)) + 1) if old[-k:] == new[:k]), default=0)


def _words(line: str) -> str:
    return _joined(re.sub(r"<[^<>]*>", "", line))


def _rolled(cues: Sequence[Cue]) -> Iterator[Found]:
    """Yield turns from the new lines of each cue: joined until a pause, or another speaker."""
    held: Entry | None = None
    shown: list[str] = []
    for cue in cues:
        lines = [line for line in cue.lines if _words(line)]
        texts = [_words(line) for line in lines]
        known = max((k for k in range(1, len(texts) + 1) if shown[-k:] == texts[:k]), default=0)
        new, shown = lines[known:], texts or shown
        if not new:
            continue
        said_until = min(cue.end_s, _last_word(new, cue.end_s) + MAX_AFTER_WORD_S)
        marked = _words(new[0]).startswith((">>", "-"))
        part = Cue(cue.line, cue.start_s, max(said_until, cue.start_s), tuple(new))
        for number, item in enumerate(_turns(part)):
            if isinstance(item, Fault):
                yield item
                continue
            if not spoken(item.text or ""):
                marked = True  # a sound ends the turn
                continue
            if held and not marked and number == 0 and item.speaker is None:
                item = replace(item, speaker=held.speaker)  # until the next mark
            if held and not marked and number == 0 and _goes_on(held, item):
                held = Entry(held.at, held.speaker, f"{held.text} {item.text}", held.start_s, item.end_s)
            else:
                if held:
                    yield held
                held = item
    if held:
        yield held


def _last_word(lines: Sequence[str], default: float) -> float:
    """Return the time at which the last timed word of captions begins, in seconds."""
    times = [match.groups() for line in lines for match in _WORD_TIME.finditer(line)]
    return max(map(_seconds, times), default=default)


def _goes_on(held: Entry, entry: Entry) -> bool:
    """Return whether a line goes on with the turn before it."""
    start, end = held.start_s or 0.0, held.end_s or 0.0
    at = entry.start_s or 0.0
    close = at - end <= PAUSE_S and at - start <= MAX_JOINED_S
    return close and entry.speaker == held.speaker and not (entry.text or "").startswith("[")
