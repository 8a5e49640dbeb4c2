import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import talk, write
from erc_models.evaluation.metrics import expected_calibration_error
from erc_models.networks.calibration import Calibration
from erc_models.networks.checkpoint import load
from erc_models.training import calibrate
from erc_models.training.calibrate import Part
from scipy.special import softmax

NEUTRAL = 0


def planted(other: float, neutral: float, turns: int = 4000, seed: int = 0) -> Part:
    """Turns whose labels follow their logits once those are divided by these temperatures; 40 groups."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(turns, 4)) * 1.5
    steps = softmax(true, axis=1).cumsum(1)
    gold = (rng.random((turns, 1)) > steps[:, :-1]).sum(1)
    factor = np.where(true.argmax(1) == NEUTRAL, neutral, other)
    return Part(true * factor[:, None], gold, rng.integers(0, 40, turns))


def test_without_others_the_temperature_is_for_all() -> None:
    logits = torch.randn(3, 4)
    masks = torch.tensor([True, False, True]), torch.tensor([[False], [True], [True]])
    torch.testing.assert_close(Calibration(1.5).scale(logits, *masks), logits / 1.5)


def test_a_turn_has_the_temperature_of_what_it_has_and_of_its_likeliest_label() -> None:
    calibration = Calibration(3.0, {"100": (0.5, 2.0), "011": (4.0, 8.0)})
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    text = torch.tensor([True, True, False, False, True])
    voice = torch.tensor([[False, False], [False, False], [True, True], [True, True], [True, False]])
    expected = torch.tensor([0.5, 2.0, 4.0, 8.0, 3.0])  # the last has what no temperature was fitted for
    torch.testing.assert_close(calibration.scale(logits, text, voice), logits / expected.unsqueeze(1))


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        (Calibration(0.0), "a temperature above 0, got 0"),
        (Calibration(1.0, {"10": (1.0, 1.0)}), "expected 3 of 0 and 1 as a key, got '10'"),
        (Calibration(1.0, {"1x0": (1.0, 1.0)}), "got '1x0'"),
        (Calibration(1.0, {"100": (1.0,)}), "expected 2 above 0 for '100'"),
        (Calibration(1.0, {"100": (1.0, -1.0)}), "got [1.0, -1.0]"),
        (Calibration(1.0, {"100": (1.0, float("nan"))}), "above 0"),
    ],
)
def test_unusable_temperatures_are_refused(calibration: Calibration, words: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        calibration.check(groups=2, classes=2)
    assert words in str(caught.value)


def test_planted_temperatures_are_found() -> None:
    part = planted(2.0, 0.7)
    np.testing.assert_allclose(calibrate.fit(part, 2, NEUTRAL), [2.0, 0.7], rtol=0.12)
    one = calibrate.fit(planted(1.6, 1.6), 1, NEUTRAL)
    np.testing.assert_allclose(one, [1.6, 1.6], rtol=0.08)


def test_calibration_keeps_every_label() -> None:
    part = planted(2.0, 0.7)
    said = calibrate.probabilities(part, np.array([3.0, 0.4]), NEUTRAL)
    np.testing.assert_array_equal(said.argmax(1), part.logits.argmax(1))


def test_no_turn_is_scored_by_temperatures_that_saw_its_group() -> None:
    part = planted(1.0, 1.0, turns=300)
    seen: list[set[int]] = []

    def fitted(some: Part) -> np.ndarray:
        seen.append(set(some.group.tolist()))
        return np.ones(2)

    calibrate.cross_validated(part, fitted, NEUTRAL)
    everyone = set(part.group.tolist())
    assert len(seen) == calibrate.FOLDS * calibrate.REPEATS
    for repeat in range(calibrate.REPEATS):
        left_out = [everyone - some for some in seen[repeat * calibrate.FOLDS :][: calibrate.FOLDS]]
        assert set.union(*left_out) == everyone
        assert sum(map(len, left_out)) == len(everyone)


def test_the_better_way_is_chosen_and_its_error_is_that_of_the_truth() -> None:
    for temperatures, kept in (((2.0, 0.6), "neutral and other"), ((2.5, 2.5), "one of its own")):
        found = calibrate.compare(planted(*temperatures), 1.0, NEUTRAL)
        name = next(name for name, choice in found.items() if choice is calibrate.best(found))
        assert name == kept or (kept == "one of its own" and name == "neutral and other")
        chosen = calibrate.best(found)
        assert chosen.loss < found["the checkpoint's"].loss
        mean, low, high = chosen.perfect
        assert low < mean < high
        assert chosen.error < high < found["the checkpoint's"].error


def test_true_probabilities_show_an_error_that_falls_with_the_turns() -> None:
    few, many = (planted(1.0, 1.0, turns) for turns in (400, 10_000))
    errors = [calibrate.perfect_error(softmax(part.logits, axis=1), 50)[0] for part in (few, many)]
    assert errors[0] > 3 * errors[1] > 0
    mean, low, high = calibrate.perfect_error(softmax(few.logits, axis=1))
    assert low <= expected_calibration_error(softmax(few.logits, axis=1), few.gold) <= high
    assert abs(mean - errors[0]) < 0.02


def test_turns_are_parted_by_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "MIN_TURNS", 2)
    part = Part(np.arange(10.0).reshape(5, 2), np.array([0, 1, 0, 1, 0]), np.arange(5))
    there = np.array([[1, 0], [1, 1], [1, 0], [0, 1], [1, 1]], bool)
    found = calibrate.parts_of([(part, there), (part, there)])
    assert list(found) == ["01", "10", "11"]
    np.testing.assert_array_equal(found["10"].group, [0, 2, 0, 2])
    np.testing.assert_array_equal(found["11"].logits, part.logits[[1, 4, 1, 4]])
    assert list(calibrate.parts_of([(part, there)])) == ["10", "11"]  # one turn alone is too few


def test_the_command_stores_what_it_fitted(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrate, "MIN_TURNS", 10)
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_checkpoint, folder)
    before = json.loads((folder / "config.json").read_text())
    data = write(tmp_path / "talk.jsonl", talk(12))
    command = ["--checkpoint", str(folder), "--data", str(data), "--cache", str(tmp_path / "cache")]
    calibrate.main(command)
    assert json.loads((folder / "config.json").read_text()) == before
    assert "log loss" in capsys.readouterr().out
    calibrate.main([*command, "--store"])
    after = json.loads((folder / "config.json").read_text())
    assert list(after.pop("temperatures")) == ["10"]  # a corpus without voices
    assert after == before
    assert load(folder).temperatures["10"][1] > 0
    with pytest.raises(SystemExit, match="calibrate: "):
        calibrate.main(["--checkpoint", str(folder), "--data", str(tmp_path / "nothing")])
