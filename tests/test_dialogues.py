"""The scripts that score speakers: the right answer for cases that are known."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType

import numpy as np
import pytest
from paths import ROOT

from stream_erc.events import Emotion, EmotionEvent, Latency, Turn

RATE = 16_000


def load(name: str) -> ModuleType:
    """Load a script as a module."""
    loader = SourceFileLoader(name, str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look it up
    loader.exec_module(module)
    return module


dialogues = load("dialogues.py")
sys.modules["dialogues"] = dialogues
offline = load("offline_diarization.py")
sys.modules["offline_diarization"] = offline
sys.modules["telephone"] = load("telephone.py")
evaluation = load("evaluate_diarization")


def test_found_speakers_are_named_as_the_most_turns_ask() -> None:
    pairs = [("ann", "1"), ("ann", "1"), ("bob", "1"), ("bob", "2"), ("bob", "2"), ("cem", "2")]
    assert dialogues.best_names(pairs) == {"1": "ann", "2": "bob"}
    assert dialogues.count_right(pairs) == 4
    assert dialogues.count_right([("ann", "1"), ("ann", "2"), ("ann", "3")]) == 1
    assert dialogues.count_right([]) == 0


def test_a_turn_is_of_who_speaks_most_in_it() -> None:
    truth = [(0.0, 2.0, "ann"), (1.5, 3.0, "bob"), (3.0, 3.4, "ann")]
    assert dialogues.main_speaker((0.5, 2.5, "?"), truth) == "ann"
    assert dialogues.main_speaker((1.5, 3.4, "?"), truth) == "bob"
    assert dialogues.main_speaker((5.0, 6.0, "?"), truth) is None


class Signs:
    """A segmentation and an encoder of speech of two people: one has positive samples, one negative ones."""

    def __call__(self, samples):
        middles = np.arange((len(samples) - 991) // 270 + 1) * 270 + 495
        here = samples[middles]
        return np.stack([here < -0.15, here > 0.05, np.zeros(len(here), bool)], axis=1)

    def embed(self, batch):
        return [np.array([x.mean() > 0, x.mean() < 0], dtype=np.float32) for x in batch]


def test_plain_offline_diarization_finds_who_speaks_when() -> None:
    turns = [(1.0, 5.0, 0.1), (5.5, 9.0, -0.2), (9.5, 16.0, 0.1), (17.0, 24.0, -0.2)]
    samples = np.zeros(25 * RATE, dtype=np.float32)
    for start, end, value in turns:
        samples[int(start * RATE) : int(end * RATE)] = value
    found = offline.cluster(offline.local_speakers(samples, Signs(), Signs()), 0.5, len(samples))
    np.testing.assert_allclose([found[k][:2] for k in range(4)], [turn[:2] for turn in turns], atol=0.02)
    assert len(found) == 4
    names = [who for *_, who in found]
    assert names[0] == names[2] != names[1] == names[3]
    assert offline.cluster(offline.local_speakers(samples[:RATE], Signs(), Signs()), 0.5, RATE) == []


def heard(index: int, start: float, end: float, first: str, last: str, *, unsure: bool = False):
    """Return the first and the last event of a turn."""
    turn = Turn(index, 0, "", int(start * RATE), int(end * RATE), unsure=unsure)
    emotion, latency = Emotion("neutral", 1.0, {"neutral": 1.0}), Latency(0, 0, 0, 0, 0)
    return tuple(EmotionEvent(turn, who, emotion, latency) for who in (first, last))


def test_turns_are_counted_at_first_and_in_the_end_sure_and_unsure() -> None:
    truth = [
        (0, 10, "ann"),
        (10, 20, "bob"),
        (20, 30, "ann"),
        (70, 80, "bob"),
        (80, 90, "ann"),
        (95, 96, "bob"),
    ]
    events = [
        heard(0, 0, 10, "speaker_1", "speaker_1"),
        heard(1, 10, 20, "speaker_1", "speaker_2", unsure=True),
        heard(2, 20, 30, "speaker_1", "speaker_1"),
        heard(3, 70, 80, "speaker_2", "speaker_2"),
        heard(4, 80, 90, "speaker_2", "speaker_2", unsure=True),
        heard(5, 92, 93, "speaker_2", "speaker_2"),  # nobody speaks there
    ]
    turns = evaluation.Turns()
    turns.add(events, truth, 130.0)
    scores = turns.scores()
    assert scores["right, first %"] == pytest.approx(60)  # turns 0, 2 and 3
    assert scores["right, end %"] == pytest.approx(80)  # all but turn 4
    assert (scores["right, sure %"], scores["right, unsure %"]) == (100, 0)
    assert scores["right, true turns %"] == pytest.approx(100 * 4 / 6)  # the last one was not heard
    assert (scores["right, first minute %"], scores["right, last minute %"]) == (100, 50)
    assert (scores["turns, end"], scores["turns, sure"], scores["turns, unsure"]) == (5, 3, 2)


def test_error_rates_are_told_by_part() -> None:
    rates = evaluation.ErrorRates()
    truth = [(0.0, 4.0, "ann"), (4.0, 8.0, "bob"), (10.0, 12.0, "ann")]
    rates.add(truth, [(0.0, 3.0, "1"), (4.0, 8.0, "2"), (8.0, 9.0, "2"), (10.0, 12.0, "3")], 12.0)
    scores = rates.scores()
    assert scores["missed %"] == pytest.approx(10)
    assert scores["false %"] == pytest.approx(10)
    assert scores["confused %"] == pytest.approx(20)
    assert scores["DER %"] == pytest.approx(40)
    assert (scores["number"], scores["|number|"]) == (1, 1)
    rates.add(truth, [], 12.0)
    scores = rates.scores()
    assert (scores["missed %"], scores["number"], scores["|number|"]) == (55, -0.5, 1.5)
