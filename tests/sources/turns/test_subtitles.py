"""Cues as meetings, captions and films have them."""
# ruff: noqa: RUF001 - tables of cues have one case per line

from pathlib import Path

import pytest
from transcripts import Row, read

ZOOM = """WEBVTT

1
00:00:01.000 --> 00:00:02.000
Dr. Ann Smith: Hi.

2
00:00:03.000 --> 00:00:04.500
María Núñez (she/her): Hola: ¿qué tal?

3
00:00:05.000 --> 00:00:06.000
+1 (555) 123-4567: On the phone.
"""
TEAMS = """WEBVTT

7b3c1f62-91d5-4a2e-8a43-0d5c7e1d2f10/12-0
00:00:03.120 --> 00:00:05.600
<v Lee, Ann (EXT)>Hello there, everyone.</v>

7b3c1f62-91d5-4a2e-8a43-0d5c7e1d2f10/12-1
00:00:05.600 --> 00:00:08.000
<v Lee, Ann (EXT)>Shall we
start?</v>

7b3c1f62-91d5-4a2e-8a43-0d5c7e1d2f10/19-0
00:00:08.500 --> 00:00:09.900
<v Rob O&#39;Neil>Yes &amp; thanks.</v>
"""
STREAM = """WEBVTT

NOTE duration:"00:25:31.5700000"

NOTE Confidence: 0.8984

8a1f0d57-3c2b-4b67-9d2e-5a1b2c3d4e5f
00:00:00.110 --> 00:00:04.470
Good morning everyone.

NOTE Confidence: 0.91

0b7f0d57-3c2b-4b67-9d2e-5a1b2c3d4e5f
00:00:04.470 --> 00:00:06.000
Let's begin.
"""
OTTER = """1
00:00:00,000 --> 00:00:04,000
Ann Lee: Hello, this is the desk.

2
00:00:04,000 --> 00:00:05,000
Speaker 2: Can I help?
"""
WHISPERX = """1
00:00:00,031 --> 00:00:01,500
[SPEAKER_01]: Hello there.

2
00:00:02,000 --> 00:00:03,000
[SPEAKER_00]: Bye.
"""


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "zoom.vtt",
            ZOOM,
            [
                (1, 2, "Dr. Ann Smith", "Hi."),
                (3, 4.5, "María Núñez (she/her)", "Hola: ¿qué tal?"),
                (5, 6, "+1 (555) 123-4567", "On the phone."),
            ],
        ),
        (
            "teams.vtt",
            TEAMS,
            [
                (3.12, 5.6, "Lee, Ann (EXT)", "Hello there, everyone."),
                (5.6, 8, "Lee, Ann (EXT)", "Shall we start?"),
                (8.5, 9.9, "Rob O'Neil", "Yes & thanks."),
            ],
        ),
        (
            "stream.vtt",
            STREAM,
            [(0.11, 4.47, None, "Good morning everyone."), (4.47, 6, None, "Let's begin.")],
        ),
        (
            "otter.srt",
            OTTER,
            [(0, 4, "Ann Lee", "Hello, this is the desk."), (4, 5, "Speaker 2", "Can I help?")],
        ),
        ("wx.srt", WHISPERX, [(0.03, 1.5, "SPEAKER_01", "Hello there."), (2, 3, "SPEAKER_00", "Bye.")]),
        (
            "no-header.vtt",
            OTTER,
            [(0, 4, "Ann Lee", "Hello, this is the desk."), (4, 5, "Speaker 2", "Can I help?")],
        ),
        (
            "crlf.vtt",
            "\ufeff" + ZOOM.split("\n\n2")[0].replace("\n", "\r\n"),
            [(1, 2, "Dr. Ann Smith", "Hi.")],
        ),
    ],
)
def test_meetings(tmp_path: Path, name: str, content: str, expected: list[Row]) -> None:
    assert read(tmp_path, name, content) == (expected, [])


@pytest.mark.parametrize(
    "name",
    [
        "ann lee",
        "🎤 Kim",
        "Ann & Rob",
        "iPhone von Ann",
        "DESKTOP-4F3K2",
        "someone from the bank",
        "#1 fan",
        "李 小龙",
    ],
)
def test_a_name_of_any_form_in_a_meeting(tmp_path: Path, name: str) -> None:
    """Where all others have a name, so has this cue; and a name that comes again is one."""
    times = "00:00:0{0}.000 --> 00:00:0{0}.500\n"
    said = [f"{name}: yes: no", "Ann Lee: hello", "Rob: hi"]
    content = "WEBVTT\n\n" + "".join(times.format(k) + line + "\n\n" for k, line in enumerate(said))
    assert read(tmp_path, "a.vtt", content)[0][0] == (0, 0.5, name, "yes: no")
    again = content + times.format(8) + "without a name\n\n" + times.format(9) + f"{name}: bye\n"
    rows, _ = read(tmp_path, "a.vtt", again)
    assert [row[2] for row in rows] == [name, "Ann Lee", "Rob", None, name]


def test_what_somebody_says_with_a_colon_is_no_name(tmp_path: Path) -> None:
    content = "WEBVTT\n\n00:01.000 --> 00:02.000\nThen he said: come\n\n00:03.000 --> 00:04.000\nAnn: no\n"
    assert [row[2] for row in read(tmp_path, "a.vtt", content)[0]] == [None, "Ann"]


# --- captions that roll ---------------------------------------------------------------------------

ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.389 align:start position:0%
 
so<00:00:00.480><c> today</c><00:00:00.960><c> we</c><00:00:01.920><c> talk</c>

00:00:02.389 --> 00:00:02.399 align:start position:0%
so today we talk
 

00:00:02.399 --> 00:00:04.549 align:start position:0%
so today we talk
about<00:00:02.600><c> it</c>

00:00:04.549 --> 00:00:04.559 align:start position:0%
about it
 

00:00:09.000 --> 00:00:11.000 align:start position:0%
about it
about<00:00:09.500><c> it</c>

00:00:11.000 --> 00:00:13.000 align:start position:0%
about it
[Music]
"""
CONVERTED = """1
00:00:00,500 --> 00:00:02,390
hello this is the desk

2
00:00:02,390 --> 00:00:02,400
hello this is the desk

3
00:00:02,400 --> 00:00:04,390
hello this is the desk
how can I help

4
00:00:04,390 --> 00:00:04,400
how can I help

5
00:00:05,210 --> 00:00:08,190
how can I help
my order never came
"""
SPEAKERS = """WEBVTT

00:01.000 --> 00:03.000
&gt;&gt;<00:01.200><c> Hi.</c>

00:03.000 --> 00:05.000
&gt;&gt; Hi.
&gt;&gt; BOB:<00:04.200><c> Hello.</c>

00:05.000 --> 00:07.000
&gt;&gt; BOB: Hello.
You<00:05.200><c> there?</c>
"""


def test_each_line_of_rolling_captions_is_read_once(tmp_path: Path) -> None:
    """A word that is said twice is read twice; a pause and a sound end a turn."""
    rows, warnings = read(tmp_path, "a.vtt", ROLLING)
    assert rows == [(0.16, 3.6, None, "so today we talk about it"), (9, 10.5, None, "about it")]
    assert warnings == []


def test_music_before_the_first_words(tmp_path: Path) -> None:
    music, words = "00:00.000 --> 00:02.000\n[Music]\n", "[Music]\nhi<00:02.500><c> you</c>\n"
    content = f"WEBVTT\n\n{music}\n00:02.000 --> 00:04.000\n{words}"
    assert read(tmp_path, "a.vtt", content) == ([(2, 3.5, None, "hi you")], [])


def test_converted_captions(tmp_path: Path) -> None:
    expected = [
        (0.5, 4.39, None, "hello this is the desk how can I help"),
        (5.21, 8.19, None, "my order never came"),
    ]
    assert read(tmp_path, "a.srt", CONVERTED) == (expected, [])


def test_speakers_in_captions(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "a.vtt", SPEAKERS)
    assert [row[2:] for row in rows] == [(None, "Hi."), ("BOB", "Hello. You there?")]


def test_who_says_a_thing_twice_is_no_rolling_caption(tmp_path: Path) -> None:
    cues = "".join(f"00:00:0{k},000 --> 00:00:0{k + 1},000\nNo.\n\n" for k in range(5))
    assert len(read(tmp_path, "a.srt", cues)[0]) == 5


# --- films ----------------------------------------------------------------------------------------


def cue(*lines: str) -> str:
    return "1\n00:00:10,000 --> 00:00:20,000\n" + "\n".join(lines) + "\n\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["-Hi.", "-Hello, Bob."], [(10, 12.14, None, "Hi."), (12.14, 20, None, "Hello, Bob.")]),
        (["How are you?", "- Fine."], [(10, 17.06, None, "How are you?"), (17.06, 20, None, "Fine.")]),
        (["- No. - Yes."], [(10, 14.29, None, "No."), (14.29, 20, None, "Yes.")]),
        (["– [door slams]", "– Who is it?"], [(15.45, 20, None, "Who is it?")]),
        (["- ANN: Come in.", "- BOB: Well."], [(10, 16.15, "ANN", "Come in."), (16.15, 20, "BOB", "Well.")]),
        ([">> Yes. >> JIM: No."], [(10, 15.71, None, "Yes."), (15.71, 20, "JIM", "No.")]),
        (["- a well-known - and good - thing"], [(10, 20, None, "a well-known - and good - thing")]),
        (["MAN [over phone]: Who is it?"], [(10, 20, "MAN", "Who is it?")]),
        (["NARRATOR (V.O.):", "Once upon a time."], [(10, 20, "NARRATOR", "Once upon a time.")]),
        (["ANN:", "- Why?", "- Because."], [(10, 13.33, "ANN", "Why?"), (13.33, 20, None, "Because.")]),
        (["[ANN LAUGHS]"], []),
        (["(SIGHS)", "- (DOOR CLOSES)"], []),
        (["[MAN] Stop!"], [(10, 20, "MAN", "Stop!")]),
        (["¶ la la ¶"], []),
        (["42"], [(10, 20, None, "42")]),
        (["[laughs]"], []),
        (["♪ la la", "la la ♪"], []),
    ],
)
def test_cues_of_films(tmp_path: Path, lines: list[str], expected: list[Row]) -> None:
    other = "2\n00:00:30,000 --> 00:00:31,000\nx\n"
    assert read(tmp_path, "a.srt", cue(*lines) + other) == ([*expected, (30, 31, None, "x")], [])


def test_what_is_damaged_costs_no_more_than_itself(tmp_path: Path) -> None:
    content = """1
00:00:01,000 --> 00:00:02,000
One

00: 00: 03, 000 --> 00: 00: 04, 000 X1:40 X2:600
Two
3
00:00:05.5 -> 00:00:06
Three

4
00:00:0x,000 --> 00:00:08,000
Lost

stray words

5
00:00:09,000 --> 00:00:09,000
Empty

6
00:00:12,000 --> 00:00:11,000
Backwards

7
00:00:13,000 --> 00:00:14,000
Last"""
    rows, warnings = read(tmp_path, "a.srt", content)
    assert rows == [(1, 2, None, "One"), (3, 4, None, "Two"), (5.5, 6, None, "Three"), (13, 14, None, "Last")]
    assert [warning.split(",")[0] for warning in warnings] == [
        "line 12: expected times (00:00:01",
        "line 15: expected a cue (00:00:01",
        "line 18: expected 0 <= start < end",
        "line 22: expected 0 <= start < end",
    ]
