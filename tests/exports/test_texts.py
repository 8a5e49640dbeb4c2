"""Text and Markdown for reading."""

import json
import re

from exports.made import closed, created, talk, turn
from markdown_it import MarkdownIt

from stream_erc.exports.conversations import fold
from stream_erc.exports.tables import json_file
from stream_erc.exports.texts import markdown, txt

TURNS = [
    turn(0, "Anna", "Hallo.", 61_250, 3_600_000, translation="Hello."),
    turn(1, "speaker_1", "a | b <i> *c* [d](e) `f` & _g_", 1, 2, label="anger"),
]


def test_txt_is_a_line_for_each_turn() -> None:
    assert "".join(txt(fold(talk(TURNS)))) == (
        "[01:01.250 - 1:00:00.000] Anna (joy 70%): Hallo.\n"
        "    in English: Hello.\n"
        "[00:00.001 - 00:00.002] speaker_1 (anger 70%): a | b <i> *c* [d](e) `f` & _g_\n"
    )


def test_markdown_shows_texts_as_they_are() -> None:
    html = MarkdownIt("commonmark").enable("table").render("".join(markdown(fold(talk(TURNS)))))
    assert "<h1>my talk.flac</h1>" in html
    assert "<td>speaker_1</td>" in html
    assert "<td>a | b &lt;i&gt; *c* [d](e) `f` &amp; _g_</td>" in html
    assert "<td>Hallo.<br><em>in English:</em> Hello.</td>" in html


def test_markdown_and_json_hold_the_summary_of_each_speaker() -> None:
    one = {"speaker": "A_ | b", "turns": 3, "speaking_ms": 1_500, "share": 0.75, "interruptions": 2}
    one |= {"emotions": {"fear": {"turns": 1}, "joy": {"turns": 2}, "anger": {"turns": 0}}}
    one |= {"shifts": [{"before": "joy", "after": "fear", "count": 2}]}
    text = one | {"speaker": "Tom", "share": None}
    conversations = fold([created(), *TURNS, closed() | {"summary": [one, text]}])
    html = MarkdownIt("commonmark").enable("table").render("".join(markdown(conversations)))
    cells = re.findall("<td>(.*?)</td>", html[html.index("Speaking time") :])
    assert cells[:6] == ["A_ | b", "3", "00:01.500 (75%)", "joy 2, fear 1", "2", "2"]
    assert cells[6:9] == ["Tom", "3", ""]
    assert json.loads("".join(json_file(conversations)))["summary"] == [one, text]
