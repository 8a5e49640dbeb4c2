"""The bundled sample: its audio matches its ground truth."""

import json
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from paths import SAMPLE

EMOTIONS = {"neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear"}
PER_MS = 16  # samples


@pytest.fixture(scope="module")
def audio() -> NDArray[np.float32]:
    samples, rate = soundfile.read(SAMPLE / "conversation.flac", dtype="float32")
    assert (rate, samples.ndim) == (16_000, 1)
    return samples


@pytest.fixture(scope="module")
def turns() -> list[dict[str, str | int]]:
    return json.loads((SAMPLE / "conversation.json").read_text(encoding="utf-8"))


def level_db(samples: NDArray[np.float32]) -> float:
    return 10 * np.log10(np.mean(samples.astype(np.float64) ** 2))


@pytest.fixture(scope="module")
def main_turns(turns) -> list[dict[str, str | int]]:
    """Return the turns without the backchannels, which end before the turn that they began in."""
    return [
        turn
        for turn in turns
        if not any(o["start_ms"] < turn["start_ms"] and turn["end_ms"] < o["end_ms"] for o in turns)
    ]


def test_it_is_a_conversation_of_two_through_all_emotions(turns) -> None:
    assert len(turns) >= 10
    assert len({turn["speaker"] for turn in turns}) == 2
    assert {turn["emotion"] for turn in turns} == EMOTIONS
    assert turns == sorted(turns, key=lambda turn: turn["start_ms"])


def test_its_speakers_interrupt_and_answer_each_other(turns, main_turns) -> None:
    gaps = [
        later["start_ms"] - earlier["end_ms"]
        for earlier, later in pairwise(main_turns)
        if later["speaker"] != earlier["speaker"]
    ]
    assert any(-1_000 < gap <= -300 for gap in gaps), "nobody interrupts"
    assert any(0 < gap <= 100 for gap in gaps), "nobody answers at once"
    (backchannel,) = (turn for turn in turns if turn not in main_turns)
    assert backchannel["end_ms"] - backchannel["start_ms"] < 1_000
    words = [len(turn["text"].split()) for turn in main_turns]
    assert min(words) <= 3 and max(words) >= 12


def test_no_speaker_overlaps_with_itself(turns) -> None:
    for name in ("Anna", "Tom"):
        spans = [(turn["start_ms"], turn["end_ms"]) for turn in turns if turn["speaker"] == name]
        assert all(end < start for (_, end), (start, _) in pairwise(spans))


def test_turns_are_speech_and_the_gaps_between_them_are_not(turns, audio) -> None:
    for turn in turns:
        span = audio[turn["start_ms"] * PER_MS : turn["end_ms"] * PER_MS]
        assert level_db(span) > -33, f"{turn} is too quiet"
    latest = 0
    for turn in [*turns, {"start_ms": len(audio) // PER_MS, "end_ms": 0}]:
        start = turn["start_ms"]
        if start > latest:
            gap = audio[latest * PER_MS : start * PER_MS]
            assert start - latest <= 1_200, f"the gap at {latest} ms"
            assert -75 < level_db(gap) < -60, f"the gap at {latest} ms is not a quiet room"
        latest = max(latest, turn["end_ms"])
    assert np.abs(audio).max() < 0.95


def test_turns_have_pauses_for_thought(turns, audio) -> None:
    room = 10 ** (-60 / 20)
    paused = 0
    for turn in turns:
        span = audio[turn["start_ms"] * PER_MS : turn["end_ms"] * PER_MS]
        loud = np.flatnonzero(np.abs(span) > 4 * room)
        paused += bool(np.diff(loud).max() >= 350 * PER_MS)
    assert paused >= 3


def test_turns_begin_and_end_with_speech(turns, audio) -> None:
    for turn in turns:
        for edge in (turn["start_ms"], turn["end_ms"] - 60):
            assert level_db(audio[edge * PER_MS : (edge + 60) * PER_MS]) > -60, (turn, edge)


def test_the_two_truths_agree(turns) -> None:
    rows = [line.split() for line in (SAMPLE / "conversation.rttm").read_text(encoding="utf-8").splitlines()]
    told = [
        (row[7], round(1_000 * float(row[3])), round(1_000 * (float(row[3]) + float(row[4])))) for row in rows
    ]
    assert told == [(turn["speaker"], turn["start_ms"], turn["end_ms"]) for turn in turns]


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 600_000
