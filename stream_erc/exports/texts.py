"""Text and Markdown, for reading: a line or a table row for each turn."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from stream_erc.exports.conversations import Conversation, FinalTurn, Message, final_turns, one_line


def txt(conversations: Sequence[Conversation]) -> Iterator[str]:
    """Yield a line for each turn: ``[00:01.250 - 00:03.000] Name (joy 87%): text``."""
    for number, conversation in enumerate(conversations):
        if conversation.dialogue is not None:
            yield ("\n" if number else "") + f"== {one_line(conversation.dialogue)}\n"
        for turn in final_turns(conversation):
            when = f"[{_clock(turn.start_ms)} - {_clock(turn.end_ms)}] " if turn.start_ms is not None else ""
            yield f"{when}{turn.speaker} ({_emotion(turn)}): {turn.line}".rstrip() + "\n"
            if translation := one_line(turn.message.get("translation")):
                yield f"    in English: {translation}\n"


def markdown(conversations: Sequence[Conversation]) -> Iterator[str]:
    """Yield a heading, a table of turns and one of speakers for each conversation."""
    for number, conversation in enumerate(conversations):
        name = conversation.dialogue or conversation.source or conversation.id
        yield ("\n" if number else "") + f"# {_literal(one_line(name))}\n\n"
        turns = final_turns(conversation)
        timed = any(turn.start_ms is not None for turn in turns)
        columns = [*(["Time"] if timed else []), "Speaker", "Text", "Emotion"]
        yield f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
        for turn in turns:
            text = _literal(turn.line)
            if translation := one_line(turn.message.get("translation")):
                text += f"<br>*in English:* {_literal(translation)}"
            cells = [_literal(turn.speaker), text, _literal(_emotion(turn))]
            if timed:
                cells.insert(0, _clock(turn.start_ms) if turn.start_ms is not None else "")
            yield f"| {' | '.join(cells)} |\n"
        yield from _whole(conversation.summary)


def _whole(summary: Sequence[Message]) -> Iterator[str]:
    """Yield a table with the whole of the conversation by speaker."""
    if not summary:
        return
    yield "\n| Speaker | Turns | Speaking time | Emotions | Shifts of emotion | Interruptions |\n"
    yield "|---|---|---|---|---|---|\n"
    for one in summary:
        emotions = cast(Mapping[str, Mapping[str, int]], one["emotions"])
        shifts = cast(Sequence[Mapping[str, int]], one["shifts"])
        often = sorted(((label, totals["turns"]) for label, totals in emotions.items()), key=lambda t: -t[1])
        share = cast(float | None, one["share"])
        spoken = "" if share is None else f"{_clock(cast(int, one['speaking_ms']))} ({share:.0%})"
        cells = [_literal(one_line(one["speaker"])), str(one["turns"]), spoken]
        cells.append(_literal(", ".join(f"{label} {count}" for label, count in often if count)))
        cells += [str(sum(shift["count"] for shift in shifts)), str(one["interruptions"])]
        yield f"| {' | '.join(cells)} |\n"


def _emotion(turn: FinalTurn) -> str:
    return f"{turn.emotion} {turn.confidence:.0%}"


def _clock(ms: int | None) -> str:
    """Format a time as ``mm:ss.mmm``, or ``h:mm:ss.mmm`` from one hour on."""
    ms = ms or 0
    hours, minutes, seconds = ms // 3_600_000, ms // 60_000 % 60, ms // 1000 % 60
    return (f"{hours}:" if hours else "") + f"{minutes:02}:{seconds:02}.{ms % 1000:03}"


def _literal(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\`*{}\[\]|~])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
