"""Tables as people and programs write them."""
# ruff: noqa: E501 - the tables of files have one case per line

from pathlib import Path

import pytest
from transcripts import Row, read

from stream_erc.exceptions import TurnsError
from stream_erc.sources.turn_files import read_dialogues, read_turns

ANN = (0.5, 4.4, "Ann", "Hello, this is the desk.")
ROB = (5.21, 11.21, "Rob", "It never came.")

MELD = """Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime
1,also I was the point person on my company\x92s transition,Chandler,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"
2,You must\x92ve had your hands full.,The Interviewer,neutral,neutral,0,1,8,21,"0:16:21,940","0:16:23,442"
"""
EMORYNLP = """Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,StartTime,EndTime
There's nothing to tell!,['Monica Geller'],Neutral,4,1,1,1,"00:00:58,059","00:01:00,059"
Oh no.,"['Joey Tribbiani', 'Chandler Bing']",Sad,4,2,1,1,"00:01:01,000","00:01:02,000"
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("comma.csv", 'start,end,speaker,text\n0.5,4.4,Ann,"Hello, this is the desk."\n5.21,11.21,Rob,It never came.\n'),
        ("excel.csv", "\ufeffStart Time;End Time;Speaker;Utterance\r\n00:00:00.500;00:00:04.400;Ann;Hello, this is the desk.\r\n0:00:05,21;00:00:11.210;Rob;It never came.\r\n"),
        ("german.csv", "Begin;Duration;Name;Text\n0,5;3,9;Ann;Hello, this is the desk.\n5,21;6,0;Rob;It never came.\n"),
        ("sep.csv", "sep=;\nFrom;To;Participant;Sentence\n00:00.5;00:04.4;Ann;Hello, this is the desk.\n00:05.21;00:11.21;Rob;It never came.\n"),
        ("tab.tsv", "Onset (ms)\tOffset (ms)\tWho\tTranscript\n500\t4400\tAnn\tHello, this is the desk.\n5210\t11210\tRob\tIt never came.\n"),
        ("tab.csv", "start_ms\tend_ms\tspeaker_id\ttranscription\n500\t4400\tAnn\tHello, this is the desk.\n5210\t11210\tRob\tIt never came.\n"),
        ("pipe.csv", "startTime|endTime|speakerName|content\n0.5|4.4|Ann|Hello, this is the desk.\n5.21|11.21|Rob|It never came.\n"),
        ("units.csv", 'start,end,speaker,text\n0.5 s,4400 ms,Ann,"Hello, this is the desk."\n5.21s,11210ms,Rob,It never came.\n'),
        ("elan.tsv", "Tier\tBegin Time - hh:mm:ss.ms\tBegin Time - msec\tEnd Time - msec\tDuration - msec\tAnnotation\nAnn\t00:00:00.500\t500\t4400\t3900\tHello, this is the desk.\nRob\t00:00:05.210\t5210\t11210\t6000\tIt never came.\n"),
        ("praat.tsv", "tmin\ttier\ttext\ttmax\n0.5\tAnn\tHello, this is the desk.\t4.4\n5.21\tRob\tIt never came.\t11.21\n"),
        ("title.csv", "Interview 12\n\nstart,end,speaker,text\n0.5,4.4,Ann,Hello, this is the desk.\n5.21,11.21,Rob,It never came.,,\n"),
        ("premiere.csv", '"Speaker Name","Start Time","End Time","Text"\n"Ann","00:00:00:15","00:00:04:12","Hello, this is the desk."\n"Rob","00:00:05.21","00:00:11.21","It never came."\n'),
        ("titles.csv", "Beginn;Ende;Sprecher;Text\n0,5;4,4;Ann;Hello, this is the desk.\n5,21;11,21;Rob;It never came.\n"),
        ("none.csv", '0.5,4.4,Ann,"Hello, this is the desk."\n5.21,11.21,Rob,It never came.\n'),
        ("audacity.txt", "0.500000\t4.400000\tAnn\tHello, this is the desk.\n5.210000\t11.210000\tRob\tIt never came.\n"),
        ("name.txt", "Start\tStop\tSpeaker\tText\n0.5\t4.4\tAnn\tHello, this is the desk.\n5.21\t11.21\tRob\tIt never came.\n"),
    ],
)  # fmt: skip
def test_tables(tmp_path: Path, name: str, content: str) -> None:
    assert read(tmp_path, name, content) == ([ANN, ROB], [])


def test_milliseconds_without_a_unit_are_told_and_said(tmp_path: Path) -> None:
    content = (
        'Onset,Offset,Name,Sentence\n500,4400,Ann,"Hello, this is the desk."\n5210,11210,Rob,It never came.\n'
    )
    rows, warnings = read(tmp_path, "a.csv", content)
    assert rows == [ANN, ROB]
    assert warnings == ["expected times in seconds, got such as are milliseconds: read so"]
    long = f"start,end,text\n0,120,{'word ' * 99}\n"
    assert read(tmp_path, "c.csv", long)[0][0][:2] == (0, 120)
    assert read(tmp_path, "b.csv", "start,end,text\n0,30,a\n30,75,b\n")[0][1] == (30, 75, None, "b")


def test_starts_alone(tmp_path: Path) -> None:
    """A turn lasts until the next one; the last as long as its text takes, and so does one before a long gap."""
    content = "Time,Speaker,Text\n0:01,Ann,Hi\n0:05,Rob,Hello there my old friend Ann\n0:30:00,Ann,Bye\n"
    rows, warnings = read(tmp_path, "a.csv", content)
    assert [row[:2] for row in rows] == [(1, 5), (5, 7.42), (1800, 1801)]
    assert warnings == []


def test_further_columns_come_along(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,start,end,speaker,text,Mood,note,note\n7,1,2,Ann,Hi,joy,,x\n")
    (turn,) = read_turns(path).turns
    assert dict(turn.extra) == {"id": "7", "Mood": "joy", "note (2)": "x"}


def test_columns_with_names_of_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"Start\nTime",End,Text,"Mood\n(1-5)"\n1,2,Hi,3\nsoon,3,Ho,\n')
    found = read_turns(path)
    assert [dict(turn.extra) for turn in found.turns] == [{"Mood (1-5)": "3"}]
    assert found.warnings == (f"{path}, line 5: expected a time as Start Time, got 'soon'",)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_meld(tmp_path: Path, encoding: str) -> None:
    """The corpus' own files: with broken apostrophes, or in Windows-1252."""
    path = tmp_path / "a.csv"
    path.write_bytes((MELD if encoding == "utf-8" else MELD.replace("\x92", "\u2019")).encode(encoding))
    found = read_turns(path)
    assert [(t.speaker, t.text, t.start, t.end) for t in found.turns] == [
        ("Chandler", "also I was the point person on my company's transition", 15_616_944, 15_707_696),
        ("The Interviewer", "You must've had your hands full.", 15_711_040, 15_735_072),
    ]
    assert found.turns[0].extra["Emotion"] == "neutral" and found.turns[0].extra["Season"] == "8"
    assert len(found.warnings) == (encoding == "cp1252")
    assert [dialogue.dialogue for dialogue in read_dialogues(path)] == ["0"]


def test_emorynlp(tmp_path: Path) -> None:
    rows, warnings = read(tmp_path, "a.csv", EMORYNLP)
    assert [row[2] for row in rows] == ["Monica Geller", "Chandler Bing and Joey Tribbiani"]
    assert warnings == []


@pytest.mark.parametrize(
    ("content", "expected", "warnings"),
    [
        ("start,end,text\n1,2,a\nsoon,3,b\n3,4,c\n", [(1, 2, None, "a"), (3, 4, None, "c")], ["line 3: expected a time as start, got 'soon'"]),
        ("start,end,text,note\n1,2,a,\n2,3,b\n3,4,c,x\n", [(1, 2, None, "a"), (2, 3, None, "b"), (3, 4, None, "c")], []),
        ("start,text,end\n1,a,2\n2\n3,c,4\n", [(1, 2, None, "a"), (3, 4, None, "c")], ["line 3: expected 3 cells, got 1"]),
        ("start,text,end\n1,a,2\n2,b,2,4,5\n3,c,4\n", [(1, 2, None, "a"), (3, 4, None, "c")], ["line 3: expected 3 cells, got 5"]),
        ('start,end,text\n1,2,"a\n2,3,b\n', [(1, 2, None, "a"), (2, 3, None, "b")], ["line 2: expected a closing quotation mark, got none; read as it is"]),
        ('start,end,text\n1,2,5" tall\n2,3,"b ""c"" d"\n3,4,"e\nf"\n', [(1, 2, None, '5" tall'), (2, 3, None, 'b "c" d'), (3, 4, None, "e f")], []),
        ("start,end,text\n2,2,a\n3,2,b\n-1,2,c\n1,700,d\n,,\n3,4,e\n", [(3, 4, None, "e")], [
            "line 2: expected 0 <= start < end, got 2 s to 2 s", "line 3: expected 0 <= start < end, got 3 s to 2 s",
            "line 4: expected 0 <= start < end, got -1 s to 2 s", "line 5: expected a turn of at most 600 s, got 699 s",
        ]),
    ],
)  # fmt: skip
def test_an_odd_line_costs_no_other(
    tmp_path: Path, content: str, expected: list[Row], warnings: list[str]
) -> None:
    assert read(tmp_path, "a.csv", content) == (expected, warnings)


def test_who_wrote_a_message_is_no_time(tmp_path: Path) -> None:
    path = tmp_path / "chat.csv"
    path.write_text("Timestamp,From,Message\n12/03/2021 10:05,Ann,[sighs] Hi\n12/03/2021 10:06,Rob,Oh\n")
    (dialogue,) = read_dialogues(path)
    assert [(t.speaker, t.text, t.start) for t in dialogue.turns] == [
        ("Ann", "[sighs] Hi", None),
        ("Rob", "Oh", None),
    ]
    assert dialogue.turns[0].extra == {"Timestamp": "12/03/2021 10:05"}
    with pytest.raises(TurnsError, match="line 2: expected a time as Timestamp"):
        read_turns(path)


def test_dialogues_that_come_again_and_odd_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("dialogue,speaker,text\n1,A,x\n2,A,y\n1,A,z\n1,A,\n")
    found = list(read_dialogues(path))
    assert [(d.dialogue, len(d.turns)) for d in found] == [("1", 1), ("2", 1), ("1", 1)]
    assert [w.removeprefix(f"{path}, ") for d in found for w in d.warnings] == [
        "line 4: expected the rows of a dialogue together, got '1' again",
        "line 5: expected a text, got none",
    ]
