"""The sets of a configuration: dialogues of the corpora, and their features."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erc_models.data.asr_noise import Vocabulary
from erc_models.data.datasets import (
    CORPUS_LABELS,
    DAILYDIALOG_TO_MELD,
    DESCRIPTORS,
    MELD_LABELS,
    Dialogue,
    relabel,
)
from erc_models.data.feature_store import NO_LABEL, FeatureSet, concatenate
from erc_models.data.overlap import held_out, without_overlap, without_repeats
from erc_models.data.releases import read
from erc_models.training.fine_tuning import FineTuning, LiveText
from erc_models.training.learner import Corpus
from erc_models.training.run_config import Data


def corpus_dialogues(name: str, folder: Path) -> list[Dialogue]:
    """Read the dialogues of ``<corpus>_<split>``, DailyDialog's with MELD's names of the emotions.

    The suffixes ``_fit`` and ``_held`` name the two parts of a split, see `held_out`; ``_dev_new`` is dev
    without the dialogues that train repeats.

    Raises:
        ValueError: there is no such corpus.
    """
    whole, _, part = name.rpartition("_")
    if part in ("fit", "held"):
        return held_out(corpus_dialogues(whole, folder))[part == "held"]
    if part == "new":
        training = corpus_dialogues(f"{whole.rpartition('_')[0]}_train", folder)
        return without_repeats(corpus_dialogues(whole, folder), training)
    path = folder / whole / f"{part}.jsonl.gz"
    if not whole or not path.is_file():
        raise ValueError(f"{name}: expected a corpus at {path}, found no such file")
    dialogues = read(path)
    return relabel(dialogues, DAILYDIALOG_TO_MELD) if whole == "dailydialog" else dialogues


def corpus_labels(dialogues: Sequence[Dialogue]) -> tuple[str, ...]:
    """Return the labels of a corpus's dialogues as `corpus_dialogues` names them."""
    corpus = dialogues[0].corpus
    return MELD_LABELS if corpus == "dailydialog" else CORPUS_LABELS[corpus]


def feature_set(
    dialogues: Sequence[Dialogue],
    labels: Sequence[str],
    text: Tensor,
    audio: np.ndarray,
    spec: dict,
    soft: Tensor | None = None,
    groups: tuple[int, ...] = (len(DESCRIPTORS),),
) -> FeatureSet:
    """Build a feature set from dialogues of one corpus and their features (N, ...) in the same order.

    Args:
        dialogues: speakers and labels.
        labels: the emotions; an utterance with another one counts as unlabelled.
        text: (N, D_text).
        audio: (N, D), NaN for missing values.
        spec: of the features.
        soft: (N, C) target probabilities; None: the labels, one-hot.
        groups: sizes of the groups of acoustic features.
    """
    flat = [u for d in dialogues for u in d.utterances]
    index = {label: i for i, label in enumerate(labels)}
    label = torch.tensor([index.get(u.emotion or "", NO_LABEL) for u in flat])
    known = np.split(np.isfinite(audio), np.cumsum(groups)[:-1], axis=1)
    certain = torch.nn.functional.one_hot(label.clamp(min=0), len(labels)) * (label >= 0).unsqueeze(1).float()
    return FeatureSet(
        text=text.half(),
        audio=torch.from_numpy(audio).float(),
        text_mask=torch.tensor([bool(u.text) for u in flat]),
        audio_mask=torch.from_numpy(np.stack([group.any(1) for group in known], 1)),
        speaker=torch.tensor([i for d in dialogues for i in d.speaker_ids()]),
        label=label,
        offsets=torch.tensor([0, *np.cumsum([len(d.utterances) for d in dialogues])]),
        corpus=torch.zeros(len(dialogues), dtype=torch.long),
        labels=tuple(labels),
        corpora=(dialogues[0].corpus,),
        names=tuple(d.name for d in dialogues),
        audio_groups=groups,
        spec=spec,
        soft=certain if soft is None else soft,
    )


def word_set(dialogues: Sequence[Dialogue], labels: Sequence[str], width: int) -> FeatureSet:
    """Build a feature set of dialogues without voices, whose words are encoded later.

    Args:
        dialogues: of one corpus.
        labels: the emotions; an utterance with another one counts as unlabelled.
        width: size of the text features.
    """
    turns = sum(len(d.utterances) for d in dialogues)
    text, silence = torch.zeros(turns, width), np.full((turns, 1), np.nan, dtype=np.float32)
    return replace(feature_set(dialogues, labels, text, silence, {}, groups=(1,)), soft=None)


def word_corpora(
    data: Data, folder: Path, tuning: FineTuning, width: int
) -> tuple[Corpus, dict[str, Corpus]]:
    """Read training and dev sets of words only, to train an encoder.

    Raises:
        ValueError: a corpus is missing, or the training corpora have different labels.
    """
    unseen = [d for name in data.unseen for d in corpus_dialogues(name, folder)]
    parts = [corpus_dialogues(name, folder) for name in data.train]
    if unseen:
        parts = [without_overlap(part, unseen) for part in parts]
    labels = {corpus_labels(part) for part in parts}
    if len(labels) != 1:
        raise ValueError(f"train: expected corpora of the same labels, got {sorted(labels)}")
    names = labels.pop()
    dialogues = [d for part in parts for d in part]
    vocabulary = Vocabulary.of(u.text for d in dialogues for u in d.utterances)
    features = concatenate([word_set(part, names, width) for part in parts])
    dev = {}
    for name in data.dev:
        heard = corpus_dialogues(name, folder)
        dev[name] = Corpus(word_set(heard, names, width), LiveText(heard, tuning))
    text = LiveText(dialogues, tuning, vocabulary)
    if tuning.single_turns:
        features, text = features.by_turn(), text.by_turn()
    return Corpus(features, text), dev


def frozen_corpora(data: Data, folder: Path) -> tuple[Corpus, dict[str, Corpus]]:
    """Read training and dev sets of frozen features.

    Raises:
        ValueError: a set is missing, or its features differ from those of the others.
    """
    training = concatenate([FeatureSet.load(folder / f"{name}.safetensors") for name in data.train])
    dev = {name: FeatureSet.load(folder / f"{name}.safetensors") for name in data.dev}
    for name, other in dev.items():
        if (other.labels, other.audio_groups) != (training.labels, training.audio_groups):
            raise ValueError(f"{name}: expected the labels and features of the training set, got others")
    return Corpus(training), {name: Corpus(other) for name, other in dev.items()}
