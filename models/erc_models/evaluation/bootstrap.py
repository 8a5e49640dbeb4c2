"""Bootstrap intervals. Whole dialogues are resampled, since the turns of a dialogue are not independent."""

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
    """Return how often each of K dialogues is drawn, (draws, K), when K are drawn with replacement."""
    chances = np.full(dialogues, 1 / dialogues)
    return np.random.default_rng(seed).multinomial(dialogues, chances, draws).astype(np.float64)


def intervals(
    tallies: Floats, labels: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval]:
    """Return the 95% interval of every figure but the calibration error.

    The calibration error has none: gaps that cancel within a bin of the whole set do not cancel in a draw, so
    resampled errors are larger than that of the whole set.

    Args:
        tallies: (S, K, M), `tally` of S runs (seeds) on the same K dialogues. The interval is that of the
            mean over the runs: its uncertainty over dialogues, not over seeds.
        labels: the emotions.
        draws: number of bootstrap draws.
        seed: of the draws.
    """
    sums = np.einsum("dk,skm->dsm", resample(tallies.shape[1], draws, seed), tallies, optimize=True)
    return {name: _middle(values.mean(1)) for name, values in figures(sums, labels).items() if name != "ece"}


@dataclass(frozen=True)
class Difference:
    """The second of two systems less the first, mean over runs, with the middle 95% of bootstrap draws."""

    mean: float
    low: float
    high: float


def paired_differences(
    first: Floats, second: Floats, labels: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> dict[str, Difference]:
    """Return the differences second - first on the same dialogues, which are resampled together.

    Args:
        first: (S, K, C, C), confusion matrices of S runs on K dialogues, see `confusions`.
        second: (S', K, C, C).
        labels: the emotions.
        draws: number of bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: the gold labels of a dialogue differ.
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
        values = after[name].mean(1) - before[name].mean(1)  # (1 + draws,), first without resampling
        middle = _middle(values[1:])
        found[name] = Difference(float(values[0]), middle.low, middle.high)
    return found


def _middle(values: Floats) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
