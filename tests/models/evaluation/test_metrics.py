import time

import numpy as np
import pytest
from erc_models.evaluation import bootstrap, metrics
from erc_models.evaluation.metrics import Predictions

LABELS = ("neutral", "joy", "anger")


def predictions(
    predicted: list[int], gold: list[int], lengths: list[int], confidence: float = 0.8
) -> Predictions:
    """Predictions with that confidence in the label told, the rest shared alike."""
    n, c = len(gold), len(LABELS)
    probabilities = np.full((n, c), (1 - confidence) / (c - 1))
    probabilities[np.arange(n), predicted] = confidence
    dialogue = np.repeat(np.arange(len(lengths)), lengths)
    turn = np.concatenate([np.arange(length) for length in lengths])
    return Predictions(probabilities, np.array(gold), dialogue, turn, LABELS)


#: neutral: 2 of 3 found, 2 of 3 claims right; joy: 1 of 2 found, 1 of 2 right; anger: 1 of 1 and 1 of 1.
SIX = predictions([0, 0, 1, 1, 0, 2], [0, 0, 0, 1, 1, 2], [4, 2])


def drawn(dialogues: int, seed: int, hit: float = 0.6, classes: int = 7) -> Predictions:
    """Random dialogues of 5 to 14 turns whose label is told right with probability `hit`, and by chance."""
    rng = np.random.default_rng(seed)
    lengths = np.random.default_rng(dialogues).integers(5, 15, dialogues)
    gold = np.random.default_rng(dialogues).integers(0, classes, lengths.sum())
    told = np.where(rng.random(len(gold)) < hit, gold, rng.integers(0, classes, len(gold)))
    scores = rng.random((len(gold), classes))
    scores[np.arange(len(gold)), told] += 1
    return Predictions(
        scores / scores.sum(1, keepdims=True),
        gold,
        np.repeat(np.arange(dialogues), lengths),
        np.concatenate([np.arange(length) for length in lengths]),
        tuple(["neutral", *(f"label {i}" for i in range(1, classes))]),
    )


def test_scores_worked_out_by_hand() -> None:
    scores = metrics.scores_of(SIX)
    assert scores.per_class == pytest.approx({"neutral": 200 / 3, "joy": 50.0, "anger": 100.0})
    assert scores.precision == pytest.approx({"neutral": 200 / 3, "joy": 50.0, "anger": 100.0})
    assert scores.support == {"neutral": 3, "joy": 2, "anger": 1}
    assert scores.accuracy == pytest.approx(400 / 6)
    assert scores.weighted_f1 == pytest.approx((3 * 200 / 3 + 2 * 50 + 100) / 6)
    assert scores.macro_f1 == pytest.approx((200 / 3 + 50 + 100) / 3)
    assert scores.macro_recall == pytest.approx((200 / 3 + 50 + 100) / 3)
    # without neutral: 2 of 3 found, 2 of 3 claims right (the neutral turn taken for joy is a false alarm)
    assert scores.micro_f1_without_neutral == pytest.approx(200 / 3)
    assert scores.macro_f1_without_neutral == pytest.approx(75.0)
    # (4 * 6 - (3 * 3 + 2 * 2 + 1 * 1)) / (36 - 14)
    assert scores.mcc == pytest.approx(10 / 22)
    # right: .2^2 + 2 * .1^2 = .06; wrong: .8^2 + .9^2 + .1^2 = 1.46
    assert scores.brier == pytest.approx((4 * 0.06 + 2 * 1.46) / 6)
    # six bins of one turn each: four are 0.2 too low, two 0.8 too high
    assert scores.ece == pytest.approx((4 * 0.2 + 2 * 0.8) / 6)


def test_a_class_that_does_not_occur_is_left_out_of_the_means() -> None:
    scores = metrics.scores_of(predictions([0, 1, 2], [0, 1, 1], [3]))
    assert scores.macro_f1 == pytest.approx((100 + 200 / 3) / 2)
    assert scores.macro_recall == pytest.approx(75.0)
    assert scores.macro_f1_without_neutral == pytest.approx(200 / 3)
    assert scores.support["anger"] == 0
    constant = metrics.scores_of(predictions([0, 0], [0, 0], [2]))
    assert (constant.mcc, constant.micro_f1_without_neutral, constant.accuracy) == (0.0, 0.0, 100.0)


def test_calibration_error_by_hand() -> None:
    # two bins of two: confidence .6 and .7 with one hit, .8 and .9 with two
    p = np.array([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.9, 0.1]])
    gold = np.array([0, 1, 1, 0])
    assert metrics.expected_calibration_error(p, gold, 2) == pytest.approx((0.15 * 2 + 0.15 * 2) / 4)


def test_scores_agree_with_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    found = drawn(60, seed=3)
    scores, gold, told = metrics.scores_of(found), found.gold, found.predicted
    rest = list(range(1, 7))

    def f1(average: str, labels: list[int] | None = None) -> float:
        return 100 * sklearn.f1_score(gold, told, average=average, labels=labels)

    assert scores.weighted_f1 == pytest.approx(f1("weighted"))
    assert scores.macro_f1 == pytest.approx(f1("macro"))
    assert scores.micro_f1_without_neutral == pytest.approx(f1("micro", rest))
    assert scores.macro_f1_without_neutral == pytest.approx(f1("macro", rest))
    assert scores.macro_recall == pytest.approx(100 * sklearn.balanced_accuracy_score(gold, told))
    assert scores.mcc == pytest.approx(sklearn.matthews_corrcoef(gold, told))
    assert list(scores.precision.values()) == pytest.approx(
        100 * sklearn.precision_score(gold, told, average=None)
    )


def test_the_course_of_a_dialogue() -> None:
    # the first dialogue is right from its third turn on, the second never
    course = metrics.course(predictions([1, 1, 2, 0, 1, 1], [0, 0, 2, 0, 0, 0], [4, 2]))
    assert course.first_right == 3.0
    assert course.never_right == 0.5
    assert course.flips == pytest.approx(2 / 4)
    assert course.gold_flips == pytest.approx(2 / 4)
    assert course.turns == {"1": 2, "2-3": 3, "4-6": 1, "7-10": 0, "11+": 0}
    assert course.weighted_f1["1"] == 0.0
    # turns 2 and 3: anger found, two neutral ones taken for joy
    assert course.weighted_f1["2-3"] == pytest.approx(100 / 3)
    assert course.weighted_f1["4-6"] == 100.0
    assert course.weighted_f1["7-10"] is None


def test_turns_that_are_not_scored_count_in_the_course() -> None:
    some = metrics.select(predictions([0, 0, 0, 0], [0, 0, 0, 0], [4]), np.array([False, False, False, True]))
    course = metrics.course(some)
    assert (course.first_right, course.flips) == (4.0, 0.0)
    assert course.turns["4-6"] == 1


def test_the_sums_of_dialogues_give_the_scores_of_the_whole() -> None:
    found = drawn(30, seed=1)
    whole = metrics.scores_of(found)
    sums = metrics.tally(found)
    assert sums.shape == (30, 49 + 15 + 1)
    twice = metrics.figures(np.stack([sums.sum(0), 2 * sums.sum(0)]), found.labels)
    for name in metrics.FIGURES:
        assert twice[name] == pytest.approx([getattr(whole, name)] * 2), name


def test_a_draw_of_the_bootstrap_is_the_score_of_the_drawn_dialogues() -> None:
    found = drawn(12, seed=5)
    counts = bootstrap.resample(12, 3, seed=0)
    assert (counts.sum(1) == 12).all()
    values = metrics.figures(counts @ metrics.tally(found), found.labels)
    for draw, times in enumerate(counts.astype(int)):
        rows = np.concatenate(
            [np.flatnonzero(found.dialogue == k) for k in range(12) for _ in range(times[k])]
        )
        again = metrics.score(found.probabilities[rows], found.gold[rows], found.labels)
        for name in ("weighted_f1", "macro_f1", "mcc", "brier"):
            assert values[name][draw] == pytest.approx(getattr(again, name)), name


def test_intervals_hold_the_score_and_narrow_with_more_dialogues() -> None:
    widths = []
    for dialogues in (40, 640):
        found = drawn(dialogues, seed=7)
        between = bootstrap.intervals(metrics.tally(found)[None], found.labels)
        scores = metrics.scores_of(found)
        assert "ece" not in between
        for name, interval in between.items():
            assert interval.low < getattr(scores, name) < interval.high, name
        widths.append(between["weighted_f1"].high - between["weighted_f1"].low)
    assert widths[1] < widths[0] / 2.5  # a quarter, by the root of the number
    assert between == bootstrap.intervals(metrics.tally(found)[None], found.labels)
    assert between != bootstrap.intervals(metrics.tally(found)[None], found.labels, seed=1)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = 100 * (0.6 + 0.4 / 7)  # accuracy of `drawn`
    covered = 0
    for seed in range(200):
        found = drawn(100, seed)
        interval = bootstrap.intervals(metrics.tally(found)[None], found.labels, draws=200)["accuracy"]
        covered += interval.low <= truth <= interval.high
    assert 180 <= covered <= 200


def matrices(found: Predictions) -> metrics.Floats:
    return metrics.confusions(found.predicted, found.gold, found.lengths(), len(found.labels))[None]


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    worse, better = drawn(150, 1, hit=0.60), drawn(150, 2, hit=0.66)
    found = bootstrap.paired_differences(matrices(worse), matrices(better), worse.labels)["weighted_f1"]
    scores = [metrics.scores_of(p).weighted_f1 for p in (worse, better)]
    assert found.mean == pytest.approx(scores[1] - scores[0])
    assert 0 < found.low < found.mean < found.high
    same = bootstrap.paired_differences(matrices(worse), matrices(worse), worse.labels)["weighted_f1"]
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    back = bootstrap.paired_differences(matrices(better), matrices(worse), worse.labels)["weighted_f1"]
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_a_difference_is_that_of_the_means_over_seeds() -> None:
    seeds = [matrices(drawn(50, seed)) for seed in range(4)]
    first, second = np.concatenate(seeds[:3]), seeds[3]
    found = bootstrap.paired_differences(first, second, drawn(50, 0).labels)["accuracy"]
    accuracy = [metrics.scores_of(drawn(50, seed)).accuracy for seed in range(4)]
    assert found.mean == pytest.approx(accuracy[3] - np.mean(accuracy[:3]))


def test_only_systems_scored_on_the_same_dialogues_are_compared() -> None:
    with pytest.raises(ValueError, match="same dialogues"):
        bootstrap.paired_differences(matrices(drawn(20, 0)), matrices(drawn(21, 0)), LABELS)
    other = predictions([0, 0], [0, 1], [2])
    with pytest.raises(ValueError, match="gold labels differ"):
        bootstrap.paired_differences(matrices(other), matrices(predictions([0, 0], [1, 1], [2])), LABELS)


def test_a_thousand_draws_of_a_large_corpus_take_about_a_second() -> None:
    found = drawn(1000, seed=0)
    sums = np.stack([metrics.tally(found)] * 5)
    began = time.process_time()
    bootstrap.intervals(sums, found.labels)
    assert time.process_time() - began < 5


def test_wrong_shapes_are_told() -> None:
    with pytest.raises(ValueError, match=r"expected turn of shape \(2,\), got \(1,\)"):
        Predictions(np.ones((2, 3)) / 3, np.zeros(2, int), np.zeros(2, int), np.zeros(1, int), LABELS)
    with pytest.raises(ValueError, match="expected labels from 0 to 2, got 0 to 3"):
        Predictions(np.ones((2, 3)) / 3, np.array([0, 3]), np.zeros(2, int), np.zeros(2, int), LABELS)
    with pytest.raises(ValueError, match="got none"):
        metrics.select(SIX, np.zeros(6, bool))
