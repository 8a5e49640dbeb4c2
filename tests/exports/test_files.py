"""Exports as files: endings, faults, and turns that come back as they were."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from exports.made import HARD_NAME, LABELS, UNUSUAL, closed, created, expected, renamed, talk, turn
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_erc.audio import SAMPLE_RATE
from stream_erc.exceptions import OutputError, StreamErcError
from stream_erc.exports.conversations import final_turns, fold
from stream_erc.exports.files import FORMATS, check_format, write_export
from stream_erc.sources.turn_files import is_text_input, read_dialogues, read_turns

READ_BACK = (".srt", ".vtt", ".csv", ".tsv", ".json", ".textgrid", ".eaf", ".parquet", ".txt")
"""Formats that `--turns` reads with all that an export of them holds."""

NOT_READ_BACK = {
    ".rttm": "no words; names without spaces: see test_annotations",
    ".md": "for people to read",
}

WITHOUT_SILENT_TURNS = (".srt", ".vtt")
"""Formats that cannot tell a turn without words from silence."""


def turns_of(path: Path) -> list[tuple[object, ...]]:
    ms, found = SAMPLE_RATE // 1000, read_turns(path)
    assert found.warnings == () and not any(turn.extra for turn in found.turns)
    turns = [(t.speaker, t.text, (t.start or 0) // ms, (t.end or 0) // ms) for t in found.turns]
    return sorted(turns, key=str)


def test_every_format_is_read_back_or_says_why_not() -> None:
    assert {*READ_BACK, *NOT_READ_BACK} == set(FORMATS)


@pytest.mark.parametrize("ending", READ_BACK)
def test_what_is_exported_is_read_back(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    left_out = write_export(talk(UNUSUAL), path)
    assert turns_of(path) == sorted(expected(UNUSUAL, words=ending in WITHOUT_SILENT_TURNS), key=str)
    assert left_out == (1 if ending in WITHOUT_SILENT_TURNS else 0)


HARD = st.text(
    st.one_of(st.sampled_from(list("<>&{}\\Nnh-:()[]'\"|*_#;,=+@ \t\n\r0aA\u00a0：")), st.characters()),  # noqa: RUF001
    max_size=12,
)


@pytest.mark.parametrize("ending", READ_BACK)
@settings(max_examples=100, deadline=None)
@given(spoken=st.lists(st.tuples(HARD, HARD), min_size=1, max_size=4))
def test_any_name_and_text_is_read_back(
    ending: str, spoken: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    turns = [turn(n, f"x{name}", f"y{text}", n * 10, n * 10 + 10) for n, (name, text) in enumerate(spoken)]
    turns += [turn(99, f"x{name}", f"{text}z", 5_000, 5_010) for name, text in spoken[:1]]
    path = tmp_path_factory.mktemp("talk") / f"talk{ending}"
    write_export(talk(turns), path)
    wanted = [(t.speaker, t.line, t.start_ms, t.end_ms) for t in final_turns(*fold(turns))]
    assert turns_of(path) == sorted(wanted, key=str)


@pytest.mark.parametrize("ending", FORMATS)
def test_the_ending_has_any_case_and_every_format_holds_the_turns_in_the_end(
    ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"talk{ending.upper()}"
    first = [turn(0, "speaker_1", "Hello.", 0, 900), turn(1, "speaker_1", "Hi.", 900, 1_800)]
    revised = turn(1, "speaker_2", "Hi.", 900, 1_800, type="turn.revised", revision=1)
    failed = {"type": "turn.failed", "session_id": "session-1", "turn": 2, "message": "expected words"}
    write_export([created(), *first, revised, renamed("speaker_1", "Zoë"), failed, closed()], path)
    content = path.read_bytes()
    assert "Zoë".encode() in content or b"Zo\\u00eb" in content
    assert b"speaker_2" in content and b"speaker_1" not in content
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_conversation_without_turns_is_a_file_too(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    assert write_export(talk([]), path) == 0
    assert path.exists()


@pytest.mark.parametrize("ending", FORMATS)
def test_names_and_texts_that_are_no_unicode_do_not_break_a_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    write_export(talk([turn(0, "a\ud800\x00b", "c\udfff\x01d\ufffe", 0, 900)]), path)
    assert b"\x00b" not in path.read_bytes() or ending == ".parquet"


TEXT_ONLY = [
    created("session-1", dialogue="=1", source={"name": "talks.jsonl", "duration_ms": None}),
    turn(0, "Anna", "Hello,\nyou.", dialogue="=1"),
    turn(1, HARD_NAME, "=2", dialogue="=1"),
    created("session-2", dialogue="b", source={"name": "talks.jsonl", "duration_ms": None}),
    {**turn(0, "Tom", "Hi.", dialogue="b"), "session_id": "session-2"},
]


@pytest.mark.parametrize("ending", FORMATS)
def test_text_dialogues_need_a_format_without_times(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    if FORMATS[ending].timed:
        with pytest.raises(OutputError, match="expected turns with times"):
            check_format(path, timed=False)
        with pytest.raises(OutputError, match="expected turns with times"):
            write_export(TEXT_ONLY, path)
        assert not path.exists()
    else:
        check_format(path, timed=False)
        write_export(TEXT_ONLY, path)
        assert b"Tom" in path.read_bytes()


@pytest.mark.parametrize("ending", [ending for ending in READ_BACK if not FORMATS[ending].timed])
def test_text_dialogues_are_read_back(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    assert is_text_input(path)
    first = ("=1", [("Anna", "Hello, you."), (HARD_NAME, "=2")])
    for messages, wanted in ((TEXT_ONLY[:3], [first]), (TEXT_ONLY, [first, ("b", [("Tom", "Hi.")])])):
        write_export(messages, path)
        found = list(read_dialogues(path))
        assert [(d.dialogue, [(t.speaker, t.text) for t in d.turns]) for d in found] == wanted
        assert [d.warnings for d in found] == [()] * len(wanted)
        assert [t.extra for d in found for t in d.turns] == [{}] * sum(len(turns) for _, turns in wanted)


FURTHER = {
    "Emotion": "=joy",
    "emotion": "sad",
    "given: turn": "1.50",
    "Season": '8, "a"\nb',
    "+1": "x",
    "name": "N",
}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".parquet"])
def test_further_columns_are_read_back(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    turns = [turn(0, "Anna", "Hi.", 0, 900, extra=FURTHER), turn(1, "Tom", "", 900, 950, others=["Anna"])]
    write_export(talk(turns), path)
    assert [dict(t.extra) for t in read_turns(path).turns] == [FURTHER, {}]


@pytest.mark.parametrize("ending", READ_BACK)
def test_nothing_that_was_said_is_taken_for_a_sound_or_mended(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    texts = [
        "[laughs]",
        "♪ la la ♪",
        "(sighs) Yes.",
        "donâ€™t",
        "- Hi. - Hello.",
        "1 → 2",
        "sp",
        "yes\u200bno",
    ]
    turns = [turn(n, "['a']", text, n * 10, n * 10 + 10) for n, text in enumerate(texts)]
    write_export(talk(turns), path)
    assert [(t.speaker, t.text) for t in read_turns(path).turns] == [("['a']", text) for text in texts]


@pytest.mark.parametrize("ending", [".textgrid", ".eaf"])
def test_speakers_that_are_named_like_tiers_of_others_stay_themselves(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"talk{ending}"
    names = [
        "Anna / emotion",
        "Anna",
        "Anna (2)",
        "Anna / emotion (2)",
        "Anna / emotion / emotion",
        "Anna (2) (2)",
    ]
    turns = [turn(n, name, f"{n}", n, n + 90) for n, name in enumerate([*names, *names])]
    write_export(talk(turns), path)
    assert turns_of(path) == sorted(expected(turns), key=str)


def test_a_format_with_times_holds_one_conversation(tmp_path: Path) -> None:
    two = [*talk([turn(0, "a", "b", 0, 1)]), created("session-2")]
    with pytest.raises(OutputError, match="expected one conversation, got 2"):
        write_export(two, tmp_path / "talk.srt")


@pytest.mark.parametrize("name", ["talk.doc", "talk", "talk.csv.gz"])
def test_an_unknown_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"expected \.srt, \.vtt, .*, got"):
        check_format(tmp_path / name, timed=True)


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "talk.csv"
    path.write_text("mine")
    with pytest.raises(OutputError):
        write_export(TEXT_ONLY, tmp_path / "talk.srt")
    broken = [{"type": "turn.final", "session_id": "s", "turn": 0, "emotion": {"label": "joy"}, "others": 3}]
    with pytest.raises(OutputError, match="a place that can be written"):
        write_export(broken, path / "below.csv")
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["talk.csv"]


def test_parquet_names_its_extra_where_the_library_is_missing(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from stream_erc.exports.files import check_format\n"
        "check_format(Path('a.parquet'), timed=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "EngineUnavailable" in done.stderr and "stream-erc[parquet]" in done.stderr
    assert issubclass(OutputError, StreamErcError)


def test_all_labels_have_a_place_although_no_turn_has_them(tmp_path: Path) -> None:
    write_export(talk([turn(0, "a", "b", 0, 10, label="joy")]), tmp_path / "talk.csv")
    header = (tmp_path / "talk.csv").read_text().splitlines()[0].split(",")
    assert [f"probability_{label}" for label in LABELS] == header[7:10]
