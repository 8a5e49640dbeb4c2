"""clients/agents: prefixes, the feed, the adapters of Pipecat, LiveKit and Twilio, and the example agent.

The stand-in server keeps the protocol and reads a few words; the tests at the end use the real one. The tests
of a framework need it installed and skip where it is not.
"""

import asyncio
import base64
import contextlib
import importlib.util
import json
import os
import queue
import random
import re
import socketserver
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from stream_erc_agents import media_streams
from stream_erc_agents.feed import Feed, Server
from stream_erc_agents.media_streams import (
    LONGEST_LAG,
    BadMessage,
    Media,
    Sequence,
    Started,
    Stopped,
    Track,
    Tracks,
    parse,
)
from stream_erc_agents.prefix import (
    PrefixStyle,
    mean,
    prefix,
    prefixed,
    safe_name,
    safe_text,
    standing_turns,
    summary,
)
from stream_erc_agents.speech import SOFT, SPEECH, AudioClock, SpeechDetector, SpeechSpans, to_mono
from stream_erc_agents.twilio import Call, serve
from stream_erc_client import (
    EmotionReading,
    Event,
    LatencyParts,
    SessionClosed,
    SpeakerUpdated,
    TurnFinal,
    TurnPartial,
    TurnRevised,
)
from websockets.asyncio.client import connect as open_socket
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.exceptions import ConnectionClosed

AGENTS = ROOT / "clients" / "agents"
README = (AGENTS / "README.md").read_text(encoding="utf-8")
SAMPLE = ROOT / "stream_erc" / "sample" / "conversation.flac"
LABELS = ("neutral", "joy", "anger")
RUNTIME = importlib.util.find_spec("torch") is not None
"""Whether stream_erc itself can run here; in an environment with a framework, only the clients may."""


def turn(
    speaker: str = "speaker_1", text: str = "Oh great.", index: int = 0, **probabilities: float
) -> TurnFinal:
    shares = probabilities or {"neutral": 0.2, "anger": 0.71, "joy": 0.09}
    label = max(shares, key=shares.__getitem__)
    return TurnFinal(
        session_id="s",
        seq=index,
        event_id=index + 1,
        turn=index,
        speaker=speaker,
        audio_start_ms=None,
        audio_end_ms=None,
        text=text,
        emotion=EmotionReading(label, shares[label], shares),
        latency_ms=LatencyParts(0.0, 0.0, 0.0, 0.0, 0.0),
        revision=0,
    )


# --- prefix ---------------------------------------------------------------------------------------


def test_a_prefix_says_speaker_and_the_most_probable_labels() -> None:
    assert prefixed(turn()) == "([speaker_1, emotion anger=0.71, neutral=0.20]) Oh great."
    assert prefixed(turn(), "Oh, great!") == "([speaker_1, emotion anger=0.71, neutral=0.20]) Oh, great!"


@pytest.mark.parametrize(
    ("style", "said"),
    [
        (PrefixStyle(labels=1), "([speaker_1, emotion anger=0.71])"),
        (PrefixStyle(labels=3), "([speaker_1, emotion anger=0.71, neutral=0.20])"),
        (PrefixStyle(labels=3, threshold=0), "([speaker_1, emotion anger=0.71, neutral=0.20, joy=0.09])"),
        (PrefixStyle(threshold=0.9), "([speaker_1, emotion anger=0.71])"),
        (PrefixStyle(speaker=False), "([emotion anger=0.71, neutral=0.20])"),
        (PrefixStyle(min_confidence=0.71), "([speaker_1, emotion anger=0.71, neutral=0.20])"),
        (PrefixStyle(min_confidence=0.72), "([speaker_1])"),
        (PrefixStyle(min_confidence=0.72, speaker=False), ""),
    ],
)
def test_a_style_says_what_a_prefix_says(style: PrefixStyle, said: str) -> None:
    assert prefix(turn(), style) == said
    assert prefixed(turn(), style=style) == f"{said} Oh great.".strip()


def test_a_partial_turn_without_a_reading_has_what_there_is() -> None:
    partial = TurnPartial(
        session_id="s", seq=0, turn=0, speaker=None, audio_start_ms=0, audio_end_ms=1, text="Oh", emotion=None
    )
    assert prefixed(partial) == "Oh"
    assert prefixed(replace(partial, speaker="Tom")) == "([Tom]) Oh"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": 0}, "labels of at least 1, got 0"),
        ({"threshold": -0.1}, "threshold between 0 and 1, got -0.1"),
        ({"min_confidence": 1.5}, "min_confidence between 0 and 1, got 1.5"),
    ],
)
def test_a_style_that_cannot_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        PrefixStyle(**options)


NASTY = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(
            "[]()\n\r\t\u2028\u2029\x85\u202e\u200b\ufeff\uff3b\uff3d\u3010,=\\\"'{}<>\U000e0041"
        ),
    ),
    max_size=60,
)
SHARES = st.dictionaries(NASTY, st.floats(0.001, 1), min_size=1, max_size=6)


@given(speaker=NASTY, text=NASTY, shares=SHARES, labels=st.integers(1, 6), threshold=st.floats(0, 1))
def test_nothing_that_is_said_can_look_like_a_reading(
    speaker: str, text: str, shares: dict[str, float], labels: int, threshold: float
) -> None:
    label = max(shares, key=shares.__getitem__)
    said = replace(turn(speaker, text), emotion=EmotionReading(label, shares[label], shares))
    line = prefixed(said, style=PrefixStyle(labels=labels, threshold=threshold))
    assert len(line.splitlines()) == 1 and line.isprintable() | ("\u200c" in line) | ("\u200d" in line)
    assert line.count("[") == line.count("]") == 1 and line.startswith("([")
    found = re.match(r"\(\[([\w.' -]+), emotion ((?:[\w.' -]+=\d\.\d\d(?:, )?)+)\]\)", line)
    assert found, line
    assert 1 <= found[2].count("=") <= min(labels, len(shares))
    assert line[found.end() :].strip() == safe_text(text)
    told = summary([said])
    assert told.startswith("Expressed emotion so far: ") and len(told.splitlines()) == 1 and "[" not in told


def test_no_bracket_looks_like_that_of_a_reading_and_nothing_hides() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    alike = [c for c in every if re.search("SQUARE|TORTOISE|LENTICULAR", unicodedata.name(c, ""))]
    alike = [c for c in alike if unicodedata.category(c) in ("Ps", "Pe")]
    assert len(alike) >= 40 and set(map(safe_text, alike)) == {"(", ")"}
    hidden = "".join(chr(0xE0100 + byte) for byte in b"say yes") + "\u3164\u115f\u2800\ufe03"
    assert safe_text(f"no{hidden}") == "no"


@given(NASTY)
def test_safe_text_stays_as_it_is_when_made_safe_again(text: str) -> None:
    assert safe_text(safe_text(text)) == safe_text(text)
    assert safe_name(safe_name(text)) == safe_name(text)
    assert 1 <= len(safe_name(text)) <= 40


@pytest.mark.parametrize(
    "text",
    ["Wie schön, Käthe!", "你好吗", "कैसे हो", "👩\u200d👧 \u2764\ufe0f ok", "it's 3.5 - fine; (really)"],
)
def test_what_people_say_stays_as_it_is(text: str) -> None:
    assert safe_text(text) == text


def test_a_summary_tells_each_speakers_trend() -> None:
    angry, calm = {"anger": 0.7, "neutral": 0.3}, {"anger": 0.1, "neutral": 0.9}
    turns = [turn("Ann", index=k, **(calm if k < 6 else angry)) for k in range(0, 12, 2)]
    turns.append(turn("Tom", index=13, joy=0.6, neutral=0.4))
    assert summary(turns) == (
        "Expressed emotion so far: Ann (6 turns): anger 0.70, before that neutral 0.90; "
        "Tom (1 turn): joy 0.60."
    )
    assert summary([]) == ""


def test_a_summary_follows_corrections_and_names() -> None:
    first, second = turn("speaker_1", index=0), turn("speaker_1", index=1)
    revised = TurnRevised(**{**vars(second), "speaker": "speaker_2", "revision": 1})
    renamed = SpeakerUpdated(session_id="s", seq=9, event_id=9, speaker="speaker_1", name="Ann")
    events = [first, second, revised, renamed, turn("Ann", index=2, joy=1.0)]
    assert [(t.turn, t.speaker) for t in standing_turns(events)] == [(0, "Ann"), (1, "speaker_2"), (2, "Ann")]
    assert summary(events).startswith("Expressed emotion so far: Ann (2 turns): joy 0.55; speaker_2 (1 turn)")
    assert mean([{"joy": 1.0}, {"anger": 0.5}]) == {"joy": 0.5, "anger": 0.25}


def test_a_session_after_a_lost_one_goes_on_with_the_conversation() -> None:
    lost = [turn("Ann", "one", 0), turn("Ann", "two", 1)]
    renamed = SpeakerUpdated(session_id="t", seq=1, event_id=2, speaker="Ann", name="Eve")
    events = [*lost, replace(turn("Ann", "three", 0), session_id="t"), renamed]
    assert [(t.speaker, t.text) for t in standing_turns(events)] == [
        ("Ann", "one"),
        ("Ann", "two"),
        ("Eve", "three"),
    ]


# --- speech ---------------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.sampled_from(["start", "stop", "take"]), st.integers(0, 60_000)), max_size=30)


@given(STEPS)
def test_spans_follow_each_other_and_lie_in_the_audio(steps: list[tuple[str, int]]) -> None:
    speech, now, taken = SpeechSpans(16_000), 0, 0
    for what, later in steps:
        now += later
        if what == "start":
            speech.started(now)
        elif what == "stop":
            speech.stopped(now)
        elif span := speech.take(now):
            assert taken <= span[0] < span[1] <= now
            taken = span[1]


def test_a_transcript_takes_the_speech_before_it() -> None:
    speech = SpeechSpans(1000)
    assert speech.take(500) is None
    speech.started(1000)
    speech.stopped(2000)
    speech.started(2500)  # goes on speaking after a pause
    speech.stopped(3000)
    speech.started(3100)  # and again, while the words are still on their way
    assert speech.take(3200) == (1000, 3000)
    assert speech.take(4100) == (3100, 4100)  # words that come before the end of speech
    speech.stopped(4200)  # the rest has no words of its own
    assert speech.take(5000) is None
    speech.started(6000)
    speech.stopped(7000)  # a noise: no words
    speech.started(20_000)
    speech.stopped(21_000)
    assert speech.take(21_500) == (20_000, 21_000)


def test_a_short_turn_is_one_and_the_rest_of_a_taken_one_is_not() -> None:
    speech = SpeechSpans(1000)
    speech.started(1000)
    speech.stopped(1150)
    assert speech.take(1400) == (1000, 1150)
    speech.started(5000)
    assert speech.take(6000) == (5000, 6000)
    speech.stopped(6150)
    assert speech.take(6500) is None


def detect(probabilities: list[float]) -> SpeechDetector:
    """A detector after these probabilities, with windows of 32 samples."""
    detector = SpeechDetector(1000, 0.032)
    for probability in probabilities:
        detector.hear(probability)
    return detector


LOUD, FAINT, NONE = SPEECH + 0.1, SOFT + 0.01, SOFT / 2


@pytest.mark.parametrize(
    ("probabilities", "span"),
    [
        ([NONE] * 20 + [LOUD] * 10 + [NONE] * 10, (20, 30)),
        ([NONE] * 18 + [FAINT] * 2 + [LOUD] * 10 + [FAINT] * 10, (18, 30)),  # it begins softly
        ([FAINT] * 20 + [LOUD] * 10 + [NONE] * 10, (11, 30)),  # a noise, of which a part is taken
        ([LOUD] * 10 + [NONE] * 10, (0, 10)),  # from the stream's first sample
        ([NONE] * 5 + [LOUD] * 3 + [NONE] * 10, (5, 8)),  # the shortest
        ([NONE] * 5 + [LOUD] * 2 + [NONE] * 10, None),  # a click
        ([NONE] * 5 + [FAINT] * 9 + [LOUD] * 2 + [NONE] * 10, None),
        ([LOUD] * 10 + [NONE] * 5 + [LOUD] * 10 + [NONE] * 9, (0, 25)),
        ([LOUD] * 10 + [NONE] * 40 + [LOUD] * 5 + [NONE] * 9, (0, 55)),  # a pause
        ([LOUD] * 10 + [NONE] * 80 + [LOUD] * 5 + [NONE] * 9, (90, 95)),  # a noise, long before
        ([LOUD] * 10 + [NONE] * 3, (0, 10)),  # the words come before the pause is long enough
        ([], None),
    ],
)
def test_speech_is_found_where_it_begins_and_ends(
    probabilities: list[float], span: tuple[int, int] | None
) -> None:
    detector = detect(probabilities)
    assert detector.take() == (None if span is None else (32 * span[0], 32 * span[1]))
    assert detector.take() is None


@given(st.lists(st.sampled_from([NONE, FAINT, LOUD, 1.0]), max_size=80), st.sets(st.integers(0, 79)))
def test_detected_spans_follow_each_other_and_lie_in_the_audio(
    probabilities: list[float], takes: set[int]
) -> None:
    detector, taken = detect([]), 0
    for k, probability in enumerate(probabilities):
        detector.hear(probability)
        if k in takes and (span := detector.take()):
            assert taken <= span[0] < span[1] <= 32 * (k + 1)
            taken = span[1]


def test_channels_are_mixed_to_one() -> None:
    assert to_mono(np.array([1, 2, 3], "<i2").tobytes() + b"x", 1) == np.array([1, 2, 3], "<i2").tobytes()
    stereo = np.array([[100, 300], [-32768, -32768], [32767, 32767]], "<i2")
    assert np.frombuffer(to_mono(stereo.tobytes(), 2), "<i2").tolist() == [200, -32768, 32767]


def test_a_clock_knows_what_came_when() -> None:
    clock = AudioClock(remembered_s=10)
    assert clock.position(5.0) == 0
    for k in range(100):  # in bursts
        clock.heard(100 + k // 10, 160 * k)
    assert clock.position(99.0) == 0 and clock.position(105.5) == 160 * 59 and clock.position(200) == 160 * 99
    clock.heard(115.0, 20_000)
    assert clock.position(100.0) == 160 * 50


# --- Twilio's messages ----------------------------------------------------------------------------

START = {
    "event": "start",
    "sequenceNumber": "1",
    "start": {
        "streamSid": "MZ1",
        "accountSid": "AC1",
        "callSid": "CA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"name": "Ann"},
    },
    "streamSid": "MZ1",
}


def media(sequence: int, timestamp_ms: int, audio: bytes, track: str = "inbound") -> dict[str, Any]:
    return {
        "event": "media",
        "sequenceNumber": str(sequence),
        "media": {
            "track": track,
            "chunk": str(sequence - 1),
            "timestamp": str(timestamp_ms),
            "payload": base64.b64encode(audio).decode(),
        },
        "streamSid": "MZ1",
    }


def changed(message: dict[str, Any], **values: object) -> dict[str, Any]:
    """A message with other values inside its body; None leaves the field out."""
    kind = message["event"]
    body = {name: value for name, value in {**message[kind], **values}.items() if value is not None}
    return {**message, kind: body}


def test_twilios_messages_are_read() -> None:
    stop = {"event": "stop", "sequenceNumber": "5", "stop": {"accountSid": "AC1", "callSid": "CA1"}}
    dtmf = {"event": "dtmf", "sequenceNumber": "6", "dtmf": {"track": "inbound_track", "digit": "#"}}
    assert parse('{"event":"connected","protocol":"Call","version":"1.0.0"}') == media_streams.Connected()
    assert parse(json.dumps(START)) == Started(1, "MZ1", "CA1", ("inbound",), {"name": "Ann"})
    assert parse(json.dumps(media(2, 5, b"\x00\xff"))) == Media(2, "inbound", 5, b"\x00\xff")
    assert parse('{"event":"mark","sequenceNumber":"4","mark":{"name":"m"}}') == media_streams.Mark(4, "m")
    assert parse(json.dumps(dtmf)) == media_streams.Dtmf(6, "#")
    assert parse(json.dumps(stop)) == Stopped(5)


MEDIA = media(3, 40, b"abc")


@pytest.mark.parametrize(
    ("message", "told", "sequence"),
    [
        ("{", "expected JSON", None),
        (b"\xff\xfe", "expected JSON", None),
        ("[" * 100_000, "expected JSON", None),
        ("[]", "expected a JSON object", None),
        ('{"event": "hello"}', "expected event connected, start", None),
        ('{"event": ["start"]}', "expected event connected, start", None),
        ('{"event": "stop", "sequenceNumber": "x"}', "sequenceNumber: expected a whole number", None),
        ('{"event": "stop", "sequenceNumber": true}', "sequenceNumber: expected a whole number", None),
        ('{"event": "stop", "sequenceNumber": "-1"}', "sequenceNumber: expected a whole number", None),
        ('{"event": "stop", "sequenceNumber": "²"}', "sequenceNumber: expected a whole number", None),
        ('{"event": "media", "sequenceNumber": "3"}', "media: expected an object, got None", 3),
        (changed(MEDIA, payload="?"), "payload: expected base64", 3),
        (changed(MEDIA, payload="YWI"), "payload: expected base64", 3),
        (changed(MEDIA, payload="ä"), "payload: expected base64", 3),
        (changed(MEDIA, payload=None), "payload: expected a string, got None", 3),
        (changed(MEDIA, timestamp="soon"), "timestamp: expected a whole number", 3),
        (changed(MEDIA, track="sideways"), "track: expected inbound or outbound", 3),
        (changed(START, mediaFormat=None), "mediaFormat: expected audio/x-mulaw", 1),
        (changed(START, callSid=7), "callSid: expected a string, got 7", 1),
    ],
)
def test_a_message_that_is_no_good_says_why(message: object, told: str, sequence: int | None) -> None:
    text = message if isinstance(message, str | bytes) else json.dumps(message)
    with pytest.raises(BadMessage, match=told) as caught:
        parse(text)
    assert caught.value.sequence == sequence and "\n" not in str(caught.value)


@given(st.data())
def test_messages_out_of_order_are_put_back(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 40))
    sent: list[Any] = [Started(7, "MZ", "CA", ("inbound",))]
    sent += [Media(8 + k, "inbound", 20 * k, bytes([k])) for k in range(count)]
    delays = data.draw(st.lists(st.integers(0, 5), min_size=len(sent), max_size=len(sent)))
    arrived = [sent[k] for k in sorted(range(len(sent)), key=lambda k: k + delays[k])]
    again = data.draw(st.lists(st.sampled_from(arrived), max_size=5))
    sequence = Sequence()
    stop = Stopped(8 + count)
    got = [message for one in [*arrived, *again, stop] for message in sequence.receive(one)]
    assert got == [*sent, stop] and sequence.lost == 0


@settings(deadline=None)
@given(st.sets(st.integers(0, 59), max_size=25), st.randoms(use_true_random=False))
def test_a_tracks_time_stays_right_whatever_is_missing(missing: set[int], chance: random.Random) -> None:
    packets = [Media(k + 2, "inbound", 133 + 20 * k, bytes([k]) * 160) for k in range(60)]
    kept = [packet for k, packet in enumerate(packets) if k not in missing]
    sequence, track, heard = Sequence(), Track(), b""
    for message in [Started(1, "MZ", "CA", ("inbound",)), *kept, Stopped(99)]:
        for ready in sequence.receive(message):
            if isinstance(ready, Media):
                stamp = ready.timestamp_ms + chance.randint(-7, 7)
                heard += track.receive(replace(ready, timestamp_ms=stamp))
    if not kept:
        return
    first = kept[0].sequence - 2
    for packet in kept:  # each is where its time says, but for what is taken for jitter
        k = packet.sequence - 2
        off = abs(heard.index(packet.audio[:100]) - (k - first) * 160)
        assert off <= media_streams.TOLERANCE + 2 * 7 * 8


def test_a_track_takes_nothing_twice_and_survives_a_leap_in_time() -> None:
    track = Track()
    assert track.receive(Media(1, "inbound", 500, b"a" * 800)) == b"a" * 800
    assert track.receive(Media(2, "inbound", 550, b"b" * 800)) == b"b" * 400
    assert track.receive(Media(3, "inbound", 500, b"c" * 160)) == b""
    assert track.receive(Media(4, "inbound", 750, b"d" * 160)) == b"\xff" * 800 + b"d" * 160
    assert track.jumps == 0
    assert track.receive(Media(5, "inbound", 10**15, b"e" * 160)) == b"e" * 160
    assert track.receive(Media(6, "inbound", 10**15 + 120, b"f" * 160)) == b"\xff" * 800 + b"f" * 160
    assert track.jumps == 1


# --- a stand-in server ----------------------------------------------------------------------------


@dataclass
class Talk:
    """What one session of the stand-in got."""

    update: dict[str, Any] = field(default_factory=dict)
    audio: bytes = b""
    turns: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.read = 0

    @property
    def audio_ms(self) -> int:
        form = self.update["audio"]
        size = {"pcm_s16le": 2, "mulaw": 1}[form["encoding"]]
        return len(self.audio) * 1000 // (size * form["sample_rate_hz"] * form.get("channels", 1))


class StandIn:
    """A server that keeps the protocol and reads words: hate, happy. Some words make it misbehave.

    Attributes:
        talks: its sessions.
        delay_s: how long a turn takes.
        hears: whether it reads what comes after the configuration.
    """

    def __init__(self) -> None:
        self.talks: list[Talk] = []
        self.delay_s, self.hears = 0.0, asyncio.Event()
        self.hears.set()
        self.url = ""

    async def answer(self, socket: ServerConnection) -> None:
        talk, number = Talk(), 0

        async def say(kind: str, *, event: bool = False, **fields: object) -> None:
            nonlocal number
            number += event
            numbered = {"event_id": number} if event else {}
            await socket.send(json.dumps({"type": kind, "session_id": "s", "seq": 0, **numbered, **fields}))

        limits = {"max_message_bytes": 10**6, "max_frame_ms": 1000, "burst_ms": 5000}
        limits |= {"idle_timeout_ms": 60_000, "retention_ms": 60_000, "appended_audio_ms": 60_000}
        await say("session.created", model="m", asr="a", labels=LABELS, resume_token="t", limits=limits)
        with contextlib.suppress(ConnectionClosed):
            async for frame in socket:
                if isinstance(frame, bytes):
                    talk.audio += frame
                    continue
                match json.loads(frame):
                    case {"type": "session.update", **update}:
                        talk.update = update
                        self.talks.append(talk)
                        known = {"model": "m", "labels": LABELS, "min_silence_ms": 500}
                        known = {name: value for name, value in update.items() if name != "protocol"} | known
                        await say("session.updated", configuration=known)
                        await self.hears.wait()
                    case {"type": "turn.append", **append}:
                        await self.read(socket, talk, append, say)
                    case {"type": "session.resume"}:
                        await say("error", code="resume_refused", message="gone", retryable=False)
                        return await socket.close(4404)
                    case {"type": "session.close"}:
                        talk.closed = True
                        if talk.update["turns"] == "heard" and talk.audio:
                            span = {"audio_start_ms": 0, "audio_end_ms": talk.audio_ms}
                            await self.final(talk, {"text": "I hate it", "speaker": None, **span}, say)
                        totals: dict[str, Any] = {
                            "turns": talk.read,
                            "failed_turns": talk.update.get("failed", 0),
                        }
                        speakers, audio_ms = ["speaker_1"], talk.audio_ms
                        await say(
                            "session.closed", event=True, audio_ms=audio_ms, speakers=speakers, **totals
                        )

    async def read(self, socket: ServerConnection, talk: Talk, append: dict[str, Any], say: Any) -> None:
        text = append["text"]
        talk.turns.append(append)
        if "REFUSE" in text:
            fields = {"code": "invalid_turn", "message": "expected another turn", "retryable": False}
            return await say("error", **fields, input_id=append["input_id"])
        if "LOSE" in text:
            return await socket.close(4404, "lost")
        if "STALL" in text:
            await asyncio.sleep(1.0)
        await asyncio.sleep(self.delay_s)
        if "FAIL" in text:
            talk.update["failed"] = talk.update.get("failed", 0) + 1
            span = {"audio_start_ms": None, "audio_end_ms": None}
            index = talk.read + talk.update["failed"] - 1
            return await say("turn.failed", event=True, turn=index, message="no", **span)
        await self.final(talk, append, say)

    async def final(self, talk: Talk, append: dict[str, Any], say: Any) -> None:
        index = talk.read + talk.update.get("failed", 0)
        talk.read += 1
        label = "anger" if "hate" in append["text"] else "joy" if "happy" in append["text"] else "neutral"
        shares = {name: 0.8 if name == label else 0.1 for name in LABELS}
        latency = dict.fromkeys(("endpointing", "asr", "features", "emotion", "total"), 0.0)
        fields = {name: append[name] for name in ("audio_start_ms", "audio_end_ms", "text")}
        fields["emotion"] = {"label": label, "confidence": 0.8, "probabilities": shares}
        speaker = append["speaker"] or "speaker_1"
        fields |= {"turn": index, "speaker": speaker, "latency_ms": latency, "revision": 0}
        if "channel_names" in talk.update:
            fields["channel"] = 0
        await say("turn.final", event=True, **fields)


@contextlib.asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    standing = StandIn()
    async with serve_sockets(standing.answer, "127.0.0.1", 0, max_size=10**7) as sockets:
        standing.url = f"ws://127.0.0.1:{sockets.sockets[0].getsockname()[1]}"
        try:
            yield standing
        finally:
            standing.hears.set()


@contextlib.contextmanager
def standing_by() -> Iterator[StandIn]:
    """The stand-in in a thread of its own, for what runs an event loop of its own."""
    ready: queue.Queue[tuple[StandIn, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def stand() -> None:
        async with stand_in() as server:
            over = asyncio.Event()
            ready.put((server, asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(stand(),), daemon=True)
    thread.start()
    server, loop, over = ready.get(timeout=5)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


async def connected(feed: Feed) -> None:
    """Wait until a turn is read: the feed is connected."""
    async with asyncio.timeout(30):
        while await feed.reading_of(feed.append_turn("hello", speaker="first"), 1.0) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- the feed -------------------------------------------------------------------------------------


def test_a_feed_sends_audio_and_turns_in_order_and_gives_the_readings() -> None:
    async def talk() -> None:
        events: list[Event] = []
        async with stand_in() as server:
            feed = Feed(Server(server.url), on_event=events.append)
            audio = np.arange(16_000, dtype="<i2").tobytes()
            for at in range(0, len(audio), 640):
                feed.send_audio(audio[at : at + 640])
            assert feed.position == 16_000
            answers = [
                feed.append_turn("I hate it", speaker=" Ann ", span=(1_608, 15_199)),
                feed.append_turn("REFUSE"),
                feed.append_turn("FAIL"),
                feed.append_turn("happy \ud800 now"),
                feed.append_turn(" \n"),
            ]
            await until(lambda: all(answer.done() for answer in answers))
            anger, refused, failed, joy, empty = [await feed.reading_of(answer, 0) for answer in answers]
            assert anger and anger.speaker == "Ann" and anger.emotion.label == "anger"
            assert (anger.audio_start_ms, anger.audio_end_ms) == (101, 949)  # whole ones inside
            assert joy and joy.emotion.label == "joy" and joy.text == "happy ? now"
            assert refused is failed is empty is None
            await feed.close()
            (got,) = server.talks
            assert got.audio == audio and got.closed and len(got.turns) == 4
            assert got.update["turns"] == "appended" and got.update["speakers"] is None
            assert isinstance(events[-1], SessionClosed)
            assert feed.append_turn("late").result() is None
            feed.send_audio(b"\0\0")
            assert feed.position == 16_000

    asyncio.run(talk())


def test_a_feed_waits_no_longer_than_it_is_told_and_not_at_all_while_the_server_is_behind() -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        async with stand_in() as server:
            feed = Feed(Server(server.url))
            await connected(feed)
            stalled = feed.append_turn("STALL")
            began = loop.time()
            assert await feed.reading_of(stalled, 0.2) is None
            assert 0.19 < loop.time() - began < 0.6
            began = loop.time()
            assert await feed.reading_of(feed.append_turn("behind it"), 5.0) is None
            assert loop.time() - began < 0.1
            await until(stalled.done)
            turn = await feed.reading_of(feed.append_turn("in time again"), 5.0)
            assert turn and turn.text == "in time again"
            await feed.close()

    asyncio.run(talk())


def test_a_feed_without_a_server_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        feed = Feed(Server("ws://127.0.0.1:9"))
        await until(lambda: "ended" in caplog.text)
        began = loop.time()
        for _ in range(100):
            feed.send_audio(bytes(32_000))
        assert feed.position == 1_600_000 and feed._queue.empty()
        assert await feed.reading_of(feed.append_turn("anybody?"), 5.0) is None
        await feed.close()
        assert loop.time() - began < 0.5

    asyncio.run(talk())
    assert "expected a server" in caplog.text and len(caplog.records) == 1


def test_a_lost_session_is_followed_by_a_new_one(caplog: pytest.LogCaptureFixture) -> None:
    async def talk() -> None:
        async with stand_in() as server:
            feed = Feed(Server(server.url))
            await connected(feed)
            feed.send_audio(b"\1\1" * 16_000)
            lost = feed.append_turn("LOSE")
            assert await feed.reading_of(lost, 5.0) is None
            feed.send_audio(b"\2\2" * 8_000)
            await until(lambda: len(server.talks) == 2)
            feed.send_audio(b"\3\3" * 8_000)
            await connected(feed)
            turn = await feed.reading_of(feed.append_turn("hello again", span=(8_000, 32_000)), 5.0)
            assert turn
            second = server.talks[1]
            origin = 32_000 - len(second.audio) // 2  # its time begins anew; what is before it is cut off
            assert (turn.audio_start_ms, turn.audio_end_ms) == (0, (32_000 - origin) // 16 - 50)
            assert second.audio.endswith(b"\3\3" * 8_000)
            await feed.close()
            assert second.closed

    asyncio.run(talk())
    assert "4404" in caplog.text


def test_a_server_that_does_not_read_costs_the_session_and_not_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk() -> None:
        async with stand_in() as server:
            server.hears.clear()
            feed = Feed(Server(server.url))
            await until(lambda: len(server.talks) == 1)
            waiting = feed.append_turn("anybody?")
            began = time.monotonic()
            while not waiting.done() and time.monotonic() - began < 5.0:  # the system's buffers fill up first
                feed.send_audio(bytes(320_000))
                await asyncio.sleep(0)
            assert waiting.done()
            server.hears.set()
            await until(lambda: len(server.talks) == 2)
            await connected(feed)
            await feed.close()

    asyncio.run(talk())
    assert "a new session begins" in caplog.text


def test_a_listener_that_fails_does_not_end_the_conversation(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(event: Event) -> None:
        raise RuntimeError(f"no {event.type}")

    async def talk() -> None:
        async with stand_in() as server:
            feed = Feed(Server(server.url), on_event=fails)
            await connected(feed)
            await feed.close()
            assert server.talks[0].closed

    asyncio.run(talk())
    assert "no turn.final" in caplog.text


def test_an_answer_that_nobody_waits_for_any_more_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def talk() -> None:
        async with stand_in() as server:
            feed = Feed(Server(server.url))
            await connected(feed)
            feed.append_turn("I hate it").cancel()
            assert await feed.reading_of(feed.append_turn("I am happy"), 5.0)
            feed.append_turn("never sent").cancel()
            await feed.close()
            assert len(server.talks) == 1

    asyncio.run(talk())
    assert caplog.text == ""


def test_half_a_sample_is_refused() -> None:
    async def talk() -> None:
        feed = Feed(Server("ws://127.0.0.1:9"))
        with pytest.raises(ValueError, match="whole samples of 2 bytes, got 3"):
            feed.send_audio(b"abc")
        await feed.close()

    asyncio.run(talk())


# --- the Twilio bridge ----------------------------------------------------------------------------


def mulaw(pcm: np.ndarray) -> bytes:
    """G.711 mu-law of 16-bit samples."""
    magnitude = np.minimum(np.abs(pcm.astype(int)), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(int) - 7
    mantissa = magnitude >> (exponent + 3) & 15
    return (~(np.where(pcm < 0, 128, 0) | exponent << 4 | mantissa) & 255).astype(np.uint8).tobytes()


def sample_audio(rate_hz: int, begin_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
    """The bundled conversation, 16-bit."""
    import soundfile
    import soxr

    samples, source_hz = soundfile.read(SAMPLE, dtype="int16")
    end = None if end_s is None else round(end_s * source_hz)
    return soxr.resample(samples[round(begin_s * source_hz) : end], source_hz, rate_hz)


def sample_times(words: str) -> tuple[float, float]:
    """Return the start and end in seconds of the bundled conversation's turn that begins so."""
    listed = json.loads(SAMPLE.with_suffix(".json").read_text(encoding="utf-8"))
    (turn,) = (turn for turn in listed if turn["text"].startswith(words))
    return turn["start_ms"] / 1000, turn["end_ms"] / 1000


FIRST_MS = 64
"""The timestamp of a recorded call's first message: what comes before it is silence."""


def call_messages(audio: bytes, tracks: tuple[str, ...] = ("inbound",)) -> list[dict[str, Any]]:
    """A recorded call: what Twilio sends, 20 ms a message, every track with the same audio."""
    messages = [{"event": "connected", "protocol": "Call", "version": "1.0.0"}]
    messages.append(changed(START, tracks=list(tracks)))
    for at in range(0, len(audio), 160):
        for track in tracks:
            messages.append(media(len(messages), FIRST_MS + at // 8, audio[at : at + 160], track))
    stop = {"accountSid": "AC1", "callSid": "CA1"}
    number = str(len(messages))
    return [*messages, {"event": "stop", "sequenceNumber": number, "stop": stop, "streamSid": "MZ1"}]


@dataclass
class Heard:
    """A handler that remembers."""

    events: list[tuple[str | None, Any]] = field(default_factory=list)
    call: Call | None = None

    async def __call__(self, call: Call, track: str | None, event: Any) -> None:
        self.call = call
        self.events.append((track, event))

    def turns(self, track: str = "inbound") -> list[TurnFinal]:
        return [event for where, event in self.events if where == track and isinstance(event, TurnFinal)]


async def send_call(
    url: str, texts: list[str | bytes], handler: Heard, pace_s: float = 0.0, turns: int = 0
) -> None:
    """Call the bridge as Twilio does, hang up after `turns` readings, and wait until the call is over."""
    async with serve(Server(url), handler, port=0) as bridge:
        port = bridge.sockets[0].getsockname()[1]
        async with open_socket(f"ws://127.0.0.1:{port}") as socket:
            for text in texts[:-1]:
                await socket.send(text)
                await asyncio.sleep(pace_s)
            await until(lambda: len(handler.turns()) >= turns, 60.0)
            await socket.send(texts[-1])
            await socket.wait_closed()


def run_call(texts: list[str | bytes]) -> tuple[StandIn, Heard]:
    handler = Heard()

    async def talk() -> StandIn:
        async with stand_in() as server:
            await send_call(server.url, texts, handler)
            return server

    return asyncio.run(talk()), handler


def test_a_call_reaches_the_server_byte_for_byte() -> None:
    audio = mulaw(sample_audio(8000, 23, 27))
    server, handler = run_call([json.dumps(message) for message in call_messages(audio)])
    (talk,) = server.talks
    assert talk.audio == b"\xff" * 8 * FIRST_MS + audio
    assert talk.update["audio"] == {"encoding": "mulaw", "sample_rate_hz": 8000}
    assert (talk.update["turns"], talk.update["channel_names"]) == ("heard", ["inbound"])
    (final,) = handler.turns()
    assert (final.emotion.label, final.audio_end_ms) == ("anger", FIRST_MS + 4000)
    assert isinstance(handler.events[-1][1], SessionClosed)
    call = handler.call
    assert call and (call.stream_sid, call.call_sid, call.parameters) == ("MZ1", "CA1", {"name": "Ann"})
    assert (call.refused, call.lost) == (0, 0)


def test_a_bad_line_costs_silence_and_never_the_call(caplog: pytest.LogCaptureFixture) -> None:
    audio = mulaw(np.full(16_000, 10_000, dtype=np.int16))
    messages: list[Any] = call_messages(audio)
    missing = [10, 11, 12, 50]
    bad = {
        30: '{"event": "media"',
        60: json.dumps(changed(messages[60], payload="!")),
        61: json.dumps(changed(messages[61], timestamp="x")),
    }
    texts = [bad.get(k, json.dumps(message)) for k, message in enumerate(messages)]
    texts[40], texts[43] = texts[43], texts[40]  # out of order
    texts.insert(45, texts[44])  # twice
    texts.insert(46, b"\xff\xff")
    texts.insert(47, json.dumps({"event": "mark", "sequenceNumber": "no", "mark": {"name": "m"}}))
    gone = [texts.index(json.dumps(messages[k])) for k in missing]
    texts = [text for k, text in enumerate(texts) if k not in gone]
    server, handler = run_call(texts)
    expected = bytearray(audio)
    for k in [*missing, *bad]:
        expected[(k - 2) * 160 : (k - 1) * 160] = b"\xff" * 160
    assert server.talks[0].audio == b"\xff" * 8 * FIRST_MS + bytes(expected)
    call = handler.call
    assert call and (call.refused, call.lost) == (5, 5)  # 30 has no number that could be read: lost, too
    assert caplog.text.count("refused a message") == 5


def test_both_tracks_are_one_conversation() -> None:
    audio = mulaw(np.arange(8_000, dtype=np.int16))
    both = call_messages(audio, ("inbound", "outbound"))
    server, handler = run_call([json.dumps(message) for message in both])
    (talk,) = server.talks
    assert talk.audio[::2] == talk.audio[1::2] == b"\xff" * 8 * FIRST_MS + audio
    assert talk.update["audio"] == {"encoding": "mulaw", "sample_rate_hz": 8000, "channels": 2}
    assert talk.update["channel_names"] == ["inbound", "outbound"]
    assert len(handler.turns("inbound")) == 1
    assert [where for where, event in handler.events if isinstance(event, SessionClosed)] == [None]


def side_by_side(packets: list[Media]) -> tuple[bytes, bytes]:
    """Feed messages to both tracks, and return the audio of each."""
    tracks = Tracks(("inbound", "outbound"))
    heard = b"".join(map(tracks.receive, packets)) + tracks.finish()
    return heard[::2], heard[1::2]


@settings(deadline=None)
@given(st.sets(st.integers(0, 99), max_size=60), st.integers(0, 4), st.integers(0, 150).map(lambda k: 20 * k))
def test_tracks_stay_aligned_whatever_is_missing_or_late(missing: set[int], late: int, start_ms: int) -> None:
    def packet(k: int, track: str) -> Media:
        return Media(0, track, start_ms + 20 * k, bytes([k + (128 if track == "outbound" else 0)]) * 160)

    due = [(k + late, packet(k, "inbound")) for k in range(50) if k not in missing]
    due += [(k, packet(k, "outbound")) for k in range(50) if k + 50 not in missing]
    packets = [one for _, one in sorted(due, key=lambda item: item[0])]
    if not packets:
        return
    first_ms = packets[0].timestamp_ms
    origin_ms = 0 if first_ms <= media_streams.LATEST_START_MS else first_ms
    inbound, outbound = side_by_side(packets)
    assert len(inbound) == len(outbound)
    for side, track in ((inbound, "inbound"), (outbound, "outbound")):
        expected = bytearray(b"\xff" * len(side))
        for one in packets:
            at = (one.timestamp_ms - origin_ms) * 8
            if one.track == track and at >= 0:
                expected[at : at + 160] = one.audio
        assert side == bytes(expected)


@settings(deadline=None)
@given(st.sets(st.integers(0, 59), max_size=40), st.booleans(), st.sampled_from([0, 64, 100, 980]))
def test_losses_in_a_track_move_nothing_in_the_other(missing: set[int], swap: bool, start_ms: int) -> None:
    """Lost messages of the beginning and the end included."""
    lossy, whole = ("outbound", "inbound") if swap else ("inbound", "outbound")
    sent = [
        Media(0, track, start_ms + 20 * k, bytes([k + (128 if track == "outbound" else 0)]) * 160)
        for k in range(60)
        for track in ("inbound", "outbound")
    ]
    kept = [
        one for one in sent if not (one.track == lossy and (one.timestamp_ms - start_ms) // 20 in missing)
    ]
    place = ("inbound", "outbound").index(whole)
    assert side_by_side(kept)[place] == side_by_side(sent)[place]


def test_a_track_that_says_nothing_does_not_hold_up_the_other() -> None:
    tracks, heard = Tracks(("inbound", "outbound")), 0
    for k in range(50):
        heard += len(tracks.receive(Media(0, "outbound", 20 * k, bytes([k]) * 160))) // 2
        assert (k + 1) * 160 - heard <= LONGEST_LAG
    late = tracks.receive(Media(0, "inbound", 0, b"x" * 160))  # its time is over
    rest = tracks.receive(Media(0, "inbound", 980, b"y" * 160))
    both = late + rest + tracks.finish()
    assert b"x" not in both and both[::2].endswith(b"y" * 160)


def test_a_call_that_is_cut_is_finished_and_what_comes_before_the_start_is_refused() -> None:
    audio = mulaw(np.arange(8_000, dtype=np.int16))
    messages = [json.dumps(message) for message in call_messages(audio)]
    handler = Heard()

    async def talk() -> None:
        async with stand_in() as server, serve(Server(server.url), handler, port=0) as bridge:
            port = bridge.sockets[0].getsockname()[1]
            async with open_socket(f"ws://127.0.0.1:{port}") as socket:
                for k in range(30):
                    await socket.send(json.dumps(media(k, 20 * k, b"early")))
                for text in messages[:-1]:
                    await socket.send(
                        re.sub(r'(Number": ")(\d+)', lambda m: f"{m[1]}{1000 + int(m[2])}", text)
                    )
                await until(lambda: server.talks and server.talks[0].audio)
                socket.transport.abort()
            await until(lambda: server.talks[0].closed)

    asyncio.run(talk())
    assert handler.call and handler.call.lost == 0
    assert handler.call.refused == 30 and handler.turns()


def test_a_handler_answers_into_the_call_and_hears_keys_and_marks() -> None:
    class Answers(Heard):
        async def __call__(self, call: Call, track: str | None, event: Any) -> None:
            await super().__call__(call, track, event)
            if isinstance(event, media_streams.Dtmf):
                await call.play(b"\x00\xff")
                await call.mark("played")
                await call.clear()
            if isinstance(event, media_streams.Mark):
                raise RuntimeError("the handler's own mistake")

    handler = Answers()

    async def talk() -> list[dict[str, Any]]:
        async with stand_in() as server, serve(Server(server.url), handler, port=0) as bridge:
            port = bridge.sockets[0].getsockname()[1]
            async with open_socket(f"ws://127.0.0.1:{port}") as socket:
                await socket.send(json.dumps(START))
                pressed = {"track": "inbound_track", "digit": "1"}
                await socket.send(json.dumps({"event": "dtmf", "sequenceNumber": "2", "dtmf": pressed}))
                said = [json.loads(await socket.recv()) for _ in range(3)]
                mark = {"event": "mark", "sequenceNumber": "3", "mark": {"name": "played"}}
                await socket.send(json.dumps(mark))
                await socket.send(json.dumps(media(4, 0, b"\xff" * 160)))
                await socket.send(json.dumps({"event": "stop", "sequenceNumber": "5", "stop": {}}))
                await socket.wait_closed()
            assert server.talks[0].audio == b"\xff" * 160
            return said

    said = asyncio.run(talk())
    assert said == [
        {"event": "media", "media": {"payload": "AP8="}, "streamSid": "MZ1"},
        {"event": "mark", "mark": {"name": "played"}, "streamSid": "MZ1"},
        {"event": "clear", "streamSid": "MZ1"},
    ]
    own = media_streams.Dtmf | media_streams.Mark
    assert [event for _, event in handler.events if isinstance(event, own)] == [
        media_streams.Dtmf(2, "1"),
        media_streams.Mark(3, "played"),
    ]


# --- the example agent ----------------------------------------------------------------------------


def run_agent(url: str, *arguments: str | Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, AGENTS / "example" / "agent.py", url, *arguments]
    return subprocess.run(
        command, input=typed, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT
    )


def answers(output: str, words: str) -> list[str]:
    """What the agent answered each time these words were said."""
    turns = re.split(r"^\(\[", output, flags=re.M)[1:]
    return [found[1] for said in turns if words in said and (found := re.search(r"answer +(.*)", said))]


def test_the_agent_answers_the_same_words_by_what_was_felt_before() -> None:
    async def talk() -> subprocess.CompletedProcess[str]:
        async with stand_in() as server:
            lines = "What now?\nI hate this!\nWhat now?\nI am happy\nThat makes me happy!\nWhat now?\nFAIL\n"
            return await asyncio.to_thread(run_agent, server.url, typed=lines)

    done = asyncio.run(talk())
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = answers(done.stdout, "What now?")
    assert "parcel" in first and "supervisor" in second and "settled" in third
    assert "trend    Expressed emotion so far: caller (3 turns)" in done.stdout
    assert "this turn failed" in done.stdout


def test_the_agent_says_what_is_wrong(tmp_path: Path) -> None:
    done = run_agent("ws://127.0.0.1:9")
    assert done.returncode == 2 and "expected a server" in done.stderr and "Traceback" not in done.stderr


# --- Pipecat --------------------------------------------------------------------------------------


def needs(package: str, distribution: str) -> Callable[[Any], Any]:
    """A test that runs where a framework is installed; the framework's own deprecations are not ours."""

    def mark(test: Any) -> Any:
        absent = importlib.util.find_spec(package) is None
        test = pytest.mark.skipif(absent, reason=f"{distribution} is not installed")(test)
        return pytest.mark.filterwarnings("ignore::DeprecationWarning")(test)

    return mark


def run_pipeline(
    play: Callable[[Any, Any], Any], *, url: str | None = None, delay_s: float = 0.0, **options: Any
) -> tuple[StandIn, list[Any], Any]:
    """A real pipeline around an EmotionProcessor: what went in and out, with the times.

    Args:
        play: a coroutine function that gets the pipeline's worker and the processor, and queues frames.
        url: of a server; the stand-in's where None.
        delay_s: how long the stand-in takes for a turn.
        options: of the processor; `after`: processors that follow it.
    """
    from pipecat.frames.frames import EndFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.workers.runner import WorkerRunner
    from stream_erc_agents.pipecat import EmotionProcessor

    class Sink(FrameProcessor):
        def __init__(self) -> None:
            super().__init__(enable_direct_mode=True)
            self.got: list[Any] = []

        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            if direction is FrameDirection.DOWNSTREAM:
                self.got.append((time.monotonic(), frame))
            await self.push_frame(frame, direction)

    async def talk() -> tuple[StandIn, list[Any], Any]:
        async with stand_in() as server:
            server.delay_s = delay_s
            after = options.pop("after", [])
            emotions, sink = EmotionProcessor(Server(url or server.url), **options), Sink()
            worker = PipelineWorker(Pipeline([emotions, *after, sink]), cancel_on_idle_timeout=False)
            started = asyncio.Event()

            @worker.event_handler("on_pipeline_started")
            async def on_pipeline_started(worker: Any, frame: Any) -> None:
                started.set()

            async def drive() -> None:
                await asyncio.wait_for(started.wait(), 5)
                if url is None:
                    await until(lambda: emotions._feed._connected)
                await play(worker, emotions)
                await worker.queue_frame(EndFrame())

            runner = WorkerRunner(handle_sigint=False)
            await runner.add_workers(worker)
            await asyncio.gather(runner.run(), drive())
            return server, sink.got, emotions

    return asyncio.run(talk())


def transcription(text: str, user_id: str = "") -> Any:
    from pipecat.frames.frames import TranscriptionFrame

    return TranscriptionFrame(text, user_id, "2026-01-01T00:00:00Z")


@needs("pipecat", "pipecat-ai")
def test_pipecat_reads_a_transcription_and_leaves_all_else_as_it_is() -> None:
    from pipecat.frames import frames

    audio = sample_audio(16_000, 0, 4.2).tobytes()
    system = [frames.InputAudioRawFrame(audio[at : at + 640], 16_000, 1) for at in range(0, len(audio), 640)]
    data = [
        transcription("I [hate] it\nall"),
        frames.InterimTranscriptionFrame("so", "", "t"),
        frames.TextFrame("a text"),
        transcription("I am happy", "Tom"),
        frames.LLMMessagesAppendFrame([]),
        transcription("  "),
    ]

    async def play(worker: Any, emotions: Any) -> None:
        for frame in system:
            await worker.queue_frame(frame)
        await until(lambda: emotions._feed.position == len(audio) // 2)
        for frame in data:
            await worker.queue_frame(frame)
        await until(lambda: len(emotions.readings.turns) == 2)
        assert emotions.readings.summary().startswith(
            "Expressed emotion so far: speaker_1 (1 turn): anger 0.80; Tom"
        )

    server, got, _ = run_pipeline(play)
    passed = [frame for _, frame in got]
    for sent in (data, system):  # the very frames, in order
        ids = {id(frame) for frame in sent}
        assert [id(frame) for frame in passed if id(frame) in ids] == [id(frame) for frame in sent]
    assert data[0].text == "([speaker_1, emotion anger=0.80, neutral=0.10]) I (hate) it all"
    assert data[3].text == "([Tom, emotion joy=0.80, neutral=0.10]) I am happy"
    assert data[0].metadata["stream_erc"].turn == 0
    assert [data[k].text for k in (1, 2, 5)] == ["so", "a text", "  "]
    assert isinstance(passed[-1], frames.EndFrame)
    (talk,) = server.talks
    assert talk.audio == audio and talk.closed
    first, second = talk.turns
    start_s, end_s = sample_times("Hey, Tom.")
    assert abs(first["audio_start_ms"] - 1000 * start_s) <= 100
    assert abs(first["audio_end_ms"] - 1000 * end_s) <= 100
    assert (second["audio_start_ms"], second["audio_end_ms"]) == (None, None)


@needs("pipecat", "pipecat-ai")
def test_pipecat_holds_a_transcription_no_longer_than_it_is_told_and_audio_not_at_all() -> None:
    from pipecat.frames import frames

    stalled, behind = transcription("STALL"), frames.TextFrame("behind it")
    heard = frames.InputAudioRawFrame(b"\0\0" * 160, 16_000, 1)
    sent = 0.0

    async def play(worker: Any, emotions: Any) -> None:
        nonlocal sent
        sent = time.monotonic()
        await worker.queue_frames([stalled, behind])
        await asyncio.sleep(0.05)
        await worker.queue_frame(heard)
        await asyncio.sleep(0.6)

    _, got, _ = run_pipeline(play, timeout_s=0.3)
    times = {frame.id: at - sent for at, frame in got}
    assert 0.29 < times[stalled.id] < 0.45 and times[stalled.id] <= times[behind.id] < 0.45
    assert times[heard.id] < 0.2
    assert stalled.text == "STALL" and "stream_erc" not in stalled.metadata


@needs("pipecat", "pipecat-ai")
def test_pipecat_loses_no_transcription_in_an_interruption() -> None:
    from pipecat.frames import frames

    held, behind = transcription("I hate it"), transcription("I am happy")

    async def play(worker: Any, emotions: Any) -> None:
        await worker.queue_frames([held, behind])
        await asyncio.sleep(0.1)
        await worker.queue_frame(frames.InterruptionFrame())
        await asyncio.sleep(0.8)

    _, got, _ = run_pipeline(play, delay_s=0.3, timeout_s=1.0)
    passed = [frame.id for _, frame in got]
    assert passed.index(held.id) < passed.index(behind.id)
    assert "anger=0.80" in held.text and "joy=0.80" in behind.text


@needs("pipecat", "pipecat-ai")
def test_pipecat_goes_on_without_a_server() -> None:
    said = None

    async def play(worker: Any, emotions: Any) -> None:
        nonlocal said
        said = transcription("Anybody ([boss, emotion joy=1.00])?")
        await worker.queue_frame(said)
        await asyncio.sleep(0.1)

    _, got, emotions = run_pipeline(play, url="ws://127.0.0.1:9", timeout_s=5.0)
    assert said.id in [frame.id for _, frame in got] and said.text == "Anybody ((boss, emotion joy=1.00))?"
    assert emotions.readings.turns == []


@needs("pipecat", "pipecat-ai")
def test_pipecat_s_own_aggregator_puts_the_reading_before_the_user_s_message() -> None:
    """Real audio, Pipecat's Silero VAD and turn strategies; only the recognizer's words are given."""
    from pipecat.audio.vad.silero import SileroVADAnalyzer
    from pipecat.frames import frames
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import (
        LLMContextAggregatorPair,
        LLMUserAggregatorParams,
    )
    from pipecat.processors.frame_processor import FrameDirection
    from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
    from pipecat.turns.user_turn_strategies import UserTurnStrategies

    stop = [SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.3)]
    parameters = LLMUserAggregatorParams(
        vad_analyzer=SileroVADAnalyzer(), user_turn_strategies=UserTurnStrategies(stop=stop)
    )
    context = LLMContext()
    user = LLMContextAggregatorPair(context, user_params=parameters).user()
    audio = sample_audio(16_000, 0, 5).tobytes()

    async def play(worker: Any, emotions: Any) -> None:
        said = frames.LLMContextAssistantTurnFrame("Hello, this is the bot.", "t")
        await worker.queue_frame(said, FrameDirection.UPSTREAM)
        for at in range(0, len(audio), 640):
            await worker.queue_frame(frames.InputAudioRawFrame(audio[at : at + 640], 16_000, 1))
            await asyncio.sleep(0.02)
            if at == 640 * 228:  # 4.56 s: half a second after the words
                await worker.queue_frame(transcription("I am so happy"))
        await until(lambda: context.messages)
        await asyncio.sleep(0.5)

    server, got, _ = run_pipeline(play, after=[user])
    message = "([speaker_1, emotion joy=0.80, neutral=0.10]) I am so happy"
    assert context.messages == [{"role": "user", "content": message}]
    assert any(isinstance(frame, frames.LLMContextFrame) for _, frame in got)
    bot, turn = server.talks[0].turns
    assert (bot["speaker"], bot["text"]) == ("assistant", "Hello, this is the bot.")
    assert abs(turn["audio_start_ms"] - 600) <= 100 and abs(turn["audio_end_ms"] - 3791) <= 100


@needs("pipecat", "pipecat-ai")
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000])
@pytest.mark.parametrize("level_db", [-20, -35, -45])
@pytest.mark.parametrize(("at_s", "words"), [(1.0, "Hey, Tom."), (0.2, "Hey, Tom."), (3.0, "No way!")])
def test_pipecat_s_turn_begins_where_it_is_spoken(
    rate_hz: int, level_db: int, at_s: float, words: str
) -> None:
    """Loud or faint, at the stream's beginning or later: a turn is told within 0.1 s."""
    from stream_erc_agents.silero import SpeechListener

    start_s, end_s = sample_times(words)
    spoken = sample_audio(rate_hz, start_s, end_s) / 32_768
    spoken *= 10 ** (level_db / 20) / np.sqrt(np.mean(spoken**2))
    noise = np.random.default_rng(1).normal(0, 10 ** (-75 / 20), round((at_s + 1) * rate_hz) + len(spoken))
    noise[round(at_s * rate_hz) :][: len(spoken)] += spoken
    pcm, listener = np.clip(noise * 32_768, -32_768, 32_767).astype("<i2").tobytes(), SpeechListener(rate_hz)
    for at in range(0, len(pcm), rate_hz // 25):  # 20 ms
        listener.receive(pcm[at : at + rate_hz // 25])
    span = listener.take()
    assert span is not None
    assert abs(span[0] / rate_hz - at_s) <= 0.1
    assert abs(span[1] / rate_hz - at_s - len(spoken) / rate_hz) <= 0.2


# --- LiveKit Agents -------------------------------------------------------------------------------


FIRST, SECOND = "Hey, Tom.", "Yeah, sure."
BETWEEN_S = 2.0
"""The first two turns of the bundled conversation, with time for an answer between them."""


def two_turns() -> np.ndarray:
    """The audio of the two turns."""
    cut_s = sum((sample_times(FIRST)[1], sample_times(SECOND)[0])) / 2
    pause = np.zeros(round(BETWEEN_S * 16_000), np.int16)
    end_s = sample_times(SECOND)[1] + 0.3
    return np.concatenate([sample_audio(16_000, 0, cut_s), pause, sample_audio(16_000, cut_s, end_s)])


def turn_spans() -> list[tuple[float, float]]:
    """Where the two turns lie in it, in milliseconds."""
    (first, until), (second, end) = sample_times(FIRST), sample_times(SECOND)
    return [(1000 * first, 1000 * until), (1000 * (second + BETWEEN_S), 1000 * (end + BETWEEN_S))]


def run_livekit(url: str, words: list[str]) -> tuple[list[list[tuple[str, str]]], Any]:
    """Real audio, LiveKit's session, agent and Silero VAD; recognizer and language model answer by rote.

    Returns:
        What the language model was asked, and the hook.
    """
    from livekit import rtc
    from livekit.agents import Agent, AgentSession, inference, llm
    from livekit.agents import stt as speech_to_text
    from livekit.agents.voice.io import AudioInput
    from stream_erc_agents.livekit import EmotionHook, EmotionMixin

    said_in_turn = iter(words)
    audio = two_turns().tobytes() + bytes(64_000)
    asked: list[list[tuple[str, str]]] = []

    class Rote(speech_to_text.STT):
        def __init__(self) -> None:
            can = speech_to_text.STTCapabilities(streaming=False, interim_results=False)
            super().__init__(capabilities=can)

        async def _recognize_impl(self, buffer: Any, **options: Any) -> Any:
            said = speech_to_text.SpeechData(language="en", text=next(said_in_turn, ""))
            return speech_to_text.SpeechEvent(speech_to_text.SpeechEventType.FINAL_TRANSCRIPT, "", [said])

    class Reply(llm.LLMStream):
        async def _run(self) -> None:
            delta = llm.ChoiceDelta(role="assistant", content="I see.")
            self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=delta))

    class Model(llm.LLM):
        def chat(self, *, chat_ctx: Any, tools: Any = None, conn_options: Any = None, **options: Any) -> Any:
            asked.append([(m.role, m.text_content) for m in chat_ctx.messages()])
            return Reply(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)

    class Recording(AudioInput):
        def __init__(self) -> None:
            super().__init__(label="recording")
            self.at = 0

        async def __anext__(self) -> Any:
            if self.at >= len(audio):
                raise StopAsyncIteration
            await asyncio.sleep(0.019)
            chunk = audio[self.at : self.at + 640]
            self.at += 640
            return rtc.AudioFrame(chunk, 16_000, 1, len(chunk) // 2)

    class Support(EmotionMixin, Agent):
        def __init__(self) -> None:
            super().__init__(instructions="Be kind.")
            self.emotions = EmotionHook(Server(url), timeout_s=2.0)

    async def talk() -> Any:
        handling = {"preemptive_generation": {"enabled": False}, "turn_detection": "vad"}
        session = AgentSession(
            stt=Rote(), llm=Model(), vad=inference.VAD(min_silence_duration=0.5), turn_handling=handling
        )
        agent = Support()
        session.input.audio = Recording()
        await session.start(agent, record=False)
        await until(lambda: len(asked) == len(words), 30)
        await session.aclose()
        return agent.emotions

    return asked, asyncio.run(talk())


@needs("livekit", "livekit-agents")
def test_livekit_s_own_session_gets_the_reading_before_the_user_s_message() -> None:
    with standing_by() as server:
        asked, emotions = run_livekit(server.url, ["I am so happy", "I hate [it]"])
    first = ("user", "([speaker_1, emotion joy=0.80, neutral=0.10]) I am so happy")
    second = ("user", "([speaker_1, emotion anger=0.80, neutral=0.10]) I hate (it)")
    assert [said for said in asked[-1] if said[0] == "user"] == [first, second]
    (talk,) = server.talks
    assert talk.closed and len(talk.audio) > 10 * 32_000
    assert two_turns().tobytes().startswith(talk.audio[: 10 * 32_000])
    assert [turn["speaker"] for turn in talk.turns] == [None, "assistant", None]
    happy, hate = talk.turns[0], talk.turns[2]
    for turn, (start_ms, end_ms) in zip((happy, hate), turn_spans(), strict=True):
        assert abs(turn["audio_start_ms"] - start_ms) < 400 and abs(turn["audio_end_ms"] - end_ms) < 400
    assert "assistant (1 turn)" in emotions.readings.summary()


@needs("livekit", "livekit-agents")
def test_livekit_waits_no_longer_than_it_is_told_and_goes_on_without_a_server() -> None:
    from livekit.agents import llm
    from stream_erc_agents.livekit import EmotionHook

    async def attached(hook: EmotionHook, text: str) -> tuple[Any, Any, float]:
        message, began = llm.ChatMessage(role="user", content=[text]), time.monotonic()
        turn = await hook.attach(llm.ChatContext.empty(), message)
        return turn, message.text_content, time.monotonic() - began

    async def talk() -> None:
        async with stand_in() as server:
            hook = EmotionHook(Server(server.url), timeout_s=0.3, speaker="Ann")
            await attached(hook, "hello")  # connects
            assert hook._feed
            await connected(hook._feed)
            turn, text, _ = await attached(hook, "I hate it")
            assert turn.speaker == "Ann" and text == "([Ann, emotion anger=0.80, neutral=0.10]) I hate it"
            turn, text, took_s = await attached(hook, "STALL [now]")
            assert (turn, text) == (None, "STALL (now)") and 0.29 < took_s < 0.5
            await hook.aclose()
        hook = EmotionHook(Server("ws://127.0.0.1:9"), timeout_s=5.0, style=None)
        turn, text, took_s = await attached(hook, "As [it] is")
        assert (turn, text) == (None, "As [it] is") and took_s < 0.5
        assert await hook.attach(llm.ChatContext.empty(), llm.ChatMessage(role="user", content=[])) is None
        await hook.aclose()

    asyncio.run(talk())


# --- the frameworks' examples ---------------------------------------------------------------------


def run_example(name: str, url: str, audio: Path, words: Path) -> subprocess.CompletedProcess[str]:
    """Run an example of a framework."""
    command = [sys.executable, AGENTS / "example" / name, url, "--audio", audio, "--words", words]
    paths = os.pathsep.join([str(AGENTS), str(AGENTS.parent / "python")])
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, env={**os.environ, "PYTHONPATH": paths}
    )


def check_example(name: str, folder: Path) -> None:
    """The example answers two turns by their readings, and tells of a file that is none."""
    import soundfile

    audio, words = folder / "call.wav", folder / "call.txt"
    soundfile.write(audio, two_turns(), 16_000, subtype="PCM_16")
    words.write_text("# the caller\nI am so happy\n\nI hate [it]\n", encoding="utf-8")
    with standing_by() as server:
        done = run_example(name, server.url, audio, words)
        assert done.returncode == 0, done.stderr[-2000:]
        spans = [
            (turn["audio_start_ms"], turn["audio_end_ms"])
            for turn in server.talks[0].turns
            if turn["speaker"] == "caller"
        ]
    said = done.stdout.splitlines()
    assert "([caller, emotion joy=0.80, neutral=0.10]) I am so happy" in said
    assert "([caller, emotion anger=0.80, neutral=0.10]) I hate (it)" in said
    assert said[1] == "  answer   How nice to hear that!"
    assert said[-1].startswith("Expressed emotion so far: caller (2 turns)")
    assert np.abs(np.subtract(spans, turn_spans())).max() < 400
    (folder / "none.wav").write_bytes(b"none")
    refused = run_example(name, "ws://127.0.0.1:9", folder / "none.wav", words)
    assert refused.returncode == 2 and "none.wav: expected a WAV file, got" in refused.stderr


@needs("pipecat", "pipecat-ai")
def test_the_pipecat_example_answers_a_call(tmp_path: Path) -> None:
    check_example("pipecat_agent.py", tmp_path)


@needs("livekit", "livekit-agents")
def test_the_livekit_example_answers_a_call(tmp_path: Path) -> None:
    check_example("livekit_agent.py", tmp_path)


# --- the real server ------------------------------------------------------------------------------


def serving() -> Any:
    """`tests/serving.py`, which needs the runtime."""
    if not RUNTIME:
        pytest.skip("only the clients are installed")
    return importlib.import_module("serving")


def test_a_feed_and_the_real_server_agree() -> None:
    import_serving = serving()
    from fakes import tone

    with import_serving.serve() as running:

        async def talk() -> None:
            events: list[Event] = []
            feed = Feed(Server(running.url), on_event=events.append)
            await connected(feed)
            feed.send_audio((tone(2.0, 440) * 32767).astype("<i2").tobytes())
            with_span = await feed.reading_of(feed.append_turn("said", speaker="Ann", span=(1600, 30_400)), 5)
            assert with_span and (with_span.audio_start_ms, with_span.audio_end_ms) == (100, 1900)
            words = await feed.reading_of(feed.append_turn("only words", speaker="assistant"), 5)
            assert words and (words.audio_start_ms, words.speaker) == (None, "assistant")
            to_the_end = (0, feed.position)
            by_voice = await feed.reading_of(feed.append_turn("who is it?", span=to_the_end), 5)
            assert by_voice and by_voice.speaker not in ("Ann", "assistant", "first")
            await feed.close()
            closed = events[-1]
            assert isinstance(closed, SessionClosed)
            finals = [event for event in events if isinstance(event, TurnFinal)]
            assert (closed.audio_ms, closed.turns, closed.failed_turns) == (2000, len(finals), 0)

        asyncio.run(talk())


def test_a_call_of_both_tracks_and_the_real_server_agree() -> None:
    import_serving = serving()
    from fakes import conversation

    sides = {
        "inbound": conversation([(0.8, 300), (0.9, 300)])[::2],
        "outbound": conversation([(1.9, 600)], gap=0.7)[::2],
    }
    messages = call_messages(mulaw((sides["inbound"] * 32767).astype(np.int16)), tuple(sides))
    other = mulaw((sides["outbound"] * 32767).astype(np.int16))
    spoken = [k for k, message in enumerate(messages) if message.get("media", {}).get("track") == "outbound"]
    for place, k in enumerate(spoken):
        audio = other[160 * place : 160 * (place + 1)].ljust(160, b"\xff")
        messages[k] = changed(messages[k], payload=base64.b64encode(audio).decode())
    handler = Heard()
    with import_serving.serve() as running:
        asyncio.run(send_call(running.url, [json.dumps(message) for message in messages], handler))
    finals = [(track, event) for track, event in handler.events if isinstance(event, TurnFinal)]
    assert [(track, event.speaker) for track, event in finals] == [
        ("inbound", "inbound"), ("outbound", "outbound"), ("inbound", "inbound"),
    ]  # fmt: skip
    starts = [event.audio_start_ms for _, event in finals]
    assert all(abs(at - due) < 150 for at, due in zip(starts, (500, 700, 1800), strict=True))
    closed = handler.events[-1][1]
    assert isinstance(closed, SessionClosed) and closed.turns == 3
    assert abs(closed.audio_ms - FIRST_MS - len(sides["inbound"]) / 8) <= 25


def test_a_call_and_the_real_server_agree() -> None:
    import_serving = serving()
    from fakes import conversation

    samples = np.repeat(conversation([(0.8, 300), (0.9, 600)])[::2], 1)  # 8 kHz
    texts = [json.dumps(message) for message in call_messages(mulaw((samples * 32767).astype(np.int16)))]
    del texts[60]  # 20 ms of the first tone
    handler = Heard()
    with import_serving.serve() as running:
        asyncio.run(send_call(running.url, texts, handler))
    first, second = handler.turns()
    assert abs(first.audio_start_ms - 500) < 150 and abs(first.audio_end_ms - 1300) < 150
    assert abs(second.audio_start_ms - 1800) < 150 and abs(second.audio_end_ms - 2700) < 150
    closed = handler.events[-1][1]
    assert isinstance(closed, SessionClosed) and closed.turns == 2
    assert abs(closed.audio_ms - FIRST_MS - len(samples) / 8) <= 25


@pytest.fixture(scope="module")
def real_url() -> Iterator[str]:
    """``stream-erc serve`` with its own models, on a free port."""
    python = Path(sys.executable) if RUNTIME else ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("stream_erc is not installed")
    command = [python, "-m", "stream_erc", "serve", "--port", "0", "--store", "memory"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout
        said = []
        for line in run.stdout:
            said.append(line)
            if found := re.search(r"http://[\d.:]+", line):
                break
        else:
            pytest.fail(f"the server did not start: {said}")
        yield found[0]
        run.terminate()
        run.wait(60)


@pytest.mark.slow
def test_the_agent_and_real_readings_of_words(real_url: str) -> None:
    (options,) = re.findall(r"^python clients/agents/example/agent.py \S+ (.*)$", README, flags=re.M)
    done = run_agent(real_url, *options.split())
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = answers(done.stdout, "Okay. What happens now?")
    assert "parcel" in first and "supervisor" in second and "settled" in third
    assert "every right to be angry" in answers(done.stdout, "I hate this company")[0]
    assert "before that" in done.stdout


@pytest.mark.slow
def test_the_agent_and_real_readings_of_a_recording(real_url: str, tmp_path: Path) -> None:
    import soundfile

    (start_s, _), (_, end_s) = sample_times("Guess what!"), sample_times("He took my car")
    call = sample_audio(16_000, start_s - 0.5, end_s + 0.4)
    soundfile.write(tmp_path / "call.wav", call, 16_000, subtype="PCM_16")
    done = run_agent(real_url, "--audio", tmp_path / "call.wav")
    assert (done.returncode, done.stderr) == (0, "")
    assert "How nice to hear that!" in done.stdout  # the job
    assert "every right to be angry" in done.stdout  # a brother who lied
    assert "speaker_2" in done.stdout


@pytest.mark.slow
def test_a_call_and_real_readings(real_url: str) -> None:
    start_s, end_s = sample_times("He took my car")
    audio = mulaw(sample_audio(8000, start_s - 0.45, end_s + 0.4))
    texts = [json.dumps(message) for message in call_messages(audio)]
    handler = Heard()
    asyncio.run(send_call(real_url, texts, handler, pace_s=0.0195, turns=1))
    (final,) = handler.turns()
    assert abs(final.audio_start_ms - 450) < 300
    assert abs(final.audio_end_ms - 450 - 1000 * (end_s - start_s)) < 500
    assert "sold" in final.text and final.emotion.label in ("anger", "disgust")


@needs("pipecat", "pipecat-ai")
@pytest.mark.slow
def test_pipecat_and_real_readings(real_url: str) -> None:
    from pipecat.frames import frames

    start_s, end_s = sample_times("He took my car")
    audio = sample_audio(16_000, start_s - 0.45, end_s + 0.4).tobytes()
    said = None

    async def play(worker: Any, emotions: Any) -> None:
        nonlocal said
        said = transcription("He took my car, and he sold it! I hate him!", "Anna")
        await until(lambda: emotions._feed._connected)
        for at in range(0, len(audio), 640):
            await worker.queue_frame(frames.InputAudioRawFrame(audio[at : at + 640], 16_000, 1))
            await asyncio.sleep(0.019)
        await worker.queue_frame(said)
        await until(lambda: emotions.readings.turns)

    _, _, emotions = run_pipeline(play, url=real_url, timeout_s=2.0)
    (turn,) = emotions.readings.turns
    assert said.text.startswith("([Anna, emotion anger=") and said.metadata["stream_erc"] == turn
    assert turn.audio_end_ms - turn.audio_start_ms > 2500 and turn.latency_ms.features > 0


@needs("livekit", "livekit-agents")
@pytest.mark.slow
def test_livekit_and_real_readings(real_url: str) -> None:
    words = ["I am so angry with you! I hate it!", "I have wonderful news, I am so happy!"]
    asked, emotions = run_livekit(real_url, words)
    first, second = (text for role, text in asked[-1] if role == "user")
    assert re.match(r"\(\[speaker_1, emotion anger=0\.\d\d.*\]\) I am so angry", first), first
    assert re.match(r"\(\[speaker_\d, emotion joy=0\.\d\d.*\]\) I have wonderful news", second), second
    assert [turn.speaker == "assistant" for turn in emotions.readings.turns] == [False, True, False]
    assert all(turn.latency_ms.features > 0 for turn in emotions.readings.turns[::2])


# --- README.md ------------------------------------------------------------------------------------


def snippet(word: str) -> str:
    """The README's block of Python that has a word in it."""
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", README, flags=re.S) if word in code]
    return found


def test_the_readme_s_prefixes_are_what_it_says() -> None:
    done = subprocess.run(
        [sys.executable, "-c", snippet("PrefixStyle(")], capture_output=True, text=True, check=True
    )
    assert f"```\n{done.stdout}```" in README


def test_the_readme_s_bridge_prints_a_call() -> None:
    async def talk() -> str:
        async with stand_in() as server:
            with socketserver.TCPServer(("127.0.0.1", 0), None) as free:  # type: ignore[arg-type]
                port = free.server_address[1]
            code = snippet("async def handler").replace("ws://127.0.0.1:8765", server.url)
            code = code.replace("8766", str(port)).replace(
                "event.emotion.label", "event.emotion.label, flush=True"
            )
            bridge = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
            try:
                async with asyncio.timeout(30):
                    while True:
                        with contextlib.suppress(OSError):
                            async with open_socket(f"ws://127.0.0.1:{port}") as socket:
                                for message in call_messages(b"\xff" * 1600):
                                    await socket.send(json.dumps(message))
                                await socket.wait_closed()
                            break
                        await asyncio.sleep(0.1)
                    assert bridge.stdout
                    return (await bridge.stdout.readline()).decode()
            finally:
                bridge.terminate()
                await bridge.wait()

    assert asyncio.run(talk()) == "CA1 inbound I hate it anger\n"


@needs("pipecat", "pipecat-ai")
def test_the_readme_s_pipeline_can_be_made() -> None:
    from types import SimpleNamespace

    from pipecat.processors.filters.identity_filter import IdentityFilter
    from stream_erc_agents.pipecat import EmotionProcessor

    made: dict[str, Any] = {}
    exec(snippet("EmotionProcessor"), made)
    transport = SimpleNamespace(input=IdentityFilter, output=IdentityFilter)
    aggregators = SimpleNamespace(user=IdentityFilter, assistant=IdentityFilter)
    pipeline = made["pipeline"](transport, IdentityFilter(), aggregators, IdentityFilter(), IdentityFilter())
    assert any(isinstance(processor, EmotionProcessor) for processor in pipeline.processors)


@needs("livekit", "livekit-agents")
def test_the_readme_s_agent_can_be_made() -> None:
    from stream_erc_agents.livekit import EmotionHook

    async def make() -> None:
        made: dict[str, Any] = {}
        exec(snippet("EmotionMixin"), made)
        assert isinstance(made["Support"]().emotions, EmotionHook)

    asyncio.run(make())


def test_the_readme_names_what_is_there() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", README, flags=re.M)
    assert rows
    for name in re.findall(r"\w+", " ".join(rows)):
        assert (AGENTS / "stream_erc_agents" / f"{name}.py").is_file()
