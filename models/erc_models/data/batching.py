"""Batches of a feature set for training: order, class weights and modality dropout."""

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
    """Group dialogues of similar length into batches.

    Args:
        lengths: turns of every dialogue.
        dialogues: indices of the dialogues to take, in any order, with repeats.
        size: maximum number of dialogues in a batch.
        turns: maximum number of turns in a batch, or None; a longer dialogue is a batch of its own.
        rng: shuffles batches, and dialogues of nearly the same length; None: sorted by length.
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
    """Draw the dialogues of an epoch.

    Args:
        features: the training set.
        share: share of the dialogues to draw.
        balance: 0 takes every dialogue with the same probability, 1 in proportion to the mean inverse
            frequency of its labels in its corpus: dialogues of rare emotions come more often.
        rng: source of randomness.

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
    """Return mean and standard deviation (D_audio,) of the acoustic features, without missing values."""
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
    """Return the weight of each label in each corpus (corpora, C); over a corpus its mean is the corpus's.

    Args:
        features: the training set.
        power: a class of n utterances in a corpus has the weight n^-power there.
        corpus_weights: weight of each corpus, by default 1.
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
    """Mask text, audio or a group of audio at random, but never all modalities of a turn.

    Args:
        x: whole dialogues, (B, T, ...).
        text: probability that a turn with audio loses its text; half of it applies to whole dialogues.
        audio: probability that a turn with text loses its audio, likewise.
        group: probability that a group of acoustic features is lost if another is present, likewise.
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
