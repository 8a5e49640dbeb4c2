"""Intervals of scores: whole dialogues are resampled, for the turns of one dialogue are not independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erc_models.evaluation.metrics import Floats, agreement, figures

DRAWS = 1000


@dataclass(frozen=True)
class Interval:
    """The middle 95% of bootstrap draws."""

    low: float
    high: float


def resample(dialogues: int, draws: int, seed: int) -> Floats:
    """How often each dialogue is drawn, (draws, K): as many as there are, with replacement."""
    chances = np.full(dialogues, 1 / dialogues)
    return np.random.default_rng(seed).multinomial(dialogues, chances, draws).astype(np.float64)


def intervals(
    tallies: Floats, labels: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval]:
    """95% intervals of every figure but the calibration error, dialogues resampled.

    A resampled calibration error is larger than that of the whole set, for what cancels out within a bin of
    the whole does not in a draw: its draws are no interval of it.

    Args:
        tallies: (S, K, M), `tally` of S runs (seeds) on the same K dialogues; what is drawn is the mean over
            the runs, so the interval says how sure the mean is for other dialogues, not for other seeds.
        labels: the emotions.
        draws: of the bootstrap.
        seed: of the draws.
    """
    sums = np.einsum("dk,skm->dsm", resample(tallies.shape[1], draws, seed), tallies, optimize=True)
    return {name: _middle(values.mean(1)) for name, values in figures(sums, labels).items() if name != "ece"}


@dataclass(frozen=True)
class Difference:
    """How much better the second of two systems is, mean over runs, with the middle 95% of draws."""

    mean: float
    low: float
    high: float


def paired_differences(
    first: Floats, second: Floats, labels: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> dict[str, Difference]:
    """Differences second - first on the same dialogues, which are resampled together.

    Args:
        first: (S, K, C, C), confusion matrices of S runs on K dialogues, see `confusions`.
        second: (S', K, C, C).
        labels: the emotions.
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        ValueError: the gold labels of a dialogue are not the same in both.
    """
    if first.shape[1:] != second.shape[1:] or not np.array_equal(first[0].sum(-1), second[0].sum(-1)):
        raise ValueError(
            f"expected two systems scored on the same dialogues, got {first.shape[1]} and {second.shape[1]} "
            "dialogues whose gold labels differ"
        )
    weights = np.concatenate([np.ones((1, first.shape[1])), resample(first.shape[1], draws, seed)])
    before, after = (
        agreement(np.einsum("dk,skij->dsij", weights, matrices, optimize=True), labels)
        for matrices in (first, second)
    )
    found = {}
    for name in before:
        values = after[name].mean(1) - before[name].mean(1)  # (1 + draws,), the first of all dialogues once
        middle = _middle(values[1:])
        found[name] = Difference(float(values[0]), middle.low, middle.high)
    return found


def _middle(values: Floats) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
