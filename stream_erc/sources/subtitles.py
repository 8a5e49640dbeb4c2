"""Cues of SubRip (SRT) and WebVTT files: times, text and, if the cue names one, the speaker.

pysubs2 parses times and removes tags. This module does the rest: it reads voice tags, and separates
cues from everything else (a damaged time line, a comment, a style sheet, a cue's name), which pysubs2 would
add to the text of the previous cue.
"""

import html
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pysubs2

from stream_erc.exceptions import TurnsError

MAX_CUE_CHARS = 10_000  # searching for tags takes quadratic time if none is closed


@dataclass(frozen=True, slots=True)
class Cue:
    """A cue, or one speaker's part of it; times in milliseconds.

    Attributes:
        line: line number in the file, 1-based, for messages.
    """

    line: int
    start_ms: int
    end_ms: int
    speaker: str | None
    text: str


_STAMP = {"srt": r"\d{1,2}:[0-5]?\d:[0-5]?\d[.,]\d{1,3}", "vtt": r"(?:\d{1,4}:)?[0-5]\d:[0-5]\d\.\d{3}"}
_TIMES = {kind: re.compile(rf"{stamp}\s*-->\s*{stamp}(?:\s.*)?") for kind, stamp in _STAMP.items()}
_EXAMPLE = {"srt": "00:00:01,000 --> 00:00:02,500", "vtt": "00:01.000 --> 00:02.500"}
_NOT_CUES = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION)(?:\s|$)")

_VOICE = re.compile(r"<v(?:\.[^\s>]*)?[ \t]+([^>]*)>")
_VOICE_MARK = re.compile("\x02([^\x03]*)\x03")  # stands for a voice tag while pysubs2 removes the tags

_WORD = r"(?:\w{1,3}\.|\w[\w'’&#-]*)"  # noqa: RUF001
_NAME = rf"{_WORD}(?: {_WORD}){{0,3}}"
_MANNER = r"(?: \([^():]{1,40}\))?"  # as in "Anna (whispering): ..."
_COLON = re.compile(rf"({_NAME}){_MANNER} ?(?::\s+|:$|：\s*)(.*)", re.DOTALL)  # noqa: RUF001
_BRACKET = re.compile(rf"(?:\[({_NAME})\]|\(({_NAME})\)):?\s+(.+)", re.DOTALL)
_PARTICLES = frozenset("and da de del der di du of the van von".split())
_SOUNDS = frozenset(
    "applause coughs crosstalk crying gasps inaudible laughing laughs laughter music noise pause screams "
    "sighing sighs silence singing sobbing sobs unintelligible whispering whispers".split()
)


def read_cues(path: Path, text: str, kind: str) -> Iterator[Cue]:
    """Read the cues of a file, except those without text.

    Args:
        path: for messages.
        text: the whole file.
        kind: ``srt`` or ``vtt``; a file that begins with ``WEBVTT`` is read as WebVTT.

    Raises:
        TurnsError: something that is not a cue, or invalid times.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    opening = next((line.strip() for line in lines if line.strip()), "")
    if opening.split()[:1] == ["WEBVTT"]:
        kind = "vtt"
    elif kind == "vtt":
        raise TurnsError(f"{path}: expected WEBVTT as the first line, got {opening[:40]!r}")
    for number, times, words in _blocks(path, lines, kind):
        if not _TIMES[kind].fullmatch(times):
            raise TurnsError(f"{path}, line {number}: expected {_EXAMPLE[kind]}, got {times[:60]!r}")
        if (length := sum(map(len, words))) > MAX_CUE_CHARS:
            raise TurnsError(
                f"{path}, line {number}: expected at most {MAX_CUE_CHARS} characters in a cue, got {length}"
            )
        marked = _VOICE.sub("\x02\\1\x03", r"\N".join(words))  # \N: a line break to pysubs2
        marked = re.sub(r"<[\d:.]+>", "", marked)  # a time inside the text, as in karaoke
        events = pysubs2.SSAFile.from_string(f"{times}\n{marked}\n", format_=kind)
        if len(events) != 1:
            raise TurnsError(f"{path}, line {number}: expected one pair of times in a cue, got {len(events)}")
        for speaker, said in _parts(events[0].plaintext):
            if said:
                yield Cue(number, events[0].start, events[0].end, speaker, said)


def _blocks(path: Path, lines: Sequence[str], kind: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the line number, time line and text lines of each cue, without its number or name."""
    block: list[tuple[int, str]] = []
    for item in enumerate([*lines, ""], 1):
        if item[1].strip():
            block.append((item[0], item[1].strip()))
            continue
        arrows = [i for i, (_, line) in enumerate(block) if "-->" in line]
        before = block[: arrows[0]] if arrows else block
        named = len(before) < 2 and (arrows or all(line.isdigit() for _, line in before))
        if not named and not (kind == "vtt" and _NOT_CUES.match(before[0][1])):
            number, line = before[0]
            raise TurnsError(f"{path}, line {number}: expected a cue ({_EXAMPLE[kind]}), got {line[:60]!r}")
        for at, following in itertools.pairwise([*arrows, len(block)]):
            words = [line for _, line in block[at + 1 : following]]
            if following < len(block) and words and words[-1].isdigit():
                words.pop()  # the next cue's number, without a blank line before it
            yield *block[at], words
        block = []


def _parts(text: str) -> list[tuple[str | None, str]]:
    """Split a cue into (speaker, text) parts; the speaker is None if the cue names none."""
    voices = _VOICE_MARK.split(text)  # before, name, said, name, said, ...
    if len(voices) > 1:
        parts = [(None, voices[0]), *zip(voices[1::2], voices[2::2], strict=True)]
        return [(name and _clean(name), _clean(said)) for name, said in parts]
    parts = [_split_name(_clean(text.split("\n")[0]))]
    for line in map(_clean, text.split("\n")[1:]):
        name, said = _split_name(line)
        if name and said and parts[0][0]:
            parts.append((name, said))
        else:
            parts[-1] = (parts[-1][0], f"{parts[-1][1]} {line}".strip())
    if len(parts) == 1 and not parts[0][1]:  # "Listen:" alone is a text, not a silent speaker
        return [(None, _clean(text))]
    return parts


def _clean(text: str) -> str:
    """Join text to one line; remove entities and the dash that begins a line of dialogue."""
    return re.sub(r"^[-\u2013\u2014](?: |(?=[^\W\d]|\[|\())", "", " ".join(html.unescape(text).split()))


def _split_name(line: str) -> tuple[str | None, str]:
    """Split ``Name: text``, ``[Name] text`` or ``(Name) text`` into (name, text), else (None, line)."""
    if match := _COLON.fullmatch(line):
        name, said = match.groups()
        words = name.split()
        if len(words) == 1 or not any(word[0].islower() and word not in _PARTICLES for word in words):
            return name, said
    elif match := _BRACKET.fullmatch(line):
        name, said = match[1] or match[2], match[3]
        plain = any(word[0].islower() and word not in _PARTICLES for word in name.split())
        sound = name.lower().split()[0] in _SOUNDS
        if not sound and (not plain or re.search(r"\d", name)):
            return name, said
    return None, line
