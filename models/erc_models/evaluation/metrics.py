"""Scores of predicted emotions, as the literature reports them.

Every figure is a function of sums over dialogues (`tally`): the confusion matrix, the squared error, and the
gap between confidence and accuracy in each bin. One function, `figures`, therefore computes a score and all
draws of its bootstrap (see `bootstrap`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NEUTRAL = ("neutral", "no_emotion", "no emotion")
"""The corpora's labels for no emotion, in lower case."""

BINS = 15
TURN_BINS = {"1": (0, 1), "2-3": (1, 3), "4-6": (3, 6), "7-10": (6, 10), "11+": (10, None)}
"""Bins of a dialogue's turns: names count from 1, slices from 0."""

PERCENT = (
    "weighted_f1", "macro_f1", "accuracy", "macro_recall",
    "micro_f1_without_neutral", "macro_f1_without_neutral",
)  # fmt: skip
"""The figures given in percent; the others (mcc, ece, brier) are as defined."""
FIGURES = (*PERCENT, "mcc", "ece", "brier")


@dataclass(frozen=True, eq=False)
class Predictions:
    """A system's predictions for N scored turns, dialogue after dialogue.

    Attributes:
        probabilities: (N, C).
        gold: (N,), an index into `labels`.
        dialogue: (N,), the dialogue of a turn; turns of a dialogue are contiguous.
        turn: (N,), the turn's place in its dialogue, from 0, counting unscored turns too.
        labels: the emotions.
    """

    probabilities: Floats
    gold: Integers
    dialogue: Integers
    turn: Integers
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        n, c = len(self.gold), len(self.labels)
        shapes = {"probabilities": (n, c), "dialogue": (n,), "turn": (n,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"expected {name} of shape {shape}, got {getattr(self, name).shape}")
        if not n:
            raise ValueError("expected labelled turns to score, got none")
        if not (0 <= self.gold.min() and self.gold.max() < c):
            raise ValueError(f"expected labels from 0 to {c - 1}, got {self.gold.min()} to {self.gold.max()}")

    @property
    def predicted(self) -> Integers:
        """Likeliest label of each turn (N,)."""
        return self.probabilities.argmax(1)

    def lengths(self) -> Integers:
        """Return the number of scored turns of each dialogue that has any (K,)."""
        return np.diff(np.append(_starts(self.dialogue), len(self.gold)))


@dataclass(frozen=True)
class Scores:
    """Agreement of predicted probabilities with gold labels.

    Attributes:
        weighted_f1: F1 per class weighted by its share of the gold labels (wF1), percent.
        macro_f1: plain mean of F1 over the classes that occur, percent.
        accuracy: share of correct labels, percent.
        ece: expected calibration error over 15 equal-mass bins, 0 to 1.
        per_class: F1 of each label, percent.
        macro_recall: plain mean of recall over the classes that occur, percent (unweighted average recall).
        micro_f1_without_neutral: F1 of all other labels pooled, percent: another label predicted for a
            neutral turn is a false positive, neutral predicted for another a miss (DailyDialog's convention).
        macro_f1_without_neutral: mean of F1 over the other classes that occur, percent.
        mcc: Matthews correlation coefficient for several classes (Gorodkin, 2004), -1 to 1.
        brier: mean squared error of the probabilities, summed over classes, 0 to 2.
        precision: of each label, percent.
        recall: of each label, percent.
        support: number of turns with each label.
    """

    weighted_f1: float
    macro_f1: float
    accuracy: float
    ece: float
    per_class: dict[str, float]
    macro_recall: float
    micro_f1_without_neutral: float
    macro_f1_without_neutral: float
    mcc: float
    brier: float
    precision: dict[str, float]
    recall: dict[str, float]
    support: dict[str, int]


def score(probabilities: np.ndarray, gold: np.ndarray, labels: tuple[str, ...]) -> Scores:
    """Score (N, C) probabilities against (N,) gold indices."""
    alone = np.arange(len(gold))
    return scores_of(Predictions(np.asarray(probabilities, np.float64), gold, alone, alone, labels))


def scores_of(predictions: Predictions) -> Scores:
    """Compute every figure of some predictions."""
    labels = predictions.labels
    sums = tally(predictions).sum(0)
    found = {name: float(value) for name, value in figures(sums, labels).items()}
    confusion = split(sums, len(labels))[0]
    precision, recall, f1 = by_class(confusion)

    def named(values: Floats) -> dict[str, float]:
        return {label: 100 * float(value) for label, value in zip(labels, values, strict=True)}

    support = {label: int(n) for label, n in zip(labels, confusion.sum(1), strict=True)}
    return Scores(
        **found, per_class=named(f1), precision=named(precision), recall=named(recall), support=support
    )


def expected_calibration_error(probabilities: np.ndarray, gold: np.ndarray, bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy over equal-mass bins of confidence."""
    gaps = _gaps(np.asarray(probabilities, np.float64), gold, bins)  # (N, bins)
    return float(np.abs(gaps.sum(0)).sum() / len(gold))


def confusions(predicted: Integers, gold: Integers, lengths: Integers, classes: int) -> Floats:
    """Return confusion matrices (K, C, C) of dialogues of `lengths` (K,): rows gold, columns predicted."""
    dialogue = np.repeat(np.arange(len(lengths)), lengths)
    cell = (dialogue * classes + gold) * classes + predicted
    counts = np.bincount(cell, minlength=len(lengths) * classes**2)
    return counts.reshape(len(lengths), classes, classes).astype(np.float64)


def tally(predictions: Predictions) -> Floats:
    """Return each dialogue's contribution to the sums that `figures` reads, (K, C C + 15 + 1).

    It is the confusion matrix; in each bin of confidence, confidence less hits; the squared error. The bins
    are those of all turns, in a bootstrap too.
    """
    p, gold, c = predictions.probabilities, predictions.gold, len(predictions.labels)
    lengths = predictions.lengths()
    matrix = confusions(predictions.predicted, gold, lengths, c).reshape(len(lengths), c * c)
    error = ((p - np.eye(c)[gold]) ** 2).sum(1, keepdims=True)
    additive = np.concatenate([_gaps(p, gold, BINS), error], 1)
    starts = np.cumsum(lengths) - lengths
    return np.concatenate([matrix, np.add.reduceat(additive, starts)], 1)


def split(sums: Floats, classes: int) -> tuple[Floats, Floats, Floats]:
    """Split sums (..., M) of `tally` into confusion (..., C, C), gaps (..., 15), squared error (...)."""
    matrix, gaps, error = np.split(sums, [classes**2, classes**2 + BINS], -1)
    return matrix.reshape(*sums.shape[:-1], classes, classes), gaps, error[..., 0]


def figures(sums: Floats, labels: Sequence[str]) -> dict[str, Floats]:
    """Compute every figure of `FIGURES` (...) from sums (..., M)."""
    matrix, gaps, error = split(sums, len(labels))
    n = matrix.sum((-1, -2))
    return agreement(matrix, labels) | {"ece": np.abs(gaps).sum(-1) / n, "brier": error / n}


def by_class(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1 (..., C) of confusion matrices, 0 where undefined."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    support, predicted = matrix.sum(-1), matrix.sum(-2)
    return _ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, support + predicted)


def agreement(matrix: Floats, labels: Sequence[str]) -> dict[str, Floats]:
    """Compute the figures that need only confusion matrices (..., C, C), not probabilities."""
    _, recall, f1 = by_class(matrix)
    support, predicted = matrix.sum(-1), matrix.sum(-2)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    n, right, occurs = support.sum(-1), hits.sum(-1), support > 0
    expressed = np.array([label.lower() not in NEUTRAL for label in labels])
    spread = (n**2 - (predicted**2).sum(-1)) * (n**2 - (support**2).sum(-1))
    covariance = right * n - (predicted * support).sum(-1)
    return {
        "weighted_f1": 100 * (f1 * support).sum(-1) / n,
        "macro_f1": 100 * _mean(f1, occurs),
        "accuracy": 100 * right / n,
        "macro_recall": 100 * _mean(recall, occurs),
        "micro_f1_without_neutral": 100
        * _ratio(2 * hits[..., expressed].sum(-1), (support + predicted)[..., expressed].sum(-1)),
        "macro_f1_without_neutral": 100 * _mean(f1, occurs & expressed),
        "mcc": _ratio(covariance, np.sqrt(spread)),
    }


@dataclass(frozen=True)
class Course:
    """A system's performance in the course of a dialogue.

    Attributes:
        turns: number of scored turns in each bin of `TURN_BINS`.
        weighted_f1: of each bin, percent; None for an empty bin.
        first_right: the turn, counted from 1, of a dialogue's first correct label, mean over the dialogues
            that have one.
        never_right: share of the dialogues without a correct label.
        flips: share of turns whose label differs from that of the scored turn before.
        gold_flips: the same for the gold labels, as a perfect system would.
    """

    turns: Mapping[str, int]
    weighted_f1: Mapping[str, float | None]
    first_right: float | None
    never_right: float
    flips: float
    gold_flips: float


def course(predictions: Predictions) -> Course:
    """Compute scores by turn, the time to the first correct label, and flips."""
    predicted, gold, turn = predictions.predicted, predictions.gold, predictions.turn
    turns, f1 = {}, {}
    for name, (low, high) in TURN_BINS.items():
        inside = (turn >= low) & (turn < (np.inf if high is None else high))
        turns[name] = int(inside.sum())
        matrix = np.zeros((len(predictions.labels),) * 2)
        np.add.at(matrix, (gold[inside], predicted[inside]), 1)
        f1[name] = float(agreement(matrix, predictions.labels)["weighted_f1"]) if turns[name] else None
    starts = _starts(predictions.dialogue)
    never = np.iinfo(np.int64).max
    first = np.minimum.reduceat(np.where(predicted == gold, turn + 1, never), starts)  # (K,)
    some = first < never
    after = np.setdiff1d(np.arange(len(gold)), starts)  # scored turns that have one before them
    return Course(
        turns=turns,
        weighted_f1=f1,
        first_right=float(first[some].mean()) if some.any() else None,
        never_right=float(1 - some.mean()),
        flips=float((predicted[after] != predicted[after - 1]).mean()) if len(after) else 0.0,
        gold_flips=float((gold[after] != gold[after - 1]).mean()) if len(after) else 0.0,
    )


def select(predictions: Predictions, keep: NDArray[np.bool_]) -> Predictions:
    """Select the turns to keep."""
    return replace(
        predictions,
        **{name: getattr(predictions, name)[keep] for name in ("probabilities", "gold", "dialogue", "turn")},
    )


def _starts(dialogue: Integers) -> Integers:
    return np.flatnonzero(np.append(True, dialogue[1:] != dialogue[:-1]))


def _gaps(p: Floats, gold: Integers, bins: int) -> Floats:
    """Return confidence less hit of each turn in the column of its bin, (N, bins)."""
    confidence = p.max(1)
    gaps = np.zeros((len(gold), bins))
    for column, part in enumerate(np.array_split(np.argsort(confidence, kind="stable"), bins)):
        gaps[part, column] = confidence[part] - (p[part].argmax(1) == gold[part])
    return gaps


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=np.asarray(below) > 0)


def _mean(values: Floats, where: NDArray[np.bool_]) -> Floats:
    return _ratio((values * where).sum(-1), where.sum(-1).astype(np.float64))
