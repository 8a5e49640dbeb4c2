"""The same words for the same thing: in the page and its report, the window, the terminal and the report."""

import re

import pytest
from paths import ROOT

from stream_erc.cli import terminal
from stream_erc.protocol.messages import LatencyParts

STAGES = {
    "endpointing": "Waiting for silence",
    "asr": "Speech recognition",
    "features": "Voice",
    "emotion": "Emotion",
    "total": "Total",
}
"""A stage's field on the wire, and its name for a person."""


def script(path: str, start: str) -> dict[str, str]:
    """A table of names in a script, from the words that begin it."""
    text = (ROOT / path).read_text(encoding="utf-8")
    table = text[text.index(start) + len(start) :]
    return dict(re.findall(r'(\w+): "([^"]+)"', table[: table.index("}")]))


def test_the_stages_are_those_of_the_wire() -> None:
    assert list(STAGES) == list(LatencyParts.__struct_fields__)


def test_the_page_has_the_words() -> None:
    found = script("clients/web/latency.js", "STAGES = {")
    assert list(found.items()) == [*STAGES.items(), ("seen", "Seen in the page")]
    assert "STAGES[s.stage]" in (ROOT / "clients/web/report.js").read_text(encoding="utf-8")


def test_the_report_has_the_words() -> None:
    assert script("stream_erc/cli/assets/report.js", "const words = {") == STAGES


def test_the_window_has_the_words() -> None:
    stages = pytest.importorskip("stream_erc_desktop.stages")
    assert stages.STAGES == STAGES


def test_the_terminal_has_the_words() -> None:
    assert {field: name.capitalize() for field, name in terminal.STAGES.items()} | {
        "total": "Total"
    } == STAGES


WINDOW = "clients/desktop/stream_erc_desktop/"


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ("Expressed emotion", ["clients/web/index.html", WINDOW + "page.py"]),
        ("Expressed emotion", ["clients/web/report.js", "stream_erc/cli/assets/report.html"]),
        ("The whole of the conversation", ["clients/web/index.html", WINDOW + "whole.py"]),
        ("The whole of the conversation", ["clients/web/report.js", "stream_erc/cli/assets/report.html"]),
        (
            ">Latency",
            ["clients/web/index.html", "clients/web/report.js", "stream_erc/cli/assets/report.html"],
        ),
        ('"Latency"', [WINDOW + "page.py"]),
        ("p95", ["clients/web/index.html", "clients/web/report.js", WINDOW + "latency.py"]),
        ("p95", ["stream_erc/cli/assets/report.js"]),
        ("of speech, ", ["clients/web/texts.js", WINDOW + "captions.py", "stream_erc/cli/terminal.py"]),
        ("Hold to talk", ["clients/web/controls.js", WINDOW + "controls.py"]),
        ("Finish (Ctrl+Enter)", ["clients/web/controls.js", WINDOW + "controls.py"]),
        ("Save as …", ["clients/web/index.html", WINDOW + "header.py"]),
    ],
)
def test_headings_and_buttons_have_the_same_words(words: str, paths: list[str]) -> None:
    for path in paths:
        assert words in (ROOT / path).read_text(encoding="utf-8"), path
