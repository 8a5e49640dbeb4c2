"""A bias per label, selected on held-out turns.

A network trained with resampled or reweighted labels has no particular prior. Predicting rare labels more
often than they are likely improves scores that count rare and frequent labels alike (Menon et al., 2021,
logit adjustment), but not scores over all turns. Two numbers are selected: the share of each label's log
frequency to subtract from its logit, and a further bias of neutral.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from erc_models.evaluation.metrics import NEUTRAL, Floats, Integers, agreement
from erc_models.networks.streaming import StreamingModel

STRENGTHS = np.arange(-1.0, 1.51, 0.1)
"""Shares of the log frequencies to subtract: below 0 favours frequent labels, above 0 rare ones."""
RESERVES = np.arange(-2.0, 2.01, 0.2)
"""Further biases of neutral."""
CHOSEN_BY = ("micro_f1_without_neutral", "macro_f1_without_neutral")
"""The bias maximises the mean of these figures."""


def bias_of(counts: Floats, neutral: int, strength: float, reserve: float) -> Floats:
    """Return the bias of each label (C,), 0 for a label of mean log frequency.

    Args:
        counts: count of each label (C,).
        neutral: index of neutral.
        strength: share of the log frequency to subtract.
        reserve: further bias of neutral.
    """
    logs = np.log(np.maximum(counts, 1))
    bias = -strength * (logs - logs.mean())
    bias[neutral] += reserve
    return bias


def worth(logits: Floats, gold: Integers, labels: Sequence[str]) -> float:
    """Return the mean of the figures of `CHOSEN_BY`, in percent, of logits (N, C)."""
    c = len(labels)
    matrix = np.bincount(gold * c + logits.argmax(1), minlength=c * c).reshape(c, c).astype(np.float64)
    found = agreement(matrix, labels)
    return float(np.mean([found[name] for name in CHOSEN_BY]))


def choose(logits: Floats, gold: Integers, labels: Sequence[str]) -> Floats:
    """Select the bias (C,) with the best `worth` on held-out turns.

    Args:
        logits: (N, C).
        gold: (N,).
        labels: the labels; one must be in `NEUTRAL`.

    Raises:
        ValueError: no label is neutral.
    """
    neutral = next((i for i, label in enumerate(labels) if label.lower() in NEUTRAL), None)
    if neutral is None:
        raise ValueError(f"expected neutral among the labels, got {', '.join(labels)}")
    counts = np.bincount(gold, minlength=len(labels)).astype(np.float64)
    biases = [bias_of(counts, neutral, s, r) for s in STRENGTHS for r in RESERVES]
    return max(biases, key=lambda bias: worth(logits + bias, gold, labels))


@torch.no_grad()
def add(network: StreamingModel, bias: Floats) -> None:
    """Add a bias (C,) to that of a network's last layer, in place.

    Raises:
        ValueError: the network has no last layer with a bias for each label.
    """
    layer = getattr(network, "head", None) or getattr(network, "text", None)
    own = getattr(layer, "bias", None)
    if not isinstance(own, Tensor) or own.shape != bias.shape:
        raise ValueError(f"expected a network with a bias for each label, got {type(network).__name__}")
    own += torch.from_numpy(bias).to(own)
