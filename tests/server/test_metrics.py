"""The server's metrics."""

from importlib import metadata

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_erc.protocol.messages import (
    EmotionReading,
    LatencyParts,
    SpeechStarted,
    TurnFailed,
    TurnFinal,
    TurnRevised,
)
from stream_erc.server.metrics import CONTENT_TYPE, STAGES, Telemetry

FIELDS = {
    "session_id": "s",
    "seq": 0,
    "event_id": 1,
    "turn": 0,
    "speaker": "Anna",
    "audio_start_ms": 0,
    "audio_end_ms": 900,
    "text": "a secret",
    "emotion": EmotionReading(label="joy", confidence=1.0, probabilities={"joy": 1.0}),
    "latency_ms": LatencyParts(endpointing=400.0, asr=120.0, features=31.0, emotion=8.0, total=560.0),
    "revision": 0,
}
TURN = TurnFinal(**FIELDS)
FAILED = TurnFailed(
    session_id="s", seq=0, event_id=1, turn=0, audio_start_ms=None, audio_end_ms=None, message="a secret"
)
STARTED = SpeechStarted(session_id="s", seq=0, audio_start_ms=0)


def values(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(telemetry.text().decode())
        for sample in family.samples
    }


def test_turns_are_counted_by_outcome_and_stages_of_final_ones_measured():
    telemetry = Telemetry(lambda: (0, 0), lambda: 0)
    for message in (TURN, TURN, TurnRevised(**FIELDS), FAILED, STARTED):
        telemetry.count_turn(message)
    seen = values(telemetry)
    assert {key[1]: n for key, n in seen.items() if key[0] == "stream_erc_turns_total"} == {
        "final": 2,
        "revised": 1,
        "failed": 1,
    }
    for stage in STAGES:
        assert seen["stream_erc_stage_seconds_count", stage] == 2
        assert seen["stream_erc_stage_seconds_sum", stage] == pytest.approx(
            2 * getattr(TURN.latency_ms, stage) / 1000
        )
    assert seen["stream_erc_stage_seconds_bucket", "0.5", "total"] == 0
    assert seen["stream_erc_stage_seconds_bucket", "0.75", "total"] == 2


def test_nothing_that_was_said_is_told():
    telemetry = Telemetry(lambda: (0, 0), lambda: 0)
    telemetry.count_turn(TURN)
    assert b"secret" not in telemetry.text() and b"Anna" not in telemetry.text()


def test_queue_depths_are_those_of_the_moment():
    waiting = [1, 2]
    telemetry = Telemetry(lambda: (waiting[0], waiting[1]), lambda: sum(waiting))
    assert values(telemetry)["stream_erc_queue_depth", "analyses"] == 1
    waiting[:] = [5, 7]
    seen = values(telemetry)
    assert seen["stream_erc_queue_depth", "analyses"] == 5
    assert seen["stream_erc_queue_depth", "classifications"] == 7
    assert seen["stream_erc_queue_depth", "outgoing"] == 12


def test_what_runs_and_what_it_takes_of_the_machine():
    telemetry = Telemetry(lambda: (0, 0), lambda: 0, ["si-lstm", "mmmie"])
    telemetry.refused.labels(401).inc()
    seen = values(telemetry)
    version = metadata.version("stream-erc")
    assert seen["stream_erc_build_info", "si-lstm", version] == 1
    assert seen["stream_erc_build_info", "mmmie", version] == 1
    assert seen["stream_erc_refused_total", "401"] == 1
    assert {"process_open_fds", "process_max_fds", "process_resident_memory_bytes"} <= {n for n, *_ in seen}
    assert "python_info" in {name for name, *_ in seen}


def test_two_servers_in_one_process_count_apart():
    one, other = Telemetry(lambda: (0, 0), lambda: 0), Telemetry(lambda: (0, 0), lambda: 0)
    one.sessions.set(3)
    one.ended.labels(1000).inc()
    assert values(one)["stream_erc_sessions",] == 3 and values(other)["stream_erc_sessions",] == 0
    assert values(one)["stream_erc_connections_ended_total", "1000"] == 1
    assert ("stream_erc_connections_ended_total", "1000") not in values(other)
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_analyses_are_counted_by_kind():
    counts = {"final": 1, "ahead": 3, "partial": 0}
    telemetry = Telemetry(lambda: (0, 0), lambda: 0, analyses=lambda: counts)
    counts["ahead"] += 1
    text = telemetry.text().decode()
    assert 'stream_erc_analyses_total{kind="ahead"} 4.0' in text
    assert 'stream_erc_analyses_total{kind="partial"} 0.0' in text
