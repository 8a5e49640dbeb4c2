"""SubRip (SRT) and WebVTT: a cue for each turn that has words.

An SRT cue says ``Name (emotion 87%): text``, as subtitles for the deaf say how something is said. A WebVTT
cue has a voice, ``<v.joy Name>text``, whose class is the emotion, and says it with its probability in the
name of the cue. What a player or a reader would take for markup is written as references. By these forms, and
by the first line of WebVTT, `stream_erc.sources` knows an export, and takes its names and texts as they are.

The files are written here and not by pysubs2 or webvtt-py: both write a text ``a < b`` or ``{a}`` as markup,
and neither writes voices.
"""

import html
import re
from collections.abc import Iterator

from stream_erc.exports.conversations import Conversation, FinalTurn, final_turns, one_line

_NAME = re.compile(r"\w[\w'’&#-]*(?: \w[\w'’&#-]*){0,3}")  # noqa: RUF001
"""A name of up to four words, without punctuation that would end it or make it a sentence."""


def srt(conversation: Conversation) -> Iterator[str]:
    """Yield the SubRip file of a conversation with audio."""
    for number, turn in enumerate(_spoken(conversation), 1):
        times = f"{_time(turn.start_ms, ',')} --> {_time(turn.end_ms, ',')}"
        yield f"{number}\n{times}\n{_srt_text(turn)}\n\n"


def vtt(conversation: Conversation) -> Iterator[str]:
    """Yield the WebVTT file of a conversation with audio."""
    yield "WEBVTT - stream_erc\n\n"
    for number, turn in enumerate(_spoken(conversation), 1):
        times = f"{_time(turn.start_ms, '.')} --> {_time(turn.end_ms, '.')}"
        name = f"{number} {turn.emotion} {turn.confidence:.0%}".replace("-->", "->")
        yield f"{name}\n{times}\n{_voice(turn, _escaped(turn.line))}\n\n"


def _spoken(conversation: Conversation) -> list[FinalTurn]:
    """Return the turns that a cue can hold: those with words."""
    return [turn for turn in final_turns(conversation) if turn.line]


def _time(ms: int | None, point: str) -> str:
    assert ms is not None, "a turn without audio"
    hours, minutes, seconds = ms // 3_600_000, ms // 60_000 % 60, ms // 1000 % 60
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms % 1000:03}"


def _srt_text(turn: FinalTurn) -> str:
    """Return the text with its speaker, before a colon where every reader takes it for a name."""
    text = _srt_escaped(turn.line)
    if not _NAME.fullmatch(turn.speaker) or html.unescape(turn.speaker) != turn.speaker:
        return _voice(turn, text)
    label = one_line(re.sub(r"[():<>{}&\\]", " ", turn.emotion)) or "emotion"
    return f"{turn.speaker} ({label} {turn.confidence:.0%}): {text}"


def _voice(turn: FinalTurn, text: str) -> str:
    """Return a text in the voice of its speaker, with the emotion as its class."""
    style = re.sub(r"[^\w-]", "_", turn.emotion)
    return f"<v.{style} {_escaped(turn.speaker)}>{text}"


def _escaped(text: str) -> str:
    """Return a text for WebVTT."""
    return _unstyled(html.escape(text, quote=False))


def _srt_escaped(text: str) -> str:
    """Return a text for SRT, in which players disagree about references: only where it would be markup."""
    if html.unescape(text) != text:
        text = text.replace("&", "&amp;")
    return _unstyled(re.sub(r"<(?=\S)", "&lt;", text).replace("-->", "--&gt;"))


def _unstyled(text: str) -> str:
    """Replace what SubStation's styles, which many players obey in any subtitle, begin with."""
    text = re.sub(r"\\(?=[Nnh])", "&#92;", text)
    return text.replace("{", "&#123;").replace("}", "&#125;")
