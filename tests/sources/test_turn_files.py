"""Given turns and text-only dialogues: valid files, and the message for each kind of bad input."""
# ruff: noqa: E501 - the tables of bad input have one case per line

import csv
import gzip
import html
import io
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import CORPORA, DATA
from transcripts import Row, rows_of

from stream_erc.events import GivenTurn
from stream_erc.exceptions import TurnsError
from stream_erc.sources import turn_files as turns_module
from stream_erc.sources.turn_files import TextDialogue, is_text_input, read_dialogues, read_turns

FIXTURES = DATA / "turns"

TALK = [
    GivenTurn("Anna", "I got the job!", 8_000, 28_000),
    GivenTurn("Bob", "No way, that is wonderful.", 36_000, 60_000),
    GivenTurn("Anna", "I know & I start on May 12", 56_000, 72_016),
]
DIALOGUES = [
    TextDialogue("one", (GivenTurn("Anna", "Hello, Bob."), GivenTurn("Bob", "Hello."))),
    TextDialogue("2", (GivenTurn("C", "¿Qué tal? 😀"),)),
]


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def turns_of(path: Path, recording: str | None = None) -> list[GivenTurn]:
    found = read_turns(path, recording)
    assert not [warning for warning in found.warnings if not warning.startswith(f"{path}")]
    return list(found.turns)


def error_of(function: object, path: Path) -> str:
    """Return the one-line error of reading `path`, without the path."""
    with pytest.raises(TurnsError) as caught:
        found = function(path)  # type: ignore[operator]
        list(getattr(found, "turns", found))
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path)), message
    assert len(message) < len(str(path)) + 300
    return message.removeprefix(str(path))


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["srt", "vtt", "csv", "tsv", "json", "jsonl", "eaf", "TextGrid", "txt"])
def test_every_kind_gives_the_same_turns(suffix: str) -> None:
    assert turns_of(FIXTURES / f"talk.{suffix}") == TALK


def test_rttm_knows_no_words() -> None:
    expected = [GivenTurn(turn.speaker, None, turn.start, turn.end) for turn in TALK]
    assert turns_of(FIXTURES / "talk.rttm") == expected


@pytest.mark.parametrize("name", ["dialogues.jsonl", "dialogues.csv"])
def test_both_kinds_give_the_same_dialogues(name: str) -> None:
    assert list(read_dialogues(FIXTURES / name)) == DIALOGUES


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_line_ends_and_gzip(tmp_path: Path, encoding: str, newline: str, packed: bool) -> None:
    for name, function, expected in (
        ("talk.srt", turns_of, TALK),
        ("talk.vtt", turns_of, TALK),
        ("talk.csv", turns_of, TALK),
        ("talk.json", turns_of, TALK),
        ("dialogues.jsonl", read_dialogues, DIALOGUES),
        ("dialogues.csv", read_dialogues, DIALOGUES),
    ):
        data = (FIXTURES / name).read_text(encoding="utf-8").replace("\n", newline).encode(encoding)
        path = put(tmp_path, f"{name}.gz" if packed else name, gzip.compress(data) if packed else data)
        assert list(function(path)) == expected, name


def test_big_endian_and_old_line_ends(tmp_path: Path) -> None:
    text = (FIXTURES / "talk.srt").read_text(encoding="utf-8").replace("\n", "\r")
    assert turns_of(put(tmp_path, "a.SRT", b"\xfe\xff" + text.encode("utf-16-be"))) == TALK


def test_order_is_by_start_and_stable(tmp_path: Path) -> None:
    rows = "start,end,speaker\n3,4,c\n1,2,a\n3,3.5,d\n1,9,b\n"
    assert [turn.speaker for turn in turns_of(put(tmp_path, "a.csv", rows))] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("cue", "expected"),
    [
        ("Anna: hello", [("Anna", "hello")]),
        ("anna: hello", [("anna", "hello")]),
        ("speaker_1: hello", [("speaker_1", "hello")]),
        ("SPEAKER 00: hello", [("SPEAKER 00", "hello")]),
        ("Dr. Anna O'Neil: hello", [("Dr. Anna O'Neil", "hello")]),
        ("Ludwig van Beethoven: hello", [("Ludwig van Beethoven", "hello")]),
        ("田中：こんにちは", [("田中", "こんにちは")]),  # noqa: RUF001
        ("<b>Anna:</b> hello", [("Anna", "hello")]),
        ("ANNA:\nhello", [("ANNA", "hello")]),
        ("Anna (whispering): hello", [("Anna", "hello")]),
        ("SPEAKER 00 (joy 87%): hello", [("SPEAKER 00", "hello")]),
        ("he said (twice): hello", [(None, "he said (twice): hello")]),
        ("[Anna] hello", [("Anna", "hello")]),
        ("[Anna]: hello", [("Anna", "hello")]),
        ("(speaker_2) hello", [("speaker_2", "hello")]),
        ("Anna: hello\nBob: hi\nthere", [("Anna", "hello"), ("Bob", "hi there")]),
        ("- Anna: hello\n- Bob: hi", [("Anna", "hello"), ("Bob", "hi")]),
        ("<v Anna>hello\n<v Bob>hi", [("Anna", "hello"), ("Bob", "hi")]),
        ("Oh, <v Tom &amp; Jo>1 &lt; 2", [(None, "Oh,"), ("Tom & Jo", "1 < 2")]),
        ("hello", [(None, "hello")]),
        ("{\\an8}hello", [(None, "hello")]),
        ("Then he said: come here", [(None, "Then he said: come here")]),
        ("at 10:30 we met", [(None, "at 10:30 we met")]),
        ("https://example.org", [(None, "https://example.org")]),
        ("Listen:", [(None, "Listen:")]),
        ("[laughs] hello", [(None, "hello")]),
        ("[Laughter] hello", [(None, "hello")]),
        ("-5 degrees", [(None, "-5 degrees")]),
        ("-Oh", [(None, "Oh")]),
        ("We met\n12", [(None, "We met 12")]),
        ("bell \x07 and \x1b[31mred", [(None, "bell and [31mred")]),
    ],
)
def test_who_speaks_in_a_cue(tmp_path: Path, cue: str, expected: list[tuple[str | None, str]]) -> None:
    for path in (
        put(tmp_path, "a.srt", f"1\n00:00:01,000 --> 00:00:02,000\n{cue}\n\n2\n"),
        put(tmp_path, "a.vtt", f"WEBVTT\n\n00:01.000 --> 00:02.000\n{cue}\n"),
    ):
        assert [(turn.speaker, turn.text) for turn in turns_of(path)] == expected
        spans = [(turn.start, turn.end) for turn in turns_of(path)]
        assert (spans[0][0], spans[-1][1]) == (16_000, 32_000)
        assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))


def test_cues_without_blank_lines_or_words(tmp_path: Path) -> None:
    text = "1\n00:00:01,0 --> 00:00:02,0\nHi\n2\n00:00:03,0 --> 00:00:04,0\n\n3\n0:0:5.5 --> 0:0:6.25\nHo\n"
    expected = [GivenTurn(None, "Hi", 16_000, 32_000), GivenTurn(None, "Ho", 88_000, 100_000)]
    assert turns_of(put(tmp_path, "a.srt", text)) == expected


def test_rttm_of_several_recordings(tmp_path: Path) -> None:
    row = "SPEAKER {} 1 {} 1 <NA> <NA> {} <NA>\n"
    path = put(
        tmp_path, "a.rttm", row.format("x", 1, "A") + row.format("y", 2, "B") + row.format("x", 3, "C")
    )
    assert [turn.speaker for turn in turns_of(path, "x")] == ["A", "C"]
    assert "expected one recording, got 2 recordings: x, y" in error_of(read_turns, path)
    with pytest.raises(TurnsError, match="expected turns of z, got 2 recordings"):
        read_turns(path, "z")
    single = put(tmp_path, "b.rttm", row.format("x", 1, "A"))
    assert turns_of(single, "z") == [GivenTurn("A", None, 16_000, 32_000)]


def test_dialogues_are_read_lazily(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl.gz"
    line = json.dumps({"dialogue": "d", "turns": [{"speaker": "A", "text": "word " * 50}] * 4}) + "\n"
    with gzip.open(path, "wt", compresslevel=1) as stream:
        stream.writelines([line] * 5_000)  # 6 MB
    tracemalloc.start()
    try:
        assert sum(len(dialogue.turns) for dialogue in read_dialogues(path)) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("name", "content", "dialogues", "message"),
    [
        ("a.jsonl", b'{"turns": [{"text": "a"}]}\n\0\n', 1, ", line 2: expected text, got a zero byte"),
        ("a.jsonl", '{"turns": [{"text": "a"}]}\n{"turns"'.encode("utf-16")[:-1], 1, ": expected UTF-16"),
        ("a.csv", b"speaker,text\nA,one\nB,two\n\0,x\n", 1, ", line 4: expected text, got a zero byte"),
    ],
)
def test_all_before_a_bad_line_is_kept(
    tmp_path: Path, name: str, content: bytes, dialogues: int, message: str
) -> None:
    path, seen = put(tmp_path, name, content), []

    def reading() -> Iterator[TextDialogue]:
        for dialogue in read_dialogues(path):
            seen.append(dialogue)
            yield dialogue

    assert message in error_of(lambda _: reading(), path)
    assert len(seen) == dialogues


def test_truncated_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    lines = "".join(f'{{"dialogue": {n}, "turns": [{{"text": "{n * 7919}"}}]}}\n' for n in range(20_000))
    path, seen = put(tmp_path, "a.jsonl.gz", gzip.compress(lines.encode())[:-2_000]), []
    with pytest.raises(TurnsError, match="expected gzip data"):
        seen.extend(iter_into(read_dialogues(path), seen))
    assert len(seen) > 10_000


def iter_into(items: Iterator[TextDialogue], seen: list[TextDialogue]) -> list[TextDialogue]:
    for item in items:
        seen.append(item)
    return []


# --- bad input ------------------------------------------------------------------------------------

SRT = "1\n{}\n{}\n"
ROW = "SPEAKER a 1 {} {} <NA> <NA> {} <NA> <NA>\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", ": expected a transcript of IEMOCAP or Otter, lines that begin with a time, subtitles or a table, got 'x'"),
        ("a.xyz", "x", ": expected .rttm, .srt, .vtt, .csv, .tsv, .parquet, .json, .jsonl, .ctm, .eaf, .textgrid or .txt, got .xyz"),
        ("a", "x", "got no suffix"),
        *((f"a.{kind}", "", ": expected turns, got an empty file") for kind in ("rttm", "srt", "vtt", "csv", "json")),
        ("a.srt", "\ufeff \n\n", ": expected turns, got an empty file"),
        ("a.rttm", ";; none\n", ": expected at least one turn, got none"),
        ("a.vtt", "WEBVTT\n", ": expected at least one turn, got none"),
        ("a.json", "[]", ": expected at least one turn, got none"),
        ("a.csv", "start,end,text\n", ": expected at least one turn, got none"),
        # bytes
        ("a.srt", b"\x89PNG\r\n\x1a\n\0\0", ", line 3: expected text, got a zero byte"),
        ("a.json", b'[{"text": "\0"}]', ", line 1: expected text, got a zero byte"),
        ("a.json", "[]".encode("utf-16-le"), ", line 1: expected text, got a zero byte"),
        ("a.json", "[]".encode("utf-16")[:-1], ": expected UTF-16, got truncated data at byte 4"),
        ("a.json", "[]".encode("utf-32"), "expected text, got a zero byte"),
        ("a.json.gz", b"[]", ": expected gzip data"),
        ("a.json.gz", gzip.compress(b"[1, 2, 3]", mtime=0)[:-6], ": expected gzip data"),
        # times
        ("a.rttm", ROW.format(-1, 2, "A"), "(line 1: expected 0 <= start < end, got -1 s to 1 s"),
        ("a.rttm", ROW.format(1, -2, "A"), "(line 1: expected 0 <= start < end, got 1 s to -1 s"),
        ("a.rttm", ROW.format("nan", 2, "A"), "expected a number as start and duration, got 'nan 2'"),
        ("a.rttm", ROW.format(1, "inf", "A"), "expected a number as start and duration, got '1 inf'"),
        ("a.rttm", ROW.format("1;5", 1, "A"), "expected a number as start and duration, got '1;5 1'"),
        ("a.rttm", ROW.format(1, 601, "A"), "(line 1: expected a turn of at most 600 s, got 601"),
        ("a.csv", "start,end,text\n1,0.5,x\n", "(line 2: expected 0 <= start < end, got 1 s to 0.5 s"),
        ("a.csv", "start,end,text\n1,1,x\n", "expected 0 <= start < end"),
        ("a.csv", "start,end,text\n1,1e400,x\n", "expected a time as end, got '1e400'"),
        ("a.csv", "start,end,text\n1_0,20,x\n", "expected a time as start, got '1_0'"),
        ("a.csv", "start,end,text\nsoon,20,x\n", "expected a time as start, got 'soon'"),
        ("a.csv", "start_ms,end_ms,text\n,20,x\n", "(line 2: expected a start and an end, got no start"),
        ("a.json", '[{"text": "x", "start": NaN, "end": 2}]', "(turn 1: expected a time as start, got nan"),
        ("a.json", '[{"text": "x", "start": true, "end": 2}]', "expected a time as start, got True"),
        ("a.json", '[{"text": "x", "start": [1], "end": 2}]', "expected a time as start, got [1]"),
        ("a.json", '[{"text": "x", "start": 1' + "0" * 400 + ', "end": 2}]', "expected a time as start, got 1000"),
        ("a.json", '[{"text": "x"}]', "(turn 1: expected a start and an end, got no start"),
        ("a.txt", f"Ses01F_impro01_F000 [0.0-{'9' * 400}.0]: a", "(line 1: expected times below 1000000000 s, got 0 s to inf s"),
        ("a.srt", SRT.format("00:00:02,000 --> 00:00:01,000", "x"), "(line 2: expected 0 <= start < end, got 2 s to 1 s"),
        ("a.srt", SRT.format("-00:00:02,000 --> 00:00:01,000", "x"), "(line 2: expected times (00:00:01,000 --> 00:00:02,500), got '-00:00:02"),
        ("a.srt", SRT.format("00:00:0x,000 --> 00:00:01,000", "x"), "got '00:00:0x,000 --> 00:00:01,000'"),
        ("a.srt", SRT.format("00:00:01,000 --> 00:10:01,001", "x"), "at most 600 s, got 600.001 s"),
        ("a.vtt", "WEBVTT\n\n00:61.000 --> 01:62.000\nx\n", "(line 3: expected times (00:00:01,000 --> 00:00:02,500), got '00:61"),
        # shape
        ("a.rttm", "SPEAKER a 1 0\n", "(line 1: expected SPEAKER FILE CHANNEL START"),
        ("a.rttm", "hello there\n", "got 'hello there'"),
        ("a.rttm", ROW.format(0, 1, "<NA>"), "(line 1: expected a speaker or a text, got neither"),
        ("a.srt", "just words\n", "(line 1: expected a cue (00:00:01,000 --> 00:00:02,500), got 'just words'"),
        ("a.srt", SRT.format("00:00:01,000 --> 00:00:02,000", "<v " * 5_000), "at most 10000 characters in a cue, got 14999"),
        ("a.srt", SRT.format("00:00:01,000 --> 00:00:02,000", "<i>1:02:03.4 to 1:02:05.6"), "one pair of times in a cue, got several"),
        ("a.csv", "start,end,mood\n1,2,x\n", ", line 1: expected a header with a text (text, utterance, transcript ...), or with a speaker and times (start, end), got 'start, end, mood'"),
        ("a.csv", "1,x,y\n", ", line 1: expected a header with a text"),
        ("a.csv", "speaker,text\nA,x\n", "(line 2: expected a start and an end, got no start"),
        ("a.csv", "start,end\n1,2\n", ", line 1: expected a header with a text"),
        ("a.csv", "start,end,speaker,text\n1,2, ,\n", "(line 2: expected a speaker or a text, got neither"),
        ("a.csv", "\n\nstart,text,end\n\n1,2,x,y\n", "(line 5: expected 3 cells, got 4"),
        ("a.json", '[{"text": \n"x",}]', ", line 2, column 5: expected JSON, got"),
        ("a.json", "[" * 100_000, ", line 1: expected JSON, got"),
        ("a.json", "1" * 5_000, ", line 1: expected JSON, got"),
        ("a.json", "3", ': expected a list of turns, {"turns": [...]} or the transcript of a recognizer, got 3'),
        ("a.json", '{"a": 1, "b\\n": 2}', "got an object with 'a', 'b\\n'"),
        ("a.json", '["x"]', "(turn 1: expected an object, got 'x'"),
        ("a.json", '[{"start": 1, "end": 2, "speaker": " ", "text": null}]', "expected a speaker or a text, got neither"),
        ("a.json", '[{"start": 1, "end": 2, "text": ["x"]}]', "(turn 1: expected a string as text, got ['x']"),
        ("a.json", '[{"start": 1, "end": 2, "text": "\\ud83d"}]', "half a surrogate pair"),
    ],
)  # fmt: skip
def test_bad_turns(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    assert message in error_of(read_turns, put(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.wav", "x", "or .txt, got .wav"),
        *((f"a.{kind}", "\n \n", ": expected at least one dialogue, got none") for kind in ("jsonl", "csv")),
        ("a.json", "\n \n", ": expected turns, got an empty file"),
        ("a.csv", "speaker,text\n", ": expected at least one dialogue, got none"),
        ("a.csv", "speaker,mood\nA,x\n", ", line 1: expected a header with a text"),
        ("a.csv", "speaker,text\nA,\n", "(line 2: expected a text, got none"),
        ("a.jsonl", '{"dialogue": "x", "turns": []}', "(line 1: expected at least one turn, got none"),
        ("a.jsonl", '\n{"turns": [{"speaker": "A"}]}', "(line 2, turn 1: expected a text, got none"),
        ("a.jsonl", '{"dialogue": [1.5], "turns": [{"text": "A"}]}', "expected a string as dialogue, got [1.5]"),
        ("a.jsonl", '{"turns": [{"text": "A", "speaker": true}]}', "expected a string as speaker, got True"),
        ("a.json", '{"turns": 7}', ": expected a list of turns"),
    ],
)  # fmt: skip
def test_bad_dialogues(tmp_path: Path, name: str, content: str, message: str) -> None:
    assert message in error_of(read_dialogues, put(tmp_path, name, content))


@pytest.mark.parametrize(("function", "name"), [(read_turns, "a.srt"), (read_dialogues, "a.jsonl")])
def test_no_file_there(tmp_path: Path, function: object, name: str) -> None:
    assert "expected a readable file, got: No such file" in error_of(function, tmp_path / name)
    (tmp_path / name).mkdir()
    assert "expected a readable file, got: Is a directory" in error_of(function, tmp_path / name)


def test_sizes_are_bounded(tmp_path: Path) -> None:
    long_line = put(tmp_path, "a.jsonl", b" " * (16 * 2**20 + 1))
    assert ", line 1: expected at most 16 MiB, got more" in error_of(read_dialogues, long_line)
    big = put(tmp_path, "a.rttm", (b";" * 1023 + b"\n") * (64 * 2**10 + 1))
    assert ": expected at most 64 MiB, got more" in error_of(read_turns, big)
    endless = put(tmp_path, "a.csv", b"speaker,text\n" + b"A,x\n" * (turns_module.MAX_DIALOGUE_TURNS + 1))
    assert "expected at most 100000 turns in a dialogue" in error_of(read_dialogues, endless)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", "", True),
        ("a.JSONL.GZ", "", True),
        ("a.csv", "", True),
        ("a.tsv", "", True),
        ("a.wav", "", False),
        ("a.mp4", "", False),
        ("a", "", False),
        ("a.gz", "", False),
        ("a.json", '[{"speaker": "A", "text": "x"}]', True),
        ("a.json", '{"dialogue": 1, "turns": [{"text": "x"}]}', True),
        ("a.json", '[{"text": "x", "start_ms": 0, "end_ms": 1}]', True),
        ("a.json", '{"turns": [{"text": "x", "start": 0, "end": 1}]}', True),
        ("a.json", "{oops", True),
        *((f"a.{kind}", "", True) for kind in ("srt", "vtt", "rttm", "ctm", "eaf", "TextGrid", "txt")),
    ],
)
def test_what_is_text_input(tmp_path: Path, name: str, content: str, expected: bool) -> None:
    assert is_text_input(put(tmp_path, name, content)) is expected


def test_a_json_dialogue(tmp_path: Path) -> None:
    turns = (GivenTurn("A", "x"), GivenTurn(None, "y"))
    listed = '[{"speaker": "A", "text": "x"}, {"text": "y"}]'
    assert list(read_dialogues(put(tmp_path, "a.json", listed))) == [TextDialogue(None, turns)]
    named = f'{{"dialogue": "d", "turns": {listed}}}'
    assert list(read_dialogues(put(tmp_path, "b.json", named))) == [TextDialogue("d", turns)]


# --- round trips and noise ------------------------------------------------------------------------

WORDS = st.text("abcXYZ áß漢😀,.!?'0123456789", min_size=1, max_size=30).map(lambda s: " ".join(s.split()))
SAID = WORDS.filter(lambda text: any(c.isalpha() for c in text))
NAMES = st.sampled_from(["Anna", "Bob", "speaker_1", "Dr. Lee", "Óscar", "李"])
TIMES = st.tuples(st.integers(0, 7_200_000), st.integers(1, 600_000)).map(lambda t: (t[0], t[0] + t[1]))
TURNS = st.lists(st.tuples(NAMES, SAID, TIMES), min_size=1, max_size=6)


def clock(ms: int, mark: str) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1_000 % 60:02}{mark}{ms % 1_000:03}"


def written(turns: list[tuple[str, str, tuple[int, int]]], kind: str) -> str:
    out = io.StringIO()
    if kind == "json":
        keys = ("speaker", "text", "start_ms", "end_ms")
        json.dump([dict(zip(keys, (who, what, *when), strict=True)) for who, what, when in turns], out)
    elif kind == "csv":
        table = csv.writer(out)
        table.writerow(["speaker", "text", "start", "end"])
        table.writerows([who, what, when[0] / 1000, when[1] / 1000] for who, what, when in turns)
    elif kind == "srt":
        for n, (who, what, (start, end)) in enumerate(turns, 1):
            out.write(f"{n}\n{clock(start, ',')} --> {clock(end, ',')}\n{who}: {what}\n\n")
    else:
        out.write("WEBVTT\n\n")
        for who, what, (start, end) in turns:
            out.write(
                f"{clock(start, '.')} --> {clock(end, '.')}\n<v {html.escape(who)}>{html.escape(what)}\n\n"
            )
    return out.getvalue()


@pytest.mark.parametrize("kind", ["json", "csv", "srt", "vtt"])
@given(turns=TURNS)
@settings(max_examples=40, deadline=None)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, kind: str, turns: list[tuple[str, str, tuple[int, int]]]
) -> None:
    path = put(tmp_path_factory.getbasetemp(), f"trip.{kind}", written(turns, kind))
    expected = [GivenTurn(who, what, start * 16, end * 16) for who, what, (start, end) in turns]
    assert turns_of(path) == sorted(expected, key=lambda turn: turn.start or 0)


@given(data=st.binary(max_size=200), fixture=st.sampled_from(sorted(FIXTURES.iterdir())), at=st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_noise_gives_turns_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, fixture: Path, at: float
) -> None:
    """Random bytes, alone or over a good file, never raise another exception or give an invalid turn."""
    good = fixture.read_bytes()
    cut = int(at * len(good))
    for content in (data, good[:cut] + data + good[cut + len(data) :]):
        path = put(tmp_path_factory.getbasetemp(), f"noise{fixture.suffix}", content)
        for function in (turns_of, read_dialogues):
            try:
                found = list(function(path))
            except TurnsError as error:
                assert len(str(error).splitlines()) == 1
                continue
            for turn in found if function is turns_of else [t for d in found for t in d.turns]:
                assert turn.text or turn.speaker
                assert turn.start is None or 0 <= turn.start < turn.end <= turn.start + 600 * 16_000


HELLO = "Hello, this is the service desk. How can I help you today?"
ORDER = "My order never came and nobody answers my calls. I am really angry about this!"
SORRY = "I am so sorry to hear that. Let me look at the order for you."
LIED = "You said that last week and you lied to me. I hate this company!"
GOOD = "Good news, the parcel arrives tomorrow and you get your money back."
WOW = "Oh wow, really? That is wonderful, I am so happy, thank you so much!"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "zoom.vtt",
            [
                (0.5, 4.4, "Ann Lee", HELLO),
                (5.21, 11.21, "rob.o'neil@example.org", ORDER),
                (12.02, 15.98, "Ann Lee", SORRY.replace("Let", "Note: let")),
                (16.77, 21.13, "Rob O'Neil (he/him)", LIED),
                (21.93, 25.67, "Ann Lee | Service Desk", GOOD),
                (26.47, 31.77, "iPhone (3)", WOW),
            ],
        ),
        (
            "youtube.vtt",
            [
                (0.5, 4.39, None, "hello this is the service desk how can I help you today"),
                (5.21, 11.2, None, "my order never came and nobody answers my calls I am really angry"),
            ],
        ),
        (
            "dirty.srt",
            [
                (0.5, 4.4, None, HELLO),
                (5.21, 11.21, None, ORDER),
                (12.02, 16.47, None, SORRY),
                (16.47, 21.13, None, LIED),
                (21.93, 25.67, "ANN", GOOD),
            ],
        ),
        ("excel.csv", [(0.5, 4.4, "Ann", HELLO), (5.21, 11.21, "Rob", ORDER.partition(" I am")[0])]),
        (
            "meld.csv",
            [
                (601.93, 603.26, "Ann", "Fine."),
                (1257.26, 1260.05, "Ann", "The kettle's boiling over again!"),
                (1261.93, 1263.26, "Rob", "I can't mend it tonight."),
            ],
        ),
        (
            "whisperx.json",
            [
                (0.5, 4.4, "SPEAKER_00", "Hello, this is the service desk."),
                (5.21, 11.21, "SPEAKER_01", "My order never came."),
            ],
        ),
        (
            "dirty.rttm",
            [
                (0.5, 4.4, "A", None),
                (5.21, 11.21, "B", None),
                (12.02, 15.98, "A", None),
                (16.77, 21.13, "B", None),
                (26.47, 31.77, "B", None),
            ],
        ),
    ],
)
def test_what_people_bring(name: str, expected: list[Row]) -> None:
    path = CORPORA / "inputs" / name
    if not path.exists():
        pytest.skip("the inputs that people bring are not beside the checkout")
    assert rows_of(path) == expected
    empty = ["line 11: expected 0 <= start < end, got 21.93 s to 21.93 s"] if name == "dirty.rttm" else []
    assert [warning.removeprefix(f"{path}, ") for warning in read_turns(path).warnings] == empty


def test_times_of_a_transcript_stay_without_audio(tmp_path: Path) -> None:
    """A conversation keeps the times of its file; one that cannot be is left out, and its words stay."""
    content = "start,end,speaker,text\n1,2,A,x\n5,4,B,y\n-1,2,A,z\n"
    (found,) = read_dialogues(put(tmp_path, "a.csv", content))
    assert [(turn.text, turn.start, turn.end) for turn in found.turns] == [
        ("z", None, None),
        ("x", 16_000, 32_000),
        ("y", None, None),
    ]
    assert found.warnings == ()
    text = (
        "1\n00:00:03,000 --> 00:00:04,000\nA: late\n\n2\n00:00:01,000 --> 00:00:02,000\nB: early [coughs]\n"
    )
    (subtitles,) = read_dialogues(put(tmp_path, "a.srt", text))
    assert list(subtitles.turns) == [
        GivenTurn("B", "early", 16_000, 32_000),
        GivenTurn("A", "late", 48_000, 64_000),
    ]


@pytest.mark.parametrize("corpus", ["meld", "emorynlp", "dailydialog"])
def test_real_dialogues(corpus: str) -> None:
    path = CORPORA / corpus / "dev.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the {corpus} corpus is not beside the checkout")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        expected = [len(json.loads(line)["turns"]) for line in stream]
    assert [len(dialogue.turns) for dialogue in read_dialogues(path)] == expected


def test_real_rttm() -> None:
    folder = CORPORA / "diarization" / "ami"
    if not folder.exists():
        pytest.skip("the AMI excerpts are not beside the checkout")
    for path in folder.glob("*.rttm"):
        rows = [line.split() for line in path.read_text().splitlines()]
        for recording in {row[1] for row in rows}:
            turns = turns_of(path, recording)
            assert len(turns) == sum(row[1] == recording for row in rows)
            assert {turn.speaker for turn in turns} == {row[7] for row in rows if row[1] == recording}
