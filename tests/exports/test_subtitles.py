"""Subtitles, read by the package webvtt-py, which does not write them here."""

import re
from io import StringIO

import pytest
import webvtt
from exports.made import UNUSUAL, talk, turn

from stream_erc.exports import subtitles
from stream_erc.exports.conversations import fold


def cues(kind: str, *turns: dict[str, object]) -> str:
    return "".join(getattr(subtitles, kind)(*fold(talk(turns))))


def test_srt_says_who_and_how() -> None:
    turns = turn(0, "Mary Ann", "Hi.", 500, 3_661_007), turn(1, "a, b", "x < y", 1, 2)
    first, second = webvtt.from_buffer(StringIO(cues("srt", *turns)), format="srt")
    assert first.raw_text == "Mary Ann (joy 70%): Hi."
    assert (first.start, first.end) == ("00:00:00.500", "01:01:01.007")
    assert second.raw_text == "<v.joy a, b>x < y", "a name that no reader takes for one stands in a voice tag"


def test_srt_of_anything_is_what_its_own_parser_takes() -> None:
    text = cues("srt", *UNUSUAL)
    parsed = webvtt.from_buffer(StringIO(text), format="srt")
    assert len(parsed) == len(UNUSUAL) - 1
    numbers = [block.split("\n")[0] for block in text.rstrip("\n").split("\n\n")]
    assert numbers == [str(k) for k in range(1, len(UNUSUAL))]
    assert all("\n" not in cue.raw_text and "-->" not in cue.raw_text for cue in parsed)


def test_vtt_has_voices_with_the_emotion_as_class_and_in_the_name_of_the_cue() -> None:
    (cue,) = webvtt.from_buffer(
        StringIO(cues("vtt", turn(0, "Ann & Bo", "a < b", 500, 1_000, label="anger")))
    )
    assert (cue.identifier, cue.start, cue.end) == ("1 anger 70%", "00:00:00.500", "00:00:01.000")
    assert cue.raw_text == "<v.anger Ann &amp; Bo>a &lt; b"


STAMP = r"\d\d:\d\d:\d\d\.\d{3}"
VOICE = re.compile(r"<v(?:\.[\w-]+)? (?P<name>[^<>\n]+)>(?P<text>[^<\n]*)")
REFERENCE = re.compile(r"&(?:amp|lt|gt|#\d+);")


def test_vtt_of_anything_keeps_the_grammar_of_the_standard() -> None:
    header, *blocks = cues("vtt", *UNUSUAL).rstrip("\n").split("\n\n")
    assert header == "WEBVTT - stream_erc" and len(blocks) == len(UNUSUAL) - 1
    for block in blocks:
        identifier, times, text = block.split("\n")
        assert identifier and "-->" not in identifier
        assert re.fullmatch(rf"{STAMP} --> {STAMP}", times)
        found = VOICE.fullmatch(text)
        assert found and "-->" not in text, text
        for part in found.groups():
            assert "&" not in REFERENCE.sub("", part), part


@pytest.mark.parametrize("label", ["joy (great)", "a.b c", "{x}", "a-->b"])
def test_labels_of_ones_own_break_no_cue(label: str) -> None:
    made = turn(0, "Anna", "Hi.", 0, 900, label=label)
    (cue,) = webvtt.from_buffer(StringIO(cues("vtt", made)))
    assert re.match(r"<v\.[\w-]+ Anna>Hi\.", cue.raw_text)
    (shown,) = webvtt.from_buffer(StringIO(cues("srt", made)), format="srt")
    assert re.fullmatch(r"Anna \([\w. -]+ 70%\): Hi\.", shown.raw_text)
