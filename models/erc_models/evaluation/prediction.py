"""A network's predictions for the turns of a feature set, in the set's order."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from erc_models.data.batching import turn_batches
from erc_models.data.feature_store import NO_LABEL, DialogueBatch, FeatureSet, mask_modalities
from erc_models.evaluation import metrics
from erc_models.evaluation.metrics import Predictions
from erc_models.networks.calibration import Calibration
from erc_models.networks.streaming import StreamingModel

BATCH_DIALOGUES = 64


def masks(features: FeatureSet, condition: str) -> tuple[Tensor, Tensor]:
    """Return which turns have words (N,) and groups of acoustic features (N, G) that a condition may read."""
    return features.text_mask & (condition != "audio"), features.audio_mask & (condition != "text")


def readable(features: FeatureSet, condition: str) -> NDArray[np.bool_]:
    """Return which labelled turns (N,) have something that a condition may read."""
    text, audio = masks(features, condition)
    return ((text | audio.any(1)) & (features.label != NO_LABEL)).numpy()


def positions(features: FeatureSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the dialogue of each turn (N,) and its place in it (N,), both counted from 0."""
    lengths = features.lengths()
    turns = np.concatenate([np.arange(length) for length in lengths])
    return np.repeat(np.arange(len(lengths)), lengths), turns


@torch.no_grad()
def predict_logits(
    network: StreamingModel,
    features: FeatureSet,
    condition: str = "all",
    read: Callable[[Sequence[int]], DialogueBatch] | None = None,
) -> Tensor:
    """Return the logits (N, C) of all turns, on the CPU in float32.

    Args:
        network: in eval mode.
        features: N turns.
        condition: of `CONDITIONS`.
        read: dialogue indices -> their batch; by default that of `features`, on the network's device.
    """
    device = next(network.parameters()).device
    lengths = features.lengths()
    logits = torch.empty(len(features.text), len(features.labels))
    for part in turn_batches(lengths, range(len(lengths)), BATCH_DIALOGUES, None, None):
        batch = features.batch(part).to(device) if read is None else read(part)
        found = network(mask_modalities(batch.x, condition), batch.speaker).float().cpu()
        for row, k in zip(found, part, strict=True):
            logits[int(features.offsets[k]) : int(features.offsets[k + 1])] = row[: lengths[k]]
    return logits


def predict(
    network: StreamingModel,
    features: FeatureSet,
    condition: str = "all",
    calibration: Calibration | None = None,
    scored: np.ndarray | None = None,
) -> Predictions:
    """Return a network's predictions for the turns of a feature set.

    Args:
        network: in eval mode.
        features: N turns.
        condition: of `CONDITIONS`.
        calibration: of the logits; by default they stay as they are.
        scored: bool (N,), the turns to keep; by default those that are `readable`.

    Raises:
        ValueError: no turn is to be scored.
    """
    logits = predict_logits(network, features, condition)
    calibrated = (calibration or Calibration()).scale(logits.double(), *masks(features, condition))
    dialogue, turn = positions(features)
    everything = Predictions(
        probabilities=calibrated.softmax(-1).numpy(),
        gold=features.label.clamp(min=0).numpy(),
        dialogue=dialogue,
        turn=turn,
        labels=features.labels,
    )
    return metrics.select(everything, readable(features, condition) if scored is None else scored)
