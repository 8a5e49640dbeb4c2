"""From feature sets to what a training step reads: order, weights, and modalities hidden at random."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from erc_models.data.feature_store import NO_LABEL, FeatureSet
from erc_models.networks.streaming import TurnInput


def turn_batches(
    lengths: Sequence[int],
    dialogues: Sequence[int],
    size: int,
    turns: int | None,
    rng: random.Random | None,
) -> list[list[int]]:
    """Batches of dialogues of similar length.

    Args:
        lengths: turns of every dialogue.
        dialogues: indices of those to take, in whatever order, repeated ones included.
        size: at most so many dialogues a batch.
        turns: and at most so many turns, where given; a longer dialogue is a batch of its own.
        rng: of the order of batches and of near lengths; None: by length.
    """
    jitter = [rng.uniform(0, 2) if rng else 0.0 for _ in dialogues]
    order = sorted(range(len(dialogues)), key=lambda i: lengths[dialogues[i]] + jitter[i])
    parts: list[list[int]] = []
    room = 0
    for i in order:
        k = dialogues[i]
        if not parts or len(parts[-1]) == size or (turns is not None and lengths[k] > room):
            parts.append([])
            room = turns or 0
        parts[-1].append(k)
        room -= lengths[k]
    if rng:
        rng.shuffle(parts)
    return parts


def draw(features: FeatureSet, share: float, balance: float, rng: random.Random) -> list[int]:
    """The dialogues of an epoch.

    Args:
        features: the training set.
        share: of the dialogues to take.
        balance: 0 takes every dialogue with the same probability, 1 in proportion to the mean inverse
            frequency of its labels in its corpus: dialogues of rare emotions come more often.
        rng: of the draw.

    Returns:
        Indices; without balance each at most once, in order where `share` is 1.
    """
    count = round(share * len(features))
    if balance == 0:
        return list(range(len(features))) if share == 1 else sorted(rng.sample(range(len(features)), count))
    corpus = features.corpus.repeat_interleave(features.offsets.diff())
    inverse = torch.zeros(len(features.label))
    for index in range(len(features.corpora)):
        rows = (corpus == index) & (features.label != NO_LABEL)
        frequency = torch.bincount(features.label[rows], minlength=len(features.labels)).float()
        inverse[rows] = frequency.sum() / frequency[features.label[rows]] / len(features.labels)
    lengths = features.lengths()
    means = [float(part.mean()) for part in inverse.split(lengths)]
    return rng.choices(range(len(features)), [mean**balance for mean in means], k=count)


def audio_statistics(features: FeatureSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D_audio,) of what was measured in each acoustic feature."""
    groups = torch.arange(len(features.audio_groups)).repeat_interleave(torch.tensor(features.audio_groups))
    total = torch.zeros(len(groups), dtype=torch.double)
    squares, count = total.clone(), total.clone()
    for audio, mask in zip(features.audio.split(4096), features.audio_mask.split(4096), strict=True):
        known = mask[:, groups] & audio.isfinite()
        values = audio.double().where(known, 0.0)
        total += values.sum(0)
        squares += (values**2).sum(0)
        count += known.sum(0)
    count = count.clamp(min=1)
    mean = total / count
    std = (squares / count - mean**2).clamp(min=0).sqrt()
    return mean.float(), std.where(std > 1e-6, 1.0).float()


def class_weights(features: FeatureSet, power: float, corpus_weights: Mapping[str, float]) -> Tensor:
    """Weight (corpora, C) of each label in each corpus; its mean over a corpus is the corpus's weight.

    Args:
        features: the training set.
        power: a class of n utterances in a corpus weighs n^-power there.
        corpus_weights: weight of a corpus, 1 where not named.
    """
    unknown = corpus_weights.keys() - set(features.corpora)
    if unknown:
        raise ValueError(
            f"corpus_weights: expected corpora among {', '.join(features.corpora)}, got {', '.join(unknown)}"
        )
    corpus = features.corpus.repeat_interleave(features.offsets.diff())
    weights = torch.ones(len(features.corpora), len(features.labels))
    for index, name in enumerate(features.corpora):
        labels = features.label[(corpus == index) & (features.label != NO_LABEL)]
        count = torch.bincount(labels, minlength=len(features.labels)).float()
        raw = count.clamp(min=1) ** -power
        weights[index] = raw * count.sum() / (raw * count).sum().clamp(min=1e-9)
        weights[index] *= corpus_weights.get(name, 1.0)
    return weights


def drop_modalities(x: TurnInput, text: float, audio: float, group: float) -> TurnInput:
    """Sometimes hide text, audio or a group of audio; never all that a turn has.

    Args:
        x: whole dialogues, (B, T, ...).
        text: how often a turn that has audio loses its text, half of it for whole dialogues.
        audio: how often a turn that has text loses its audio, likewise.
        group: how often a group of acoustic features is lost where another is there, likewise.
    """

    def lost(rate: float) -> Tensor:
        b, t = x.text_mask.shape
        return (torch.rand(b, 1) < rate / 2) | (torch.rand(b, t) < rate / 2)

    heard = x.audio_mask.clone()
    for index in range(heard.shape[2]):
        others = heard.sum(2) > heard[..., index].long()
        heard[..., index] &= ~(lost(group) & others)
    read = x.text_mask & ~(lost(text) & heard.any(2))
    heard &= ~(lost(audio) & read).unsqueeze(2)
    return replace(x, text_mask=read, audio_mask=heard)
