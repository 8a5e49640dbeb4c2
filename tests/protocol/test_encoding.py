import json
import subprocess
import sys
from dataclasses import replace

import pytest
from paths import ROOT

from stream_erc import protocol
from stream_erc.events import (
    Emotion,
    EmotionEvent,
    EmotionShift,
    EmotionTotals,
    GivenTurn,
    Latency,
    PartialTurn,
    SessionClosed,
    SpeakerRenamed,
    SpeakerSummary,
    SpeechStarted,
    SpeechStopped,
    Turn,
    TurnFailed,
    Word,
)
from stream_erc.protocol.encoding import FileEncoder, MessageEncoder, to_json, to_message, to_ms
from stream_erc.protocol.errors import ERRORS

JOY = Emotion("joy", 0.75, {"neutral": 0.25, "joy": 0.75})
TURN = EmotionEvent(
    Turn(3, 1, 'she said "hi"', 16_000, 40_000), "Anna", JOY, Latency(400, 120.04, 31, 8, 560.06)
)


def test_a_final_turn_is_the_message_that_users_know():
    assert to_message(MessageEncoder("s").encode(TURN), 7) == {
        "type": "turn.final",
        "session_id": "s",
        "seq": 7,
        "event_id": 1,
        "turn": 3,
        "speaker": "Anna",
        "audio_start_ms": 1000,
        "audio_end_ms": 2500,
        "text": 'she said "hi"',
        "emotion": {"label": "joy", "confidence": 0.75, "probabilities": {"neutral": 0.25, "joy": 0.75}},
        "latency_ms": {"endpointing": 400, "asr": 120.0, "features": 31, "emotion": 8, "total": 560.1},
        "revision": 0,
    }


def test_a_turn_tells_who_else_spoke_and_whether_its_speaker_is_unsure():
    turn = replace(TURN.turn, overlap=0.3049, unsure=True)
    for revision in (0, 1):
        message = to_message(
            MessageEncoder("s").encode(replace(TURN, turn=turn, others=("Bob", "Cem"), revision=revision))
        )
        assert message["overlap"] == 0.3 and message["speaker_unsure"] is True
        assert message["others"] == ["Bob", "Cem"]
    alone = to_message(MessageEncoder("s").encode(replace(TURN, turn=replace(TURN.turn, overlap=0.004))))
    assert not {"overlap", "speaker_unsure", "others"} & set(alone)


def test_a_text_turn_has_null_times_and_its_dialogue():
    event = EmotionEvent(Turn(0, 0, "hi"), "Anna", JOY, Latency())
    message = FileEncoder("s", "dia_7").encode(event)
    assert message["dialogue"] == "dia_7"
    assert message["audio_start_ms"] is None and message["audio_end_ms"] is None


def test_messages_are_numbered_and_typed():
    encoder = FileEncoder("s")
    created = encoder.created(model="m", asr="a", labels=("x",), name="f.wav", duration_ms=5)
    events = [
        SpeechStarted(160),
        SpeechStopped(320),
        PartialTurn(0, "Anna", "so", 160, 320, None),
        TURN,
        EmotionEvent(TURN.turn, "Bob", JOY, Latency(), revision=1),
        TurnFailed(4, None, None, "expected words"),
        SpeakerRenamed(0, "Anna", "Annabel"),
        SessionClosed(32_000, 1, 1, ("Anna",)),
    ]
    messages = [created, *map(encoder.encode, events)]
    assert [m["seq"] for m in messages] == list(range(9))
    assert [m.get("event_id") for m in messages] == [None, None, None, None, 1, 2, 3, 4, 5]
    assert [m["type"] for m in messages] == [
        "session.created", "speech.started", "speech.stopped", "turn.partial", "turn.final", "turn.revised",
        "turn.failed", "speaker.updated", "session.closed",
    ]  # fmt: skip
    assert created["source"] == {"name": "f.wav", "duration_ms": 5}
    assert messages[-1]["audio_ms"] == 2000 and messages[-1]["speakers"] == ["Anna"]


def test_the_summary_of_a_session() -> None:
    emotions = (EmotionTotals("joy", 2, 24_000, 0.666666), EmotionTotals("fear", 0, 0, 0.333333))
    anna = SpeakerSummary("Anna", 2, 24_000, 2 / 3, emotions, (EmotionShift("joy", "fear", 1),), 1)
    text = SpeakerSummary("Tom", 1, 0, None, (), (), 0)
    message = FileEncoder("s").encode(SessionClosed(32_000, 3, 0, ("Anna", "Tom"), (anna, text)))
    assert message["summary"] == [
        {
            "speaker": "Anna", "turns": 2, "speaking_ms": 1500, "share": 0.6667,
            "emotions": {
                "joy": {"turns": 2, "speaking_ms": 1500, "probability": 0.6667},
                "fear": {"turns": 0, "speaking_ms": 0, "probability": 0.3333},
            },
            "shifts": [{"before": "joy", "after": "fear", "count": 1}],
            "interruptions": 1,
        },
        {
            "speaker": "Tom", "turns": 1, "speaking_ms": 0, "share": None,
            "emotions": {}, "shifts": [], "interruptions": 0,
        },
    ]  # fmt: skip


def test_json_is_one_line_and_never_not_a_number():
    line = to_json({"text": "a\nb \u2028 é", "p": 0.5})
    assert "\n" not in line and json.loads(line)["text"] == "a\nb \u2028 é"
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"p": float("nan")})


def test_milliseconds():
    assert to_ms(None) is None and to_ms(0) == 0 and to_ms(24) == 2 and to_ms(16_000 * 7200) == 7_200_000


def test_the_rendered_specification_is_up_to_date():
    script = ROOT / "scripts" / "render_protocol"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "up to date\n"), done.stderr


def test_the_table_of_errors_is_that_of_the_code():
    rows = [line.split() for line in (protocol.__doc__ or "").splitlines() if line.startswith("    ``")]
    table = {row[0].strip("`"): (None if row[1] == "-" else int(row[1]), row[2] == "yes")
             for row in rows if len(row) > 3 and row[1].strip("-0123456789") == ""}  # fmt: skip
    assert table == dict(ERRORS)


def test_probabilities_have_six_decimals() -> None:
    emotion = Emotion("joy", 2 / 3, {"joy": 2 / 3, "anger": 1 / 3})
    message = to_message(MessageEncoder("s").encode(PartialTurn(0, None, "oh", 0, 16_000, emotion)))
    assert message["emotion"] == {
        "label": "joy",
        "confidence": 0.666667,
        "probabilities": {"joy": 0.666667, "anger": 0.333333},
    }


def test_words_have_their_times():
    turn = replace(TURN.turn, words=(Word("she", 16_000, 20_000, 0.9),))
    message = to_message(MessageEncoder("s").encode(replace(TURN, turn=turn)))
    word = {"text": "she", "audio_start_ms": 1_000, "audio_end_ms": 1_250, "probability": 0.9}
    assert message["words"] == [word]


def test_a_turn_of_a_file_has_what_the_file_tells():
    given = [GivenTurn("Anna", "Hi.", extra={"scene": "4"}), GivenTurn("Bo", "Yes.", 16_000, 40_000)]
    encoder = FileEncoder("s", given=given)
    first, second = (replace(TURN, turn=replace(TURN.turn, index=k, start=None, end=None)) for k in (0, 1))
    assert encoder.encode(first)["extra"] == {"scene": "4"}
    told = encoder.encode(second)
    assert "extra" not in told and (told["audio_start_ms"], told["audio_end_ms"]) == (1_000, 2_500)
    heard = replace(TURN, turn=replace(TURN.turn, index=1, start=8_000))
    assert encoder.encode(heard)["audio_start_ms"] == 500  # where it was heard, not where the file has it
    assert encoder.encode(replace(TURN, turn=replace(TURN.turn, index=2)))["audio_start_ms"] == 1_000
