"""What a configuration of ``models/configs`` says: the network, its data, the training."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from erc_models.networks.checkpoint import ARCHITECTURES, build
from erc_models.training.fine_tuning import FineTuning


@dataclass(frozen=True)
class Data:
    """What to train and to score on.

    Attributes:
        train: names of the sets to train on, together.
        dev: names of the sets to score on.
        select: what to choose the epoch by, the mean over these ``set:condition``, see `evaluate.CONDITIONS`.
        corpus_weights: weight of a corpus in the loss, 1 where not named.
        unseen: sets whose sentences no training dialogue may share (the corpora of one show overlap).
        decide: a ``set:condition`` of those to score on, of no training dialogue, by which a bias is chosen
            for each label after the training (see `label_bias`); "" leaves the network's own.
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
        epochs: at most so many.
        patience: stop after so many epochs without a better dev score.
        batch_dialogues, batch_turns: dialogues of similar length per step, at most so many and together at
            most so many turns (0: however many).
        share: of the training dialogues, drawn anew for every epoch.
        balance: 0 draws dialogues alike, 1 in proportion to the mean inverse frequency of their labels.
        lr, lr_decay: Adam's step and its factor per epoch (1e-3 and 0.97 in the SI-LSTM paper).
        warmup: share of all steps in which the step size rises; after it falls to 0 (0: neither).
        weight_decay: decoupled.
        clip_norm: the gradient's norm of each of the network's parameter groups is cut to this.
        label_smoothing: of the target distribution.
        soft_weight: share of the sets' soft labels, where they have some, in the target.
        class_weight_power: a class of n utterances in a corpus weighs n^-power there.
        r_drop: weight of the divergence of two passes under different dropout (Liang et al., 2021).
        text_dropout: how often a turn that has audio loses its text, half of it for whole dialogues.
        audio_dropout: how often a turn that has text loses its audio, likewise.
        group_dropout: how often a group of acoustic features is lost where another is there, likewise.
        ema: decay per step of the averaged weights, which are the ones scored and kept.
        metric: the field of `Scores` to choose by.
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
