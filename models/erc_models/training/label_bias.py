"""How readily each label is given: a bias per label, chosen on turns that nothing was trained on.

A network trained where rare labels are drawn or weighed more often is at no prior in particular. Scores that
count rare labels as much as frequent ones are best where rare labels are given more readily than they are
likely (Menon et al., 2021, logit adjustment), scores of all turns where they are not. Two numbers are chosen:
how much of each label's log frequency is taken from its logit, and how much neutral is held back beside.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from erc_models.evaluation.metrics import NEUTRAL, Floats, Integers, agreement
from erc_models.networks.streaming import StreamingModel

STRENGTHS = np.arange(-1.0, 1.51, 0.1)
"""Of the log frequencies: below 0 frequent labels become more ready, above 0 rare ones."""
RESERVES = np.arange(-2.0, 2.01, 0.2)
"""What is added to neutral beside."""
CHOSEN_BY = ("micro_f1_without_neutral", "macro_f1_without_neutral")
"""The mean of these is what the bias is chosen by."""


def bias_of(counts: Floats, neutral: int, strength: float, reserve: float) -> Floats:
    """The bias of each label (C,), 0 for a label of mean log frequency.

    Args:
        counts: how often each label occurs (C,).
        neutral: its index.
        strength: share of the log frequency that is taken off.
        reserve: added to neutral.
    """
    logs = np.log(np.maximum(counts, 1))
    bias = -strength * (logs - logs.mean())
    bias[neutral] += reserve
    return bias


def worth(logits: Floats, gold: Integers, labels: Sequence[str]) -> float:
    """Mean of the figures of `CHOSEN_BY`, in percent, of logits (N, C)."""
    c = len(labels)
    matrix = np.bincount(gold * c + logits.argmax(1), minlength=c * c).reshape(c, c).astype(np.float64)
    found = agreement(matrix, labels)
    return float(np.mean([found[name] for name in CHOSEN_BY]))


def choose(logits: Floats, gold: Integers, labels: Sequence[str]) -> Floats:
    """The bias (C,) under which held-out turns are worth most.

    Args:
        logits: (N, C).
        gold: (N,).
        labels: with one of `NEUTRAL` among them.

    Raises:
        ValueError: there is no neutral.
    """
    neutral = next((i for i, label in enumerate(labels) if label.lower() in NEUTRAL), None)
    if neutral is None:
        raise ValueError(f"expected neutral among the labels, got {', '.join(labels)}")
    counts = np.bincount(gold, minlength=len(labels)).astype(np.float64)
    biases = [bias_of(counts, neutral, s, r) for s in STRENGTHS for r in RESERVES]
    return max(biases, key=lambda bias: worth(logits + bias, gold, labels))


@torch.no_grad()
def add(network: StreamingModel, bias: Floats) -> None:
    """Add a bias (C,) to a network's own, in place.

    Raises:
        ValueError: the network has no layer that gives logits and nothing else.
    """
    layer = getattr(network, "head", None) or getattr(network, "text", None)
    own = getattr(layer, "bias", None)
    if not isinstance(own, Tensor) or own.shape != bias.shape:
        raise ValueError(f"expected a network with a bias for each label, got {type(network).__name__}")
    own += torch.from_numpy(bias).to(own)
