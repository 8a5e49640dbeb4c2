"""clients/agents: prefixes, the feed, the adapters of Pipecat, LiveKit and Twilio, and the example agent.

The stand-in server keeps the protocol and reads a few words; the tests at the end use the real one. The tests
of a framework need it installed and skip where it is not.
"""

import base64
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_erc_agents import media_streams
from stream_erc_agents.media_streams import BadMessage, Media, Sequence, Started, Stopped, Track, parse
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
from stream_erc_agents.speech import SpeechSpans, to_mono
from stream_erc_client import (
    EmotionReading,
    LatencyParts,
    SpeakerUpdated,
    TurnFinal,
    TurnPartial,
    TurnRevised,
)

ROOT = Path(__file__).resolve().parents[1]
AGENTS = ROOT / "clients" / "agents"
SAMPLE = ROOT / "stream_erc" / "sample" / "conversation.flac"
LABELS = ("neutral", "joy", "anger")


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


@given(NASTY)
def test_safe_text_stays_as_it_is_when_made_safe_again(text: str) -> None:
    assert safe_text(safe_text(text)) == safe_text(text)
    assert safe_name(safe_name(text)) == safe_name(text)
    assert 1 <= len(safe_name(text)) <= 40


@pytest.mark.parametrize(
    "text", ["Wie schön, Käthe!", "你好吗", "कैसे हो", "👩\u200d👧 ok", "it's 3.5 - fine; (really)"]
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


def test_channels_are_mixed_to_one() -> None:
    assert to_mono(np.array([1, 2, 3], "<i2").tobytes() + b"x", 1) == np.array([1, 2, 3], "<i2").tobytes()
    stereo = np.array([[100, 300], [-32768, -32768], [32767, 32767]], "<i2")
    assert np.frombuffer(to_mono(stereo.tobytes(), 2), "<i2").tolist() == [200, -32768, 32767]


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
