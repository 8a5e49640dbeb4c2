"""A learner: a network and, if it is fine-tuned, the text encoder; its batches and its scores on dev."""

import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.data.feature_store import CONDITIONS, DialogueBatch, FeatureSet
from erc_models.evaluation.metrics import Scores, score
from erc_models.evaluation.prediction import predict_logits, readable
from erc_models.networks.streaming import StreamingModel
from erc_models.networks.text_encoder import TextEncoder
from erc_models.training.fine_tuning import LiveText


@dataclass(frozen=True, eq=False)
class Corpus:
    """Dialogues to train on or to score.

    Attributes:
        features: speakers, labels, acoustic features, and frozen text features.
        text: the words, if the encoder is trained.
    """

    features: FeatureSet
    text: LiveText | None = None


class Learner(nn.Module):
    """A network and the text encoder that is trained with it, if any."""

    def __init__(self, network: StreamingModel, encoder: TextEncoder | None = None) -> None:
        super().__init__()
        self.network = network
        self.encoder = encoder

    def read(self, corpus: Corpus, dialogues: Sequence[int], rng: random.Random | None) -> DialogueBatch:
        """Make a batch on the learner's device and encode its words; `rng`, if given, corrupts some."""
        batch = corpus.features.batch(dialogues).to(next(self.parameters()).device)
        if self.encoder is not None and corpus.text is not None:
            with half_precision(batch.label.device):
                batch = corpus.text.fill(batch, dialogues, self.encoder, rng)
        return batch


def half_precision(device: torch.device) -> AbstractContextManager:
    """Return automatic mixed precision in bfloat16 on a GPU, and nothing on a CPU.

    On a CPU without matrix tiles it is slower, and some virtual machines report tiles that they do not have,
    so that the process dies of an illegal instruction.
    """
    if device.type == "cpu":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def labelled_logits(
    learner: Learner, corpus: Corpus, condition: str = "all"
) -> tuple[Tensor, Tensor, Tensor]:
    """Predict the labelled utterances that are readable in a condition.

    Returns:
        Logits (N, C), labels (N,) and their rows in the feature set (N,), ascending.
    """
    learner.eval()
    features = corpus.features

    def read(dialogues: Sequence[int]) -> DialogueBatch:
        return learner.read(corpus, dialogues, None)

    logits = predict_logits(learner.network, features, condition, read)
    rows = torch.from_numpy(readable(features, condition)).nonzero().squeeze(1)
    return logits[rows], features.label[rows], rows


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature in [1/4, 4] that minimises the log loss."""
    grid = torch.logspace(-2, 2, 401, base=2.0).tolist()
    losses = [float(F.cross_entropy(logits / t, labels)) for t in grid]
    return grid[int(np.argmin(losses))]


def dev_scores(learner: Learner, dev: Mapping[str, Corpus], temperature: float = 1.0) -> dict[str, Scores]:
    """Score every set in every condition in which it is readable, by ``set:condition``."""
    found = {}
    for name, corpus in dev.items():
        heard = bool(corpus.features.audio_mask.any())
        for condition in CONDITIONS if heard else CONDITIONS[:1]:
            logits, labels, _ = labelled_logits(learner, corpus, condition)
            if len(labels):
                probabilities = (logits / temperature).softmax(-1).numpy()
                found[f"{name}:{condition}"] = score(probabilities, labels.numpy(), corpus.features.labels)
        if not heard and f"{name}:all" in found:
            found[f"{name}:text"] = found[f"{name}:all"]  # the set has text only
    return found
