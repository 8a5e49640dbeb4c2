"""Train a conversation network from precomputed features.

``python -m erc_models.train --config FILE --features DIR --out DIR`` reads the feature sets that the
configuration names (``DIR/<name>.safetensors``, see `feature_store`), trains, chooses the epoch on dev,
fits the temperature there and writes a checkpoint. An epoch of MELD takes seconds on two CPU cores.
"""

import argparse
import copy
import json
import logging
import math
import random
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.checkpoint import ARCHITECTURES, Checkpoint, build, save
from erc_models.evaluate import Scores, score
from erc_models.feature_store import NO_LABEL, DialogueBatch, FeatureSet, concatenate
from erc_models.streaming import StreamingModel, TurnInput
from erc_models.text_encoder import TextEncoder, TextEncoderConfig

log = logging.getLogger(__name__)

CONDITIONS = ("all", "text", "audio")
"""What the network may read when it is scored: everything there is, text alone, audio alone."""


@dataclass(frozen=True)
class Data:
    """Which feature sets to use.

    Attributes:
        train: names of the sets to train on, together.
        dev: names of the sets to score on.
        select: what to choose the epoch by, the mean over these ``set:condition`` (see `CONDITIONS`).
        corpus_weights: weight of a corpus in the loss, 1 where not named.
    """

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    corpus_weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """Settings of a run.

    Attributes:
        epochs: at most so many.
        patience: stop after so many epochs without a better dev score.
        batch_dialogues: dialogues of similar length per step.
        lr, lr_decay: Adam's step and its factor per epoch (1e-3 and 0.97 in the SI-LSTM paper).
        weight_decay: decoupled.
        clip_norm: the gradient's norm is cut to this.
        label_smoothing: of the target distribution.
        soft_weight: share of the sets' soft labels, where they have some, in the target.
        class_weight_power: a class of n utterances in a corpus weighs n^-power there.
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
    lr: float = 1e-3
    lr_decay: float = 0.97
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    soft_weight: float = 0.5
    class_weight_power: float = 0.5
    text_dropout: float = 0.1
    audio_dropout: float = 0.2
    group_dropout: float = 0.2
    ema: float = 0.99
    metric: str = "weighted_f1"
    seed: int = 0


@dataclass(frozen=True)
class RunConfig:
    """A whole configuration file: ``architecture``, ``[model]``, ``[data]``, ``[training]``."""

    architecture: str
    model: Mapping[str, object]
    data: Data
    training: Training


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run gives.

    Attributes:
        model: the averaged weights of the best epoch, in eval mode.
        temperature: fitted on what the epoch was chosen by.
        best_epoch: counted from 0.
        history: of every epoch, its mean loss and every dev score of the chosen metric.
        scores: of the best epoch, calibrated, by ``set:condition``.
    """

    model: StreamingModel
    temperature: float
    best_epoch: int
    history: list[dict[str, float]]
    scores: dict[str, Scores]


def read_config(path: Path) -> RunConfig:
    """Read a TOML configuration.

    Raises:
        ValueError: a key or an architecture is unknown.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    unknown = table.keys() - {"architecture", "model", "data", "training"}
    if unknown:
        raise ValueError(
            f"{path}: expected architecture, model, data and training, got {', '.join(sorted(unknown))}"
        )
    architecture = table.get("architecture", "si_lstm")
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: expected an architecture of {', '.join(ARCHITECTURES)}, got {architecture!r}"
        )
    model = table.get("model", {})
    build(ARCHITECTURES[architecture][1], model, f"{path}, model")
    return RunConfig(
        architecture,
        model,
        build(Data, table.get("data", {}), f"{path}, data"),
        build(Training, table.get("training", {}), f"{path}, training"),
    )


def audio_statistics(features: FeatureSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D_audio,) of what was measured in each acoustic feature."""
    groups = torch.arange(len(features.audio_groups)).repeat_interleave(torch.tensor(features.audio_groups))
    audio = features.audio.double()
    known = features.audio_mask[:, groups] & audio.isfinite()
    count = known.sum(0).clamp(min=1)
    audio = audio.where(known, 0.0)
    mean = audio.sum(0) / count
    variance = ((audio - mean).where(known, 0.0) ** 2).sum(0) / count
    std = variance.sqrt()
    return mean.float(), std.where(std > 1e-6, 1.0).float()


def class_weights(features: FeatureSet, settings: Training, corpus_weights: Mapping[str, float]) -> Tensor:
    """Weight (corpora, C) of each label in each corpus; its mean over a corpus is the corpus's weight."""
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
        raw = count.clamp(min=1) ** -settings.class_weight_power
        weights[index] = raw * count.sum() / (raw * count).sum().clamp(min=1e-9)
        weights[index] *= corpus_weights.get(name, 1.0)
    return weights


def length_batches(lengths: Sequence[int], size: int, rng: random.Random | None) -> list[list[int]]:
    """Dialogue indices in batches of similar length, shuffled where an `rng` is given."""
    jitter = [rng.uniform(0, 2) if rng else 0.0 for _ in lengths]
    order = sorted(range(len(lengths)), key=lambda i: lengths[i] + jitter[i])
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    if rng:
        rng.shuffle(parts)
    return parts


def drop_modalities(x: TurnInput, settings: Training) -> TurnInput:
    """Sometimes hide text, audio or a group of audio; never all that a turn has."""

    def lost(rate: float) -> Tensor:
        b, t = x.text_mask.shape
        return (torch.rand(b, 1) < rate / 2) | (torch.rand(b, t) < rate / 2)

    audio = x.audio_mask.clone()
    for group in range(audio.shape[2]):
        others = audio.sum(2) > audio[..., group].long()
        audio[..., group] &= ~(lost(settings.group_dropout) & others)
    has_audio = audio.any(2)
    text = x.text_mask & ~(lost(settings.text_dropout) & has_audio)
    audio &= ~(lost(settings.audio_dropout) & text).unsqueeze(2)
    return replace(x, text_mask=text, audio_mask=audio)


def restrict(x: TurnInput, condition: str) -> TurnInput:
    """Hide what a condition of `CONDITIONS` may not read."""
    if condition == "text":
        return replace(x, audio_mask=torch.zeros_like(x.audio_mask))
    if condition == "audio":
        return replace(x, text_mask=torch.zeros_like(x.text_mask))
    return x


def loss_of(logits: Tensor, batch: DialogueBatch, weights: Tensor, settings: Training) -> Tensor:
    """Weighted cross-entropy over the labelled turns.

    Args:
        logits: (B, T, C).
        batch: the dialogues.
        weights: (corpora, C), from `class_weights`.
        settings: label smoothing and the share of soft labels.
    """
    known = batch.label != NO_LABEL
    label = batch.label[known]  # (N,)
    classes = logits.shape[-1]
    target = F.one_hot(label, classes).float()
    if batch.soft is not None:
        target = torch.lerp(target, batch.soft[known], settings.soft_weight)
    target = target * (1 - settings.label_smoothing) + settings.label_smoothing / classes
    weight = weights[batch.corpus[:, None].expand_as(batch.label)[known], label]
    losses = -(target * logits[known].log_softmax(-1)).sum(-1)
    return (losses * weight).sum() / weight.sum().clamp(min=1e-9)


@torch.no_grad()
def predict(
    model: StreamingModel, features: FeatureSet, condition: str = "all", size: int = 64
) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,) of the labelled utterances that have what the condition reads."""
    model.eval()
    logits, labels = [], []
    for part in length_batches(features.lengths(), size, None):
        batch = features.batch(part)
        x = restrict(batch.x, condition)
        known = (batch.label != NO_LABEL) & (x.text_mask | x.audio_mask.any(2))
        logits.append(model(x, batch.speaker)[known])
        labels.append(batch.label[known])
    return torch.cat(logits), torch.cat(labels)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in [1/4, 4] that minimises the log loss."""
    grid = torch.logspace(-2, 2, 401, base=2.0).tolist()
    losses = [float(F.cross_entropy(logits / t, labels)) for t in grid]
    return grid[int(np.argmin(losses))]


def evaluate(
    model: StreamingModel, dev: Mapping[str, FeatureSet], temperature: float = 1.0
) -> dict[str, Scores]:
    """Scores by ``set:condition`` of every set in every condition that leaves it something to read."""
    found = {}
    for name, features in dev.items():
        for condition in CONDITIONS:
            logits, labels = predict(model, features, condition)
            if len(labels):
                probabilities = (logits / temperature).softmax(-1).numpy()
                found[f"{name}:{condition}"] = score(probabilities, labels.numpy(), features.labels)
    return found


def train(
    model: StreamingModel, features: FeatureSet, dev: Mapping[str, FeatureSet], data: Data, settings: Training
) -> Trained:
    """Train a network in place and return its averaged best.

    Args:
        model: fresh; its acoustic normalisation is set from `features` where it has one.
        features: the training set.
        dev: the sets to score on, by name.
        data: `select` and `corpus_weights` are read.
        settings: the run.
    """
    rng = random.Random(settings.seed)
    torch.manual_seed(settings.seed)
    select = data.select or tuple(f"{name}:all" for name in dev)
    if hasattr(model, "set_audio_normalisation"):
        model.set_audio_normalisation(*audio_statistics(features))
    weights = class_weights(features, settings, data.corpus_weights)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, settings.lr_decay)
    history: list[dict[str, float]] = []
    best, best_epoch, best_state, step = -math.inf, 0, copy.deepcopy(average.state_dict()), 0
    for epoch in range(settings.epochs):
        model.train()
        started, losses = time.perf_counter(), []
        for part in length_batches(features.lengths(), settings.batch_dialogues, rng):
            batch = features.batch(part)
            logits = model(drop_modalities(batch.x, settings), batch.speaker)
            loss = loss_of(logits, batch, weights, settings)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            step += 1
            _average_into(average, model, min(settings.ema, step / (step + 10)))
            losses.append(loss.item())
        schedule.step()
        scores = evaluate(average, dev)
        missing = [key for key in select if key not in scores]
        if missing:
            raise ValueError(
                f"select: expected some of {', '.join(scores) or 'no score'}, got {', '.join(missing)}"
            )
        chosen = float(np.mean([getattr(scores[key], settings.metric) for key in select]))
        record = {"loss": float(np.mean(losses)), "chosen": chosen}
        history.append(record | {key: getattr(s, settings.metric) for key, s in scores.items()})
        log.info("epoch %d: %s (%.1f s)", epoch, _readable(history[-1]), time.perf_counter() - started)
        if chosen > best:
            best, best_epoch, best_state = chosen, epoch, copy.deepcopy(average.state_dict())
        elif epoch - best_epoch >= settings.patience:
            log.info("no better epoch since %d: stopping", best_epoch)
            break
    average.load_state_dict(best_state)
    pairs = [predict(average, dev[name], condition) for name, condition in (key.split(":") for key in select)]
    temperature = fit_temperature(torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]))
    scores = evaluate(average, dev, temperature)
    return Trained(average.eval(), temperature, best_epoch, history, scores)


@torch.no_grad()
def _average_into(average: nn.Module, model: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def _readable(record: Mapping[str, float]) -> str:
    return " ".join(f"{key} {value:.2f}" for key, value in record.items())


def run(config: RunConfig, features: Path) -> tuple[Trained, FeatureSet]:
    """A whole run from the feature sets in a folder; also returns the training set.

    Raises:
        ValueError: a set is missing, or its features are not those of the others.
    """
    if not config.data.train or not config.data.dev:
        raise ValueError("data: expected the names of train and dev sets, got none")
    training = concatenate([FeatureSet.load(features / f"{n}.safetensors") for n in config.data.train])
    dev = {name: FeatureSet.load(features / f"{name}.safetensors") for name in config.data.dev}
    for name, other in dev.items():
        if (other.labels, other.audio_groups) != (training.labels, training.audio_groups):
            raise ValueError(f"{name}: expected the labels and features of the training set, got others")
    network, sizes = ARCHITECTURES[config.architecture]
    given = {
        "text_dim": training.text.shape[1],
        "audio_groups": list(training.audio_groups),
        "classes": len(training.labels),
    }
    torch.manual_seed(config.training.seed)
    model = network(build(sizes, {**given, **config.model}, "model"))
    log.info(
        "%d parameters, %d dialogues, %d utterances, dev %s",
        sum(p.numel() for p in model.parameters()), len(training), len(training.text), ", ".join(dev),
    )  # fmt: skip
    return train(model, training, dev, config.data, config.training), training


def plain_card(name: str, trained: Trained, config: RunConfig) -> str:
    """A model card of bare facts, to be completed by hand."""
    rows = [
        f"| {key} | {s.weighted_f1:.2f} | {s.macro_f1:.2f} | {s.accuracy:.2f} | {s.ece:.3f} |"
        for key, s in trained.scores.items()
    ]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"Architecture `{config.architecture}`, trained on {', '.join(config.data.train)}; epoch "
            f"{trained.best_epoch} chosen on dev by {config.training.metric}.",
            "",
            "| dev set : what it reads | weighted F1 | macro F1 | accuracy | ECE |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def load_text_encoder(folder: Path) -> TextEncoder:
    """A text encoder as `train_text` wrote it, with its window."""
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    config = build(TextEncoderConfig, record["window"], f"{folder}/training.json, window")
    return TextEncoder.from_pretrained(folder, config)


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True, help="folder of <name>.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint's folder")
    parser.add_argument("--text-encoder", type=Path, help="folder of the encoder that made the text features")
    parser.add_argument("--card", type=Path, help="model card to put in the place of the plain one")
    parser.add_argument("--seed", type=int, help="instead of the configuration's")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = read_config(args.config)
    if args.seed is not None:
        config = replace(config, training=replace(config.training, seed=args.seed))
    trained, features = run(config, args.features)
    checkpoint = Checkpoint(
        name=args.out.name,
        architecture=config.architecture,
        network=trained.model,
        labels=features.labels,
        temperature=trained.temperature,
        features=features.spec,
        text_encoder=load_text_encoder(args.text_encoder) if args.text_encoder else None,
        about={
            "data": asdict(config.data),
            "training": asdict(config.training),
            "best_epoch": trained.best_epoch,
            "dev": {key: asdict(scores) for key, scores in trained.scores.items()},
            "history": trained.history,
        },
    )
    card = args.card.read_text(encoding="utf-8") if args.card else plain_card(args.out.name, trained, config)
    save(args.out, checkpoint, card)
    for key, scores in trained.scores.items():
        log.info("%s wF1 %.2f macro %.2f accuracy %.2f ECE %.3f", key, scores.weighted_f1, scores.macro_f1,
                 scores.accuracy, scores.ece)  # fmt: skip


if __name__ == "__main__":
    main()
