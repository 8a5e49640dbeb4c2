"""Tiers of ELAN and Praat, as linguists keep them."""
# ruff: noqa: E501 - documents of one line

from pathlib import Path

import pytest
from transcripts import Row, read

from stream_erc.exceptions import TurnsError
from stream_erc.sources.turn_files import read_turns

SLOTS = (("ts1", 500), ("ts2", None), ("ts3", 1500), ("ts4", 2500))
SCHEMA = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="EAFv3.0.xsd"'


def eaf(*tiers: str, head: str = SCHEMA) -> str:
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"' + (f' TIME_VALUE="{at}"/>' if at is not None else "/>")
        for name, at in SLOTS
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" FORMAT="3.0" VERSION="3.0" {head}>'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/><TIME_ORDER>{slots}</TIME_ORDER>{"".join(tiers)}'
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/></ANNOTATION_DOCUMENT>'
    )


def tier(name: str, *annotations: str, **more: str) -> str:
    told = "".join(f' {key.upper()}="{value}"' for key, value in more.items())
    inside = "".join(f"<ANNOTATION>{a}</ANNOTATION>" for a in annotations)
    return f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{name}"{told}>{inside}</TIER>'


def timed(name: str, first: str, last: str, text: str) -> str:
    return (
        f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{first}" TIME_SLOT_REF2="{last}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>"
    )


def refers(name: str, to: str, text: str) -> str:
    return (
        f'<REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{to}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></REF_ANNOTATION>"
    )


ANN = [timed("a1", "ts1", "ts2", "Hello &amp; hi"), timed("a2", "ts2", "ts3", "there")]
BOB = timed("a3", "ts3", "ts4", "Ja")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            eaf(tier("Ann", *ANN), tier("Bob", BOB)),
            [(0.5, 1, "Ann", "Hello & hi"), (1, 1.5, "Ann", "there"), (1.5, 2.5, "Bob", "Ja")],
        ),
        (eaf(tier("utterances", BOB, participant="Bob Lee")), [(1.5, 2.5, "Bob Lee", "Ja")]),
        (eaf(tier("default", BOB), head=""), [(1.5, 2.5, None, "Ja")]),
        (eaf(tier("Bob_Transcription", BOB)), [(1.5, 2.5, "Bob", "Ja")]),
        (
            eaf(tier("Bob", BOB), tier("Bob-translation", refers("a4", "a3", "Yes"), parent_ref="Bob")),
            [(1.5, 2.5, "Bob", "Ja")],
        ),
        (
            eaf(
                tier("ref@Ann", timed("a1", "ts1", "ts3", "rec.001"), timed("a2", "ts3", "ts4", "rec.002")),
                tier("ft@Ann", refers("a7", "a1", "Hallo"), parent_ref="ref@Ann"),
                tier("tx@Ann", refers("a5", "a1", "Hello"), refers("a6", "a2", "Bye"), parent_ref="ref@Ann"),
            ),
            [(0.5, 1.5, "Ann", "Hello"), (1.5, 2.5, "Ann", "Bye")],
        ),
        (
            eaf(
                tier("ref@Ann", timed("a1", "ts1", "ts4", "12")),
                tier("tx@Ann", refers("a5", "a1", "One"), refers("a6", "a1", "Two"), parent_ref="ref@Ann"),
            ),
            [(0.5, 1.5, "Ann", "One"), (1.5, 2.5, "Ann", "Two")],
        ),
        (eaf(tier("Bob", BOB), tier("Ann")), [(1.5, 2.5, "Bob", "Ja")]),
    ],
)
def test_elan(tmp_path: Path, content: str, expected: list[Row]) -> None:
    assert read(tmp_path, "a.eaf", content) == (expected, [])


def test_tiers_of_something_else(tmp_path: Path) -> None:
    content = eaf(tier("Bob", BOB), tier("gestures", timed("a9", "ts1", "ts3", "waves")))
    rows, warnings = read(tmp_path, "a.eaf", content)
    assert rows == [(1.5, 2.5, "Bob", "Ja")]
    assert warnings == ["tier 'gestures': expected speech, got a tier that is named for something else"]


def test_an_annotation_without_times_costs_no_other(tmp_path: Path) -> None:
    lost = timed("a8", "ts9", "ts8", "lost")
    rows, warnings = read(tmp_path, "a.eaf", eaf(tier("Bob", lost, BOB)))
    assert rows == [(1.5, 2.5, "Bob", "Ja")]
    assert warnings == ["annotation a8 of tier 'Bob': expected a time, got none"]


@pytest.mark.parametrize(("content", "got"), [("<a>", "no element"), ("<a/>", "<a>"), ("x", "syntax error")])
def test_no_elan(tmp_path: Path, content: str, got: str) -> None:
    path = tmp_path / "a.eaf"
    path.write_text(content)
    with pytest.raises(TurnsError, match=f"expected an ELAN document, got:? {got}"):
        read_turns(path)


# --- Praat ----------------------------------------------------------------------------------------

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 5 
tiers? <exists> 
size = 3 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "Ann" 
        xmin = 0 
        xmax = 5 
        intervals: size = 3 
        intervals [1]:
            xmin = 5.7e-14 
            xmax = 1.5 
            text = "She said ""hi"" 
and more, é" 
        intervals [2]:
            xmin = 1.5 
            xmax = 3 
            text = "" 
        intervals [3]:
            xmin = 3 
            xmax = 5 
            text = "<laugh> Well 3" 
    item [2]:
        class = "TextTier" 
        name = "clicks" 
        xmin = 0 
        xmax = 5 
        points: size = 1 
        points [1]:
            number = 2.5 
            mark = "click" 
    item [3]:
        class = "IntervalTier" 
        name = "Bob" 
        xmin = 0 
        xmax = 5 
        intervals: size = 1 
        intervals [1]:
            xmin = 1.5 
            xmax = 3 
            text = "Oh" 
"""
GRID = [(0, 1.5, "Ann", 'She said "hi" and more, é'), (1.5, 3, "Bob", "Oh"), (3, 5, "Ann", "Well 3")]


def short(*tiers: str) -> str:
    head = 'File type = "ooTextFile short"\n"TextGrid"\n\n0\n5\n<exists>\n'
    return f"{head}{len(tiers)}\n{''.join(tiers)}"


def intervals(name: str, *found: tuple[float, float, str]) -> str:
    rows = "".join(f'{start}\n{end}\n"{text}"\n' for start, end, text in found)
    return f'"IntervalTier"\n"{name}"\n0\n5\n{len(found)}\n{rows}'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_long_textgrids(tmp_path: Path, encoding: str, newline: str) -> None:
    rows, warnings = read(tmp_path, "a.TextGrid", LONG.replace("\n", newline).encode(encoding))
    assert rows == GRID
    assert len(warnings) == (encoding == "cp1252")


def test_big_endian(tmp_path: Path) -> None:
    assert read(tmp_path, "a.textgrid", b"\xfe\xff" + LONG.encode("utf-16-be"))[0] == GRID


WORDS = [(0, 0.5, "hello"), (0.5, 0.9, "there"), (0.9, 3, "sil"), (3, 3.4, "bye")]


@pytest.mark.parametrize(
    ("tiers", "expected", "others"),
    [
        ([intervals("Ann", (0, 1, "Hi"), (1, 2, ""))], [(0, 1, "Ann", "Hi")], 0),
        ([intervals("text", (0, 1, "Hi"))], [(0, 1, None, "Hi")], 0),
        ([intervals("Ann - words", *WORDS)], [(0, 0.9, "Ann", "hello there"), (3, 3.4, "Ann", "bye")], 0),
        (
            [intervals("words", *WORDS), intervals("phones", (0, 1, "HH"))],
            [(0, 0.9, None, "hello there"), (3, 3.4, None, "bye")],
            1,
        ),
        ([intervals("utt", (0, 3.4, "Hello there, bye.")), intervals("words", *WORDS)], [(0, 3.4, None, "Hello there, bye.")], 0),
    ],
)  # fmt: skip
def test_short_textgrids(tmp_path: Path, tiers: list[str], expected: list[Row], others: int) -> None:
    rows, warnings = read(tmp_path, "a.TextGrid", short(*tiers))
    assert (rows, len(warnings)) == (expected, others)


def test_what_is_whole_of_a_cut_textgrid_is_read(tmp_path: Path) -> None:
    rows, warnings = read(tmp_path, "a.TextGrid", LONG[: LONG.index('text = "<laugh>')])
    assert rows == GRID[:1]
    assert warnings == ["line 27: expected a text in quotation marks, got the end; the rest is left out"]


def test_a_number_beyond_all_ends_a_textgrid(tmp_path: Path) -> None:
    content = short(intervals("Ann", (0, 1, "Hi")), intervals("Bob", (1, 1e300, "Ho"), (2, 3, "He")))
    rows, warnings = read(tmp_path, "a.TextGrid", content)
    assert rows == [(0, 1, "Ann", "Hi")]
    assert warnings == ["line 22: expected a number, got 1e+300; the rest is left out"]


def test_no_textgrid(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text('File type = "ooTextFile"\nObject class = "PitchTier"\n')
    with pytest.raises(TurnsError, match="expected a TextGrid of Praat, got"):
        read_turns(path)
