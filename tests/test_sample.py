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


def test_it_is_a_conversation_of_two_through_all_emotions(turns) -> None:
    assert len(turns) >= 10
    assert len({turn["speaker"] for turn in turns}) == 2
    assert {turn["emotion"] for turn in turns} == EMOTIONS
    assert all(one["speaker"] != other["speaker"] for one, other in pairwise(turns))


def test_turns_are_speech_and_the_gaps_between_them_are_not(turns, audio) -> None:
    edges = [
        0,
        *(time for turn in turns for time in (turn["start_ms"], turn["end_ms"])),
        len(audio) // PER_MS,
    ]
    assert edges == sorted(edges)
    for index, (start, end) in enumerate(pairwise(edges)):
        span = audio[start * PER_MS : end * PER_MS]
        if index % 2:
            assert level_db(span) > -33, f"turn {index // 2} at {start} ms is too quiet"
        else:
            assert 500 <= end - start <= 1_200, f"the gap at {start} ms"
            assert -75 < level_db(span) < -60, f"the gap at {start} ms is not a quiet room"
    assert np.abs(audio).max() < 0.95


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
