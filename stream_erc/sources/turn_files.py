"""Files of turns that are known beforehand: with times for a recording, or as a conversation without one.

`read_turns` reads the turns of a recording, and `read_dialogues` a conversation in text, from any of these:

- ``.srt``, ``.vtt``: subtitles and captions, also those of Zoom, Teams, Otter and YouTube, whose rolling
  lines are joined so that each is read once. A speaker is named by ``<v Name>``, ``Name: ...``, ``[Name]
  ...`` or ``(Name) ...``; another speaker begins with a dash or ``>>``. Several in a cue share its time by
  the lengths of their texts. A cue without text is no turn;
- ``.csv``, ``.tsv``, ``.parquet``: tables with any delimiter (comma, semicolon, tab, ``|``) and the usual
  names of columns: a text or a speaker or both, a start, an end or duration, a dialogue; also those of MELD.
  Further columns come along as `GivenTurn.extra`. Times are seconds (``1.5``, ``1,5``), milliseconds
  (``start_ms``, ``Onset (ms)``, ``1500 ms``) or clock times (``0:01.5``, ``00:00:01,500``);
- ``.json``: transcripts of Whisper (``verbose_json``, faster-whisper, WhisperX, whisper.cpp, transformers),
  Deepgram and AssemblyAI; a list of ``{"speaker", "text", "start", "end"}`` with the keys that columns may
  have; ``{"dialogue": ID, "turns": [...]}``, or several such in ``{"dialogues": [...]}``; other keys are
  ignored, since corpora include labels;
- ``.jsonl``: on each line a dialogue ``{"dialogue": ID, "turns": [...]}``, or a turn, as a row of a table;
- ``.rttm``: speakers and times (``SPEAKER`` lines); ``.ctm``: words with times, joined until a pause;
- ``.eaf`` (ELAN), ``.TextGrid`` (Praat): tiers of speech, each with its speaker;
- ``.txt``: IEMOCAP's transcripts, Otter's, lines that begin with a time, or any of the above by its content.

A part of a file that cannot be read is a warning with its line; the rest is read. A file without one usable
turn is refused. What transcripts with times describe instead of saying it, as ``[laughs]`` or ``♪ la la
♪``, is no speech. Where only starts are known, a turn ends where the next one begins.

Files that this program exported are told by their form, and read back as they were: with the same turns, and
further columns, whatever the names and texts look like.

Any text file may end in ``.gz``. Text is UTF-8, UTF-16 with a byte order mark, or else Windows-1252; broken
encodings within it are mended.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import GivenTurn
from stream_erc.exceptions import TurnsError
from stream_erc.sources.text_files import parse_json, read_lines, short, suffix
from stream_erc.sources.turns.entries import Entry, Fault, Found, clean, with_unit_told
from stream_erc.sources.turns.json_files import dialogue_name
from stream_erc.sources.turns.naming import spoken
from stream_erc.sources.turns.opening import (
    KINDS,
    OF_RECORDINGS,
    TABLES,
    Dialogue,
    dialogues_of,
    entries_of,
    json_lines,
    not_utf8,
    placed,
    whole_lines,
)
from stream_erc.sources.turns.tables import read_table

MAX_TURN_S = 600
MAX_TIME_S = 10**9
MAX_DIALOGUE_TURNS = 100_000  # of a table, in which a dialogue continues until another begins
CHARACTERS_PER_S = 12
"""Slow speech, from which the length of a last turn without an end is guessed."""


@dataclass(frozen=True, slots=True)
class TurnsFile:
    """The turns of a recording.

    Attributes:
        turns: at least one, in order of start, each with times (samples at 16 kHz), and with a speaker or a
            text or both.
        warnings: what could not be read, with its place; one line each.
    """

    turns: tuple[GivenTurn, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDialogue:
    """A dialogue without audio.

    Attributes:
        dialogue: its id, None if the file has none.
        turns: in order, each with a text, and with times where the file has them.
        warnings: what could not be read in it, or between it and the dialogue before it.
    """

    dialogue: str | None
    turns: tuple[GivenTurn, ...]
    warnings: tuple[str, ...] = ()


def is_text_input(path: Path) -> bool:
    """Return whether `path` is a file of turns, by its suffix, and not a recording."""
    return suffix(path) in KINDS


def read_turns(path: Path, recording: str | None = None) -> TurnsFile:
    """Read the turns of one recording; turns may overlap.

    Args:
        path: a file of the kinds above.
        recording: the recording's name in an RTTM or CTM file of several (usually the audio file's stem).

    Raises:
        TurnsError: the file cannot be read, or has no usable turn.
    """
    lines, faults = whole_lines(path)
    found: list[Found] = [*faults, *entries_of(path, lines)]
    if suffix(path) in OF_RECORDINGS:
        found = _of_recording(path, found, recording)
    found, note = with_unit_told(found)
    turns: list[GivenTurn] = []
    warnings = [] if note is None else [f"{path}: {note}"]
    for item in _with_ends(found):
        made = item if isinstance(item, Fault) else _timed(item)
        if isinstance(made, GivenTurn):
            turns.append(made)
        elif made is not None:
            warnings.append(_warning(path, made))
    if not turns:
        raise _none(path, "turn", warnings)
    return TurnsFile(tuple(sorted(turns, key=lambda turn: turn.start or 0)), tuple(warnings))


def read_dialogues(path: Path) -> Iterator[TextDialogue]:
    """Read dialogues without audio one by one, so that a huge file of JSON lines needs little memory.

    An error is raised after all dialogues before it, a table's turns so far included.

    Raises:
        TurnsError: while iterating, where the file cannot be read on; or it has no dialogue.
    """
    held: TextDialogue | None = None
    warnings: list[str] = []
    try:
        for item in _dialogues(path):
            if isinstance(item, Fault):
                warnings.append(_warning(path, item))
                continue
            if held is not None:
                yield held
            held, warnings = replace(item, warnings=tuple(warnings)), []
    except TurnsError:
        if held is not None:
            yield replace(held, warnings=(*held.warnings, *warnings))
        raise
    if held is None:
        raise _none(path, "dialogue", warnings)
    yield replace(held, warnings=(*held.warnings, *warnings))


def _warning(path: Path, fault: Fault) -> str:
    """Say on one line what could not be read, and where."""
    return f"{path}, {' '.join(f'{fault.at}: {fault.reason}'.split())}"


def _none(path: Path, what: str, warnings: Sequence[str]) -> TurnsError:
    """Return the error of a file without anything to use, with the first reasons."""
    reasons = "; ".join(warning.removeprefix(f"{path}")[:110].lstrip(",: ") for warning in warnings[:2])
    return TurnsError(
        f"{path}: expected at least one {what}, got none" + (f" ({reasons})" if reasons else "")
    )


def _of_recording(path: Path, found: Sequence[Found], recording: str | None) -> list[Found]:
    """Return the entries of one recording, and all faults."""
    names = list(dict.fromkeys(item.group for item in found if isinstance(item, Entry)))
    if len(names) > 1 and recording not in names:
        wanted = f"turns of {recording}" if recording else "one recording"
        listed = ", ".join(name or "" for name in names)[:60]
        raise TurnsError(f"{path}: expected {wanted}, got {len(names)} recordings: {listed}")
    return [item for item in found if isinstance(item, Fault) or len(names) < 2 or item.group == recording]


# --- entries to turns -----------------------------------------------------------------------------


def _with_ends(found: Sequence[Found]) -> Iterator[Found]:
    """Let a turn without an end last until the next one begins, the last as long as its text takes."""
    starts = sorted({item.start_s for item in found if isinstance(item, Entry) and item.start_s is not None})
    following = dict(itertools.pairwise(starts))
    for item in found:
        if isinstance(item, Entry) and item.start_s is not None and item.end_s is None:
            longest = item.start_s + max(1.0, len(item.text or "") / CHARACTERS_PER_S)
            end = following.get(item.start_s, longest)
            item = replace(item, end_s=longest if end - item.start_s > MAX_TURN_S else end)
        yield item


def _who_and_what(entry: Entry) -> tuple[str | None, str | None]:
    """Return the speaker and the text of an entry, each on one line, None for what it has not."""
    speaker, text = (clean(value or "", exact=entry.exact) for value in (entry.speaker, entry.text))
    return speaker or None, text or None


def _timed(entry: Entry) -> GivenTurn | Fault | None:
    """Make a turn of a recording; None if nothing is said in it."""
    speaker, text = _who_and_what(entry)
    start_s, end_s = entry.start_s, entry.end_s
    if entry.flaw is not None:
        return Fault(entry.at, entry.flaw)
    if start_s is None or end_s is None:
        return Fault(entry.at, f"expected a start and an end, got no {'start' if start_s is None else 'end'}")
    if not max(abs(start_s), abs(end_s)) < MAX_TIME_S:  # NaN and infinity too
        return Fault(entry.at, f"expected times below {MAX_TIME_S} s, got {start_s:.10g} s to {end_s:.10g} s")
    start, end = round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE)
    if start_s < 0 or end <= start:
        return Fault(entry.at, f"expected 0 <= start < end, got {start_s:.10g} s to {end_s:.10g} s")
    if end - start > MAX_TURN_S * SAMPLE_RATE:
        return Fault(entry.at, f"expected a turn of at most {MAX_TURN_S} s, got {end_s - start_s:.10g} s")
    if speaker is None and text is None:
        return Fault(entry.at, "expected a speaker or a text, got neither")
    if text is not None and not entry.exact and (text := spoken(text)) is None:
        return None
    return GivenTurn(speaker, text, start, end, entry.extra)


def _untimed(entry: Entry) -> GivenTurn | Fault | None:
    """Make a turn of a conversation without audio; times that cannot be are left out."""
    made = _timed(entry)
    if isinstance(made, GivenTurn) and made.text is None:
        made = Fault(entry.at, "expected a text, got none")
    if not isinstance(made, Fault):
        return made
    speaker, text = _who_and_what(entry)
    if text is None:
        return Fault(entry.at, "expected a text, got none")
    return GivenTurn(speaker, text, extra=entry.extra)


def _dialogues(path: Path) -> Iterator[TextDialogue | Fault]:
    """Yield dialogues and what is none; tables and JSON lines are read lazily."""
    kind = suffix(path)
    if kind not in (*TABLES, ".jsonl"):
        lines, faults = whole_lines(path)
        yield from faults
        if kind == ".json" and (several := dialogues_of(path, lines)) is not None:
            yield from _divided(several)
            return
        name = _name(path, lines) if kind == ".json" else None
        found, note = with_unit_told(list(entries_of(path, lines)))
        found = list(_with_ends(found))
        if note is not None:
            yield Fault("all lines", note)
        grouped = any(isinstance(item, Entry) and item.group for item in found) and kind not in OF_RECORDINGS
        yield from _divided(found if grouped else _sorted(found), name, grouped=grouped)
        return
    odd: list[Fault] = []
    with closing(read_lines(path, None, lambda line, byte: odd.append(not_utf8(line, byte)))) as stream:
        try:
            yield from _divided(_lazily(path, kind, stream, odd))
        except TurnsError as error:
            raise placed(path, error) from error


def _name(path: Path, lines: Sequence[str]) -> str | None:
    """Return the name of the dialogue that a JSON file is."""
    try:
        name = dialogue_name(parse_json(path, "".join(lines)))
    except TurnsError:
        return None
    return None if isinstance(name, Fault) else name


def _sorted(found: Iterable[Found]) -> list[Found]:
    """Return entries in order of start where all have one."""
    items = list(found)
    if any(isinstance(item, Entry) and item.start_s is None for item in items):
        return items
    return sorted(items, key=lambda item: (item.start_s or 0.0) if isinstance(item, Entry) else -1.0)


def _lazily(path: Path, kind: str, lines: Iterator[str], odd: list[Fault]) -> Iterator[Found | Dialogue]:
    """Yield the entries of a table, or of JSON lines; `odd` gets what is odd about the lines themselves."""
    found: Iterator[Found | Dialogue] = json_lines(path, lines) if kind == ".jsonl" else _table(lines)
    for item in found:
        yield from odd
        odd.clear()
        yield item


def _table(lines: Iterator[str]) -> Iterator[Found]:
    """Yield the entries of a table: lazily, but one with times whole, to tell their unit."""
    rows = read_table(lines)
    for item in rows:
        if isinstance(item, Entry) and item.start_s is not None:
            found, note = with_unit_told([item, *rows])
            found = list(_with_ends(found))
            if note is not None:
                yield Fault("all lines", note)
            grouped = any(isinstance(other, Entry) and other.group for other in found)
            yield from found if grouped else _sorted(found)
            return
        yield item


def _divided(
    found: Iterable[Found | Dialogue], name: str | None = None, *, grouped: bool = True
) -> Iterator[TextDialogue | Fault]:
    """Divide entries into dialogues, which are contiguous; a dialogue that comes again is another one."""
    turns: list[GivenTurn] = []
    past: deque[str | None] = deque(maxlen=1_000)  # bounded, since the file may be huge
    try:
        for item in found:
            if isinstance(item, tuple):
                if turns:
                    yield TextDialogue(name, tuple(turns))
                    turns = []
                yield from _divided(item[1], item[0], grouped=False)
                continue
            made = item if isinstance(item, Fault) else _untimed(item)
            if isinstance(made, Fault):
                yield made
            if isinstance(item, Fault) or not isinstance(made, GivenTurn):
                continue
            of = (clean(item.group or "", exact=item.exact) or None) if grouped else name
            if turns and of != name:
                yield TextDialogue(name, tuple(turns))
                past.append(name)
                turns = []
            if not turns and of in past:
                yield Fault(item.at, f"expected the rows of a dialogue together, got {short(of)} again")
            if len(turns) == MAX_DIALOGUE_TURNS:
                raise TurnsError(f"expected at most {MAX_DIALOGUE_TURNS} turns in a dialogue, got more")
            name = of
            turns.append(made)
    except TurnsError:
        if turns:
            yield TextDialogue(name, tuple(turns))
        raise
    if turns:
        yield TextDialogue(name, tuple(turns))
