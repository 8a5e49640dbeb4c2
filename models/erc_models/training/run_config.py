"""The configuration of a training run (``models/configs``): the network, its data, the training."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from erc_models.formats.checkpoint_files import build
from erc_models.networks.checkpoint import ARCHITECTURES
from erc_models.training.fine_tuning import FineTuning


@dataclass(frozen=True)
class Data:
    """The sets to train on and to score.

    Attributes:
        train: names of the sets to train on, together.
        dev: names of the sets to score.
        select: the epoch is selected by the mean score over these ``set:condition``, see `CONDITIONS`.
        corpus_weights: weight of each corpus in the loss, by default 1.
        unseen: sets whose sentences no training dialogue may share (corpora of one show overlap).
        decide: a ``set:condition`` of dev without training dialogues, on which a bias for each label is
            selected after training (see `label_bias`); "" leaves the network's bias.
    """

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    corpus_weights: dict[str, float] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    decide: str = ""


@dataclass(frozen=True)
class Training:
    """Settings of a run.

    Attributes:
        epochs: maximum number of epochs.
        patience: stop after this many epochs without a better dev score.
        batch_dialogues, batch_turns: maximum number of dialogues, of similar length, and of turns in a batch
            (0 turns: no limit).
        share: share of the training dialogues drawn for each epoch.
        balance: 0 draws dialogues uniformly, 1 in proportion to the mean inverse frequency of their labels.
        lr, lr_decay: Adam's learning rate and its factor per epoch (1e-3 and 0.97 in the SI-LSTM paper).
        warmup: share of all steps in which the learning rate rises; then it falls to 0 (0: no schedule).
        weight_decay: decoupled weight decay.
        clip_norm: the gradient of each of the network's parameter groups is clipped to this norm.
        label_smoothing: of the target distribution.
        soft_weight: weight of a set's soft labels, if any, in the target.
        class_weight_power: a class of n utterances in a corpus has the weight n^-power there.
        r_drop: weight of the divergence of two passes under different dropout (Liang et al., 2021).
        text_dropout: probability that a turn with audio loses its text; half applies to whole dialogues.
        audio_dropout: probability that a turn with text loses its audio, likewise.
        group_dropout: probability that a group of acoustic features is lost if another is present, likewise.
        ema: decay per step of the averaged weights, which are scored and saved.
        metric: the field of `Scores` to select by.
        seed: of weights, order and dropout.
    """

    epochs: int = 40
    patience: int = 8
    batch_dialogues: int = 32
    batch_turns: int = 0
    share: float = 1.0
    balance: float = 0.0
    lr: float = 1e-3
    lr_decay: float = 0.97
    warmup: float = 0.0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    soft_weight: float = 0.5
    class_weight_power: float = 0.5
    r_drop: float = 0.0
    text_dropout: float = 0.1
    audio_dropout: float = 0.2
    group_dropout: float = 0.2
    ema: float = 0.99
    metric: str = "weighted_f1"
    seed: int = 0


@dataclass(frozen=True)
class RunConfig:
    """A configuration file: ``architecture``, ``[model]``, ``[data]``, ``[training]``, ``[text_encoder]``."""

    architecture: str
    model: Mapping[str, object]
    data: Data
    training: Training
    text_encoder: FineTuning | None = None


def read_config(path: Path) -> RunConfig:
    """Read a TOML configuration.

    Raises:
        ValueError: a key or an architecture is unknown.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    known = ("architecture", "model", "data", "training", "text_encoder")
    unknown = table.keys() - set(known)
    if unknown:
        raise ValueError(f"{path}: expected {', '.join(known)}, got {', '.join(sorted(unknown))}")
    architecture = table.get("architecture", "si_lstm")
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: expected an architecture of {', '.join(ARCHITECTURES)}, got {architecture!r}"
        )
    model = table.get("model", {})
    build(ARCHITECTURES[architecture][1], model, f"{path}, model")
    tuning = table.get("text_encoder")
    return RunConfig(
        architecture,
        model,
        build(Data, table.get("data", {}), f"{path}, data"),
        build(Training, table.get("training", {}), f"{path}, training"),
        None if tuning is None else build(FineTuning, tuning, f"{path}, text_encoder"),
    )
