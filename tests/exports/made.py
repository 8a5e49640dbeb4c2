"""Messages of made conversations, for the tests of exports."""

from collections.abc import Iterable, Mapping, Sequence

LABELS = ("neutral", "joy", "anger")

Message = dict[str, object]


def created(session: str = "session-1", **more: object) -> Message:
    base = {"type": "session.created", "session_id": session, "seq": 0, "model": "m", "asr": "none"}
    return {**base, "labels": list(LABELS), "source": {"name": "my talk.flac", "duration_ms": 60_000}, **more}


def turn(
    number: int,
    speaker: str,
    text: str,
    start: int | None = None,
    end: int | None = None,
    *,
    label: str = "joy",
    **more: object,
) -> Message:
    probabilities = {name: 0.7 if name == label else 0.15 for name in LABELS}
    emotion = {"label": label, "confidence": 0.7, "probabilities": probabilities}
    base: Message = {"type": "turn.final", "session_id": "session-1", "turn": number, "speaker": speaker}
    base |= {"audio_start_ms": start, "audio_end_ms": end, "text": text, "emotion": emotion, "revision": 0}
    return base | more


def renamed(speaker: str, name: str) -> Message:
    return {"type": "speaker.updated", "session_id": "session-1", "speaker": speaker, "name": name}


def closed(audio_ms: int | None = 60_000) -> Message:
    return {"type": "session.closed", "session_id": "session-1", "audio_ms": audio_ms, "turns": 1}


def talk(turns: Iterable[Message]) -> list[Message]:
    return [created(), *turns, closed()]


HARD_NAME = 'A, "B": C'

UNUSUAL: Sequence[Message] = (
    turn(0, "Anna", "Well, hello.", 500, 2_000),
    turn(1, HARD_NAME, 'She said: "no" & left <quickly> --> <b>now</b>', 1_500, 4_000, label="anger"),
    turn(2, "Mary Ann", "=1+1 is {two} \\Now C:\\new", 4_000, 4_000),
    turn(3, "Anna", "- no &lt; yes &copy 5 < 6 > 4", 4_000, 9_000, label="neutral"),
    turn(4, "Anna", "@home +1 😀", 8_000, 10_000),
    turn(5, "דנה", "שלום: עולם", 10_000, 12_345),
    turn(6, "mary ann", "first line\n\n1\n00:00 --> 00:01 second\tline", 12_345, 13_000),
    turn(7, "speaker_1", "Bob: he said so. 12", 13_000, 13_001),
    turn(8, "NOTE", "NOTE | *this* [is](it) `x` #", 14_000, 15_000),
    turn(9, HARD_NAME, "- no", 15_000, 16_000),
    turn(10, "-", "", 16_000, 17_000),
)
"""Turns whose names, words and times are hard for one format or another."""


def expected(messages: Iterable[Mapping[str, object]], *, words: bool = True) -> list[tuple[object, ...]]:
    """The (speaker, text, start, end) that come back: text on one line, spans of at least 1 ms."""
    turns = [m for m in messages if "emotion" in m]
    return sorted(
        (m["speaker"], " ".join(str(m["text"]).split()) or None, m["audio_start_ms"], _end(m))
        for m in turns
        if m["text"] or not words
    )


def _end(message: Mapping[str, object]) -> int:
    start, end = message["audio_start_ms"], message["audio_end_ms"]
    assert isinstance(start, int) and isinstance(end, int)
    return max(end, start + 1)
