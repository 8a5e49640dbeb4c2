"""Files of turns that are known beforehand: with times for a recording, or text alone.

`read_turns` reads the turns of a recording, by suffix:

- ``.rttm``: speakers and times (``SPEAKER`` lines; other standard line types are skipped);
- ``.srt``, ``.vtt``: times, text and, if the cue names one, the speaker: ``<v Name>``, ``Name: ...``,
  ``Name (manner): ...``, ``[Name] ...`` or ``(Name) ...``. A name is at most four capitalised words, or one
  word of any case before a colon. A cue with several names gives several turns with its times; a cue without
  text gives none;
- ``.csv``, ``.tsv``: a header with ``start`` and ``end`` (seconds) or ``start_ms`` and ``end_ms``, and with
  ``speaker`` or ``text`` or both; commas, semicolons or tabs;
- ``.json``: a list of ``{"speaker", "start_ms", "end_ms", "text"}`` or ``{"turns": [...]}``, ``start`` and
  ``end`` in seconds also; other keys are ignored, since corpora include labels.

`read_dialogues` reads dialogues without audio:

- ``.jsonl``: ``{"dialogue": ID, "turns": [{"speaker", "text"}, ...]}`` per line, other keys ignored;
- ``.csv``, ``.tsv``: a header with ``speaker``, ``text`` and, if there are several, ``dialogue``;
- ``.json``: one dialogue, as an object or as its list of turns.

Any of them may end in ``.gz``. Text is UTF-8, or UTF-16 with a byte order mark.
"""

import dataclasses
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import GivenTurn
from stream_erc.exceptions import TurnsError
from stream_erc.sources.subtitles import read_cues
from stream_erc.sources.text_files import MAX_FILE_BYTES, parse_json, read_lines, read_rows, short, suffix

MAX_TURN_S = 600
MAX_DIALOGUE_TURNS = 100_000  # of a CSV, in which a dialogue continues until another begins

TIME_COLUMNS = ("start", "end", "start_ms", "end_ms", "speaker", "text")
TIME_NEEDS = (("start", "start_ms"), ("end", "end_ms"), ("speaker", "text"))
TEXT_COLUMNS = ("dialogue", "speaker", "text")
TEXT_NEEDS = (("speaker",), ("text",))

RTTM_OTHER_TYPES = frozenset(
    "SEGMENT NOSCORE NO_RT_METADATA LEXEME NON-LEX NON-SPEECH FILLER EDIT IP SU CB A/P SPKR-INFO".split()
)


@dataclass(frozen=True, slots=True)
class TextDialogue:
    """A dialogue without audio.

    Attributes:
        dialogue: its id, None if the file has none.
        turns: in order, each with a text and without times.
    """

    dialogue: str | None
    turns: tuple[GivenTurn, ...]


def read_turns(path: Path, recording: str | None = None) -> list[GivenTurn]:
    """Read the turns of one recording, sorted by start; turns may overlap.

    Args:
        path: a file of the kinds above.
        recording: the recording's name in an RTTM file of several (usually the audio file's stem).

    Returns:
        At least one turn, each with times (samples at 16 kHz) and a speaker or a text or both.

    Raises:
        TurnsError: the file cannot be read, or a turn in it is invalid.
    """
    kind = suffix(path)
    if kind not in (".rttm", ".srt", ".vtt", ".csv", ".tsv", ".json"):
        raise TurnsError(
            f"{path}: expected .rttm, .srt, .vtt, .csv, .tsv or .json, got {kind or 'no suffix'}"
        )
    lines = list(read_lines(path, MAX_FILE_BYTES))
    if not any(line.strip() for line in lines):
        raise TurnsError(f"{path}: expected turns, got an empty file")
    if kind == ".rttm":
        turns = _rttm(path, lines, recording)
    elif kind in (".srt", ".vtt"):
        cues = read_cues(path, "".join(lines), kind[1:])
        turns = [_timed(f"{path}, line {cue.line}", dataclasses.asdict(cue)) for cue in cues]
    elif kind == ".json":
        records = _turn_records(f"{path}", parse_json(path, "".join(lines)))
        turns = [_timed(f"{path}, turn {n}", record) for n, record in enumerate(records, 1)]
    else:
        turns = [_timed(at, row) for at, row in read_rows(path, iter(lines), TIME_COLUMNS, TIME_NEEDS)]
    if not turns:
        raise TurnsError(f"{path}: expected at least one turn, got none")
    return sorted(turns, key=lambda turn: turn.start or 0)


def read_dialogues(path: Path) -> Iterator[TextDialogue]:
    """Read dialogues without audio one by one, so that a huge file needs little memory.

    An error is raised after all dialogues before it, a CSV dialogue's turns so far included. In a CSV file,
    the rows of a dialogue must be contiguous.

    Raises:
        TurnsError: while iterating, at the first line that cannot be read.
    """
    kind = suffix(path)
    found: Iterator[TextDialogue]
    if kind == ".jsonl":
        found = _dialogue_lines(path)
    elif kind == ".json":
        whole = "".join(read_lines(path, MAX_FILE_BYTES))
        found = (_dialogue(f"{path}", data) for data in ([parse_json(path, whole)] if whole.strip() else []))
    elif kind in (".csv", ".tsv"):
        found = _dialogue_table(path)
    else:
        raise TurnsError(f"{path}: expected .jsonl, .json, .csv or .tsv, got {kind or 'no suffix'}")
    count = 0
    for count, dialogue in enumerate(found, 1):  # noqa: B007
        yield dialogue
    if not count:
        raise TurnsError(f"{path}: expected at least one dialogue, got none")


def _dialogue_lines(path: Path) -> Iterator[TextDialogue]:
    """Read one dialogue per line."""
    with closing(read_lines(path)) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _dialogue(f"{path}, line {number}", parse_json(path, line, number))


def is_text_input(path: Path) -> bool:
    """Return whether `path` is a text-only dialogue, not a recording; a JSON file with times is neither."""
    kind = suffix(path)
    if kind != ".json":
        return kind in (".jsonl", ".csv", ".tsv")
    try:
        records = _turn_records("", parse_json(path, "".join(read_lines(path, MAX_FILE_BYTES))))
    except TurnsError:
        return True  # not audio either: read_dialogues will report the fault
    return not any(key in record for record in records for key in ("start", "start_ms"))


# --- records to turns -----------------------------------------------------------------------------


def _string(at: str, name: str, value: object) -> str | None:
    """Return a name or text on one line, None if it is absent or blank."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TurnsError(f"{at}: expected a string as {name}, got {short(value)}")
    text = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", str(value)).split())
    if re.search(r"[\ud800-\udfff]", text):
        raise TurnsError(f"{at}: expected Unicode as {name}, got half a surrogate pair in {short(text)}")
    return text or None


def _number(at: str, name: str, value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or "_" in str(value):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= 1e12:  # NaN and infinity too
        raise TurnsError(f"{at}: expected a number as {name}, got {short(value)}")
    return number


def _turn(at: str, speaker: str | None, text: str | None, start_s: float, end_s: float) -> GivenTurn:
    start, end = round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE)
    if start_s < 0 or end <= start:
        raise TurnsError(f"{at}: expected 0 <= start < end, got {start_s:.10g} s to {end_s:.10g} s")
    if end - start > MAX_TURN_S * SAMPLE_RATE:
        raise TurnsError(f"{at}: expected a turn of at most {MAX_TURN_S} s, got {end_s - start_s:.10g} s")
    if speaker is None and text is None:
        raise TurnsError(f"{at}: expected a speaker or a text, got neither")
    return GivenTurn(speaker, text, start, end)


def _timed(at: str, record: Mapping[str, object]) -> GivenTurn:
    times = []
    for name in ("start", "end"):
        in_ms, in_s = record.get(f"{name}_ms"), record.get(name)
        if in_ms in (None, "") and in_s in (None, ""):
            raise TurnsError(f"{at}: expected {name}_ms or {name} (seconds), got neither")
        by_ms = in_ms not in (None, "")
        times.append(_number(at, f"{name}_ms", in_ms) / 1000 if by_ms else _number(at, name, in_s))
    speaker, text = (_string(at, key, record.get(key)) for key in ("speaker", "text"))
    return _turn(at, speaker, text, times[0], times[1])


def _untimed(at: str, record: Mapping[str, object]) -> GivenTurn:
    text = _string(at, "text", record.get("text"))
    if text is None:
        raise TurnsError(f"{at}: expected a text, got none")
    return GivenTurn(_string(at, "speaker", record.get("speaker")), text)


# --- RTTM, JSON, tables ---------------------------------------------------------------------------


def _rttm(path: Path, lines: Iterable[str], recording: str | None) -> list[GivenTurn]:
    turns: dict[str, list[GivenTurn]] = {}
    for number, line in enumerate(lines, 1):
        at, fields = f"{path}, line {number}", line.split()
        if not fields or fields[0].startswith((";", "#")) or fields[0] in RTTM_OTHER_TYPES:
            continue
        if fields[0] != "SPEAKER" or len(fields) not in (8, 9, 10):
            raise TurnsError(
                f"{at}: expected SPEAKER FILE CHANNEL START DURATION <NA> <NA> NAME <NA> <NA>, "
                f"got {short(line.strip())}"
            )
        start, duration = (
            _number(at, name, value) for name, value in zip(("start", "duration"), fields[3:5], strict=True)
        )
        name = None if fields[7] == "<NA>" else _string(at, "speaker", fields[7])
        turns.setdefault(fields[1], []).append(_turn(at, name, None, start, start + duration))
    if len(turns) > 1 and recording not in turns:
        wanted = f"turns of {recording}" if recording else "one recording"
        raise TurnsError(f"{path}: expected {wanted}, got {len(turns)} recordings: {', '.join(turns)[:60]}")
    return next(iter(turns.values()), []) if len(turns) < 2 else turns[cast(str, recording)]


def _turn_records(at: str, data: object) -> list[Mapping[str, object]]:
    turns = data.get("turns") if isinstance(data, dict) else data
    if not isinstance(turns, list):
        raise TurnsError(f'{at}: expected a list of turns or {{"turns": [...]}}, got {short(data)}')
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise TurnsError(f"{at}, turn {number}: expected an object, got {short(turn)}")
    return turns


def _dialogue(at: str, data: object) -> TextDialogue:
    records = _turn_records(at, data)
    if not records:
        raise TurnsError(f"{at}: expected at least one turn, got none")
    name = _string(at, "dialogue", data.get("dialogue")) if isinstance(data, dict) else None
    return TextDialogue(
        name, tuple(_untimed(f"{at}, turn {n}", record) for n, record in enumerate(records, 1))
    )


def _dialogue_table(path: Path) -> Iterator[TextDialogue]:
    name: str | None = None
    turns: list[GivenTurn] = []
    past: deque[str | None] = deque(maxlen=1_000)  # bounded, since the file may be huge
    try:
        for at, row in read_rows(path, read_lines(path), TEXT_COLUMNS, TEXT_NEEDS):
            of = _string(at, "dialogue", row.get("dialogue"))
            if turns and of != name:
                yield TextDialogue(name, tuple(turns))
                past.append(name)
                turns = []
            if of in past:
                raise TurnsError(f"{at}: expected the rows of a dialogue together, got {short(of)} again")
            if len(turns) == MAX_DIALOGUE_TURNS:
                raise TurnsError(f"{at}: expected at most {MAX_DIALOGUE_TURNS} turns in a dialogue, got more")
            name = of
            turns.append(_untimed(at, row))
    except TurnsError:
        if turns:
            yield TextDialogue(name, tuple(turns))
        raise
    if turns:
        yield TextDialogue(name, tuple(turns))
