"""Scores of predicted emotions, as the literature reports them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Agreement of predicted probabilities with gold labels, every figure in percent but `ece`.

    Attributes:
        weighted_f1: F1 per class weighted by its share of the gold labels (wF1).
        macro_f1: plain mean of F1 over classes.
        accuracy: share of right labels.
        ece: expected calibration error over 15 equal-mass bins, 0 to 1.
        per_class: F1 of each label.
    """

    weighted_f1: float
    macro_f1: float
    accuracy: float
    ece: float
    per_class: dict[str, float]


def score(probabilities: np.ndarray, gold: np.ndarray, labels: tuple[str, ...]) -> Scores:
    """Score (N, C) probabilities against (N,) gold indices."""
    predicted = probabilities.argmax(1)
    f1 = np.zeros(len(labels))
    support = np.bincount(gold, minlength=len(labels))
    for c in range(len(labels)):
        hits = int(((predicted == c) & (gold == c)).sum())
        total = int((predicted == c).sum() + support[c])
        f1[c] = 2 * hits / total if total else 0.0
    return Scores(
        weighted_f1=100 * float((f1 * support).sum() / support.sum()),
        macro_f1=100 * float(f1[support > 0].mean()),
        accuracy=100 * float((predicted == gold).mean()),
        ece=expected_calibration_error(probabilities, gold),
        per_class={label: 100 * float(f1[c]) for c, label in enumerate(labels)},
    )


def expected_calibration_error(probabilities: np.ndarray, gold: np.ndarray, bins: int = 15) -> float:
    """Mean gap of confidence and accuracy over equal-mass bins of confidence."""
    confidence = probabilities.max(1)
    hit = probabilities.argmax(1) == gold
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(confidence[part].mean() - hit[part].mean()) * len(part)
        for part in np.array_split(order, bins)
        if len(part)
    ]
    return float(sum(gaps) / len(gold))
