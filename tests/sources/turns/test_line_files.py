"""Transcripts with a turn, or a word, a line."""

from pathlib import Path

import pytest
from transcripts import Row, read

from stream_erc.exceptions import TurnsError
from stream_erc.sources.turn_files import read_dialogues, read_turns

RTTM = """;; by hand
SPKR-INFO mono 1 <NA> <NA> <NA> unknown A <NA>
SPEAKER\tmono\t1\t0.500\t3.900\t<NA>\t<NA>\tA\t<NA>\t<NA>
NON-SPEECH mono 1 4.500 0.500 <NA> noise <NA> <NA> <NA>
SPEAKER   mono   1   5.21  6  <NA>  <NA>   B   <NA>
SPEAKER mono 1 12.02 0.00 <NA> <NA> A <NA> <NA>
SPEAKER mono 1 soon 1 <NA> <NA> A <NA> <NA>
SPEAKER mono
SPEAKER mono 1 16.77 4.36 <NA> <NA> Bo Lee <NA> <NA>
"""
CTM = """;; CTM
call A 0.50 0.30 hello 0.9
call A 0.85 0.25 there 0.9
call B 1.50 0.25 hi <NA>
call A * * <ALT_BEGIN>
call A 2.00 0.25 again 0.8 lex A2
call A 2.30 0.25 %hes 0.8 non-lex A2
call A oops
"""
IEMOCAP = """Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
Ses01F_impro01_M000 [007.5712-010.4750]: Do you have your forms?
F: [LAUGHTER]
Ses01F_impro01_F001 [010.9266-011.4600]: Yeah. [BREATHING]
Ses01F_impro01_MXX0 [014.3000-014.9000]: [LAUGHTER]
Ses01F_impro01_F002 [bad]: What?
"""
OTTER = """Ann Lee  0:00  \r
Hello, this is the desk.  \r
\r
Rob O'Neil  0:05  \r
It never came.\r
I am angry.\r
\r
Speaker 3  1:02:03  \r
Well.\r
\r
Transcribed by https://otter.ai\r
"""


def test_rttm(tmp_path: Path) -> None:
    rows, warnings = read(tmp_path, "a.rttm", RTTM)
    assert rows == [(0.5, 4.4, "A", None), (5.21, 11.21, "B", None), (16.77, 21.13, "Bo Lee", None)]
    assert [warning[:45] for warning in warnings] == [
        "line 6: expected 0 <= start < end, got 12.02 ",
        "line 7: expected a number as start and durati",
        "line 8: expected SPEAKER FILE CHANNEL START D",
    ]
    with pytest.raises(TurnsError, match="expected at least one dialogue, got none"):
        list(read_dialogues(tmp_path / "a.rttm"))


def test_ctm(tmp_path: Path) -> None:
    rows, warnings = read(tmp_path, "a.ctm", CTM)
    assert rows == [(0.5, 1.1, "A", "hello there"), (1.5, 1.75, "B", "hi"), (2, 2.25, "A2", "again")]
    assert [warning[:40] for warning in warnings] == ["line 8: expected FILE CHANNEL START DURA"]
    assert read(tmp_path, "b.ctm", "x 1 0.5 0.3 a\nx 1 0.9 0.2 b\n") == ([(0.5, 1.1, None, "a b")], [])


def test_ctm_of_several_recordings(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_text("x A 0.5 0.3 a\ny A 0.5 0.3 b\ny B 0.9 0.3 c\n")
    assert [turn.text for turn in read_turns(path, "y").turns] == ["b", "c"]
    with pytest.raises(TurnsError, match="expected turns of z, got 2 recordings: x, y"):
        read_turns(path, "z")


def test_iemocap(tmp_path: Path) -> None:
    rows, warnings = read(tmp_path, "Ses01F_impro01.txt", IEMOCAP)
    assert rows == [
        (6.29, 8.24, "Ses01_F", "Excuse me."),
        (7.57, 10.47, "Ses01_M", "Do you have your forms?"),
        (10.93, 11.46, "Ses01_F", "Yeah."),
    ]
    assert [warning[:40] for warning in warnings] == ["line 6: expected NAME [START-END]: TEXT,"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            OTTER,
            [
                (0, 5, "Ann Lee", "Hello, this is the desk."),
                (5, 7.17, "Rob O'Neil", "It never came. I am angry."),
                (3723, 3724, "Speaker 3", "Well."),
            ],
        ),
        (
            "Talk with Ann\nMon, Nov 23\n\nAnn  0:00\nHello.\n\nRob  0:02\nHi.\n",
            [(0, 2, "Ann", "Hello."), (2, 3, "Rob", "Hi.")],
        ),
        (
            "[00:00.000 --> 00:04.400]  Hello, you.\n[00:05.210 --> 01:11.210]  It never came.\n",
            [(0, 4.4, None, "Hello, you."), (5.21, 71.21, None, "It never came.")],
        ),
        (
            "[00:00:05] Ann: Hello there.\n[00:00:09] Bob (he/him): Hi: Ann.\n",
            [(5, 9, "Ann", "Hello there."), (9, 10, "Bob (he/him)", "Hi: Ann.")],
        ),
        (
            "Ann (00:05): Hello there.\nBob (00:09): Hi.\n",
            [(5, 9, "Ann", "Hello there."), (9, 10, "Bob", "Hi.")],
        ),
        (
            "0:05 Hello there.\n0:09\nAnn: Hi,\nyou.\n",
            [(5, 9, None, "Hello there."), (9, 10, "Ann", "Hi, you.")],
        ),
        ("1\n00:00:01,000 --> 00:00:02,000\nAnn: Hi.\n", [(1, 2, "Ann", "Hi.")]),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Hi.\n", [(1, 2, "Ann", "Hi.")]),
        ("SPEAKER x 1 1 1 <NA> <NA> Ann <NA> <NA>\n", [(1, 2, "Ann", None)]),
    ],
)
def test_text_files(tmp_path: Path, content: str, expected: list[Row]) -> None:
    assert read(tmp_path, "a.txt", content) == (expected, [])
