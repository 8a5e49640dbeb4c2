"""The training loop that all conversation networks share.

A `Learner` is a network and, where the text encoder learns too, the encoder. `train` minimises the
network's own losses (`StreamingModel.learn`), keeps the exponential moving average of the weights, scores
it on dev after every epoch, stops early, and returns the average of the best epoch with its temperature.
On a CPU a seed decides everything; an interrupted run goes on from its last epoch to the same weights.
"""

import copy
import logging
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models import fine_tuning
from erc_models.batching import audio_statistics, class_weights, draw, drop_modalities, turn_batches
from erc_models.evaluate import CONDITIONS, hide
from erc_models.feature_store import NO_LABEL, DialogueBatch, FeatureSet
from erc_models.fine_tuning import FineTuning, LiveText
from erc_models.losses import r_drop
from erc_models.metrics import Scores, score
from erc_models.streaming import StreamingModel
from erc_models.text_encoder import TextEncoder

log = logging.getLogger(__name__)


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


@dataclass(frozen=True, eq=False)
class Corpus:
    """Dialogues to learn from or to score on.

    Attributes:
        features: who spoke, labels, acoustic features, and text features where they are frozen.
        text: where the text features come from when the encoder learns.
    """

    features: FeatureSet
    text: LiveText | None = None


class Learner(nn.Module):
    """A network and the text encoder that learns with it, if one does."""

    def __init__(self, network: StreamingModel, encoder: TextEncoder | None = None) -> None:
        super().__init__()
        self.network = network
        self.encoder = encoder

    def read(self, corpus: Corpus, dialogues: Sequence[int], rng: random.Random | None) -> DialogueBatch:
        """A batch on the learner's device, its words encoded; misheard now and then where `rng` is given."""
        batch = corpus.features.batch(dialogues).to(next(self.parameters()).device)
        if self.encoder is not None and corpus.text is not None:
            with half_precision(batch.label.device):
                batch = corpus.text.fill(batch, dialogues, self.encoder, rng)
        return batch


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run gives.

    Attributes:
        model: the averaged weights of the best epoch, in eval mode.
        temperature: fitted on what the epoch was chosen by.
        best_epoch: counted from 0.
        history: of every epoch, its mean losses and every dev score of the chosen metric.
        scores: of the best epoch, calibrated, by ``set:condition``.
        encoder: the averaged text encoder, where it learned.
    """

    model: StreamingModel
    temperature: float
    best_epoch: int
    history: list[dict[str, float]]
    scores: dict[str, Scores]
    encoder: TextEncoder | None = None


@dataclass
class Progress:
    """What a run has come to after some epochs: everything that `resume` needs but the weights."""

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def half_precision(device: torch.device) -> AbstractContextManager:
    """Automatic mixed precision in bfloat16, on a GPU alone.

    On a CPU it costs time where there are no matrix tiles, and some virtual machines claim tiles that they
    do not have: there the process dies of an illegal instruction.
    """
    if device.type == "cpu":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


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
    losses = -(target * logits[known].float().log_softmax(-1)).sum(-1)
    return (losses * weight).sum() / weight.sum().clamp(min=1e-9)


@torch.no_grad()
def predict(
    learner: Learner, corpus: Corpus, condition: str = "all", size: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    """What the network says of the labelled utterances that have what the condition reads.

    Returns:
        Logits (N, C), labels (N,) and the rows of the feature set that they are of (N,), in its order.
    """
    learner.eval()
    features = corpus.features
    logits, labels, rows = [], [], []
    for part in turn_batches(features.lengths(), range(len(features)), size, None, None):
        batch = learner.read(corpus, part, None)
        x = hide(batch.x, condition)
        known = (batch.label != NO_LABEL) & (x.text_mask | x.audio_mask.any(2))
        if not known.any():
            continue
        logits.append(learner.network(x, batch.speaker)[known].float().cpu())
        labels.append(batch.label[known].cpu())
        place = features.offsets[part].unsqueeze(1) + torch.arange(known.shape[1])
        rows.append(place[known.cpu()])
    if not logits:
        return torch.zeros(0, len(features.labels)), torch.zeros(0).long(), torch.zeros(0).long()
    order = torch.cat(rows).argsort()
    return torch.cat(logits)[order], torch.cat(labels)[order], torch.cat(rows)[order]


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in [1/4, 4] that minimises the log loss."""
    grid = torch.logspace(-2, 2, 401, base=2.0).tolist()
    losses = [float(F.cross_entropy(logits / t, labels)) for t in grid]
    return grid[int(np.argmin(losses))]


def evaluate(learner: Learner, dev: Mapping[str, Corpus], temperature: float = 1.0) -> dict[str, Scores]:
    """Scores by ``set:condition`` of every set in every condition that leaves it something to read."""
    found = {}
    for name, corpus in dev.items():
        heard = bool(corpus.features.audio_mask.any())
        for condition in CONDITIONS if heard else CONDITIONS[:1]:
            logits, labels, _ = predict(learner, corpus, condition)
            if len(labels):
                probabilities = (logits / temperature).softmax(-1).numpy()
                found[f"{name}:{condition}"] = score(probabilities, labels.numpy(), corpus.features.labels)
        if not heard and f"{name}:all" in found:
            found[f"{name}:text"] = found[f"{name}:all"]  # there is nothing else
    return found


class Run:
    """A training run: what changes from epoch to epoch, and how it is kept.

    Args:
        learner: fresh.
        corpus: the training set.
        weights: of labels, (corpora, C).
        settings: the run.
        tuning: of the encoder, where it learns.
    """

    def __init__(
        self,
        learner: Learner,
        corpus: Corpus,
        weights: Tensor,
        settings: Training,
        tuning: FineTuning | None,
    ) -> None:
        self.learner, self.corpus, self.settings = learner, corpus, settings
        self.device = next(learner.parameters()).device
        self.weights = weights.to(self.device)
        self.rng = random.Random(settings.seed)
        self.groups = {
            name: [p for p in parameters if p.requires_grad]
            for name, parameters in learner.network.parameter_groups().items()
        }
        groups: list[dict] = [{"params": part, "lr": settings.lr} for part in self.groups.values()]
        if learner.encoder is not None and tuning is not None:
            groups += fine_tuning.parameter_groups(learner.encoder, tuning)
            self.groups["text encoder"] = [p for p in learner.encoder.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
        self._lr = [group["lr"] for group in groups]
        self.average = copy.deepcopy(learner).eval().requires_grad_(False)
        self.best = copy.deepcopy(self.average.state_dict())
        self.progress = Progress()
        pairs = [
            (slow, fast)
            for slow, fast in zip(self.average.parameters(), learner.parameters(), strict=True)
            if fast.requires_grad
        ]
        self._slow, self._fast = [slow for slow, _ in pairs], [fast for _, fast in pairs]

    def epoch(self) -> dict[str, float]:
        """One pass over the dialogues drawn for it; the mean of each loss."""
        settings = self.settings
        chosen = draw(self.corpus.features, settings.share, settings.balance, self.rng)
        turns = settings.batch_turns or None
        parts = turn_batches(
            self.corpus.features.lengths(), chosen, settings.batch_dialogues, turns, self.rng
        )
        self.learner.train()
        sums: dict[str, float] = {}
        for part in track(parts, f"epoch {self.progress.epoch}", transient=True):
            self._set_lr(len(parts))
            losses = self._losses(self.learner.read(self.corpus, part, self.rng))
            self.optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            for parameters in self.groups.values():
                nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            self.optimizer.step()
            self.progress.step += 1
            self._move_average()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach()) / len(parts)
        self.progress.epoch += 1
        return sums

    def _losses(self, batch: DialogueBatch) -> dict[str, Tensor]:
        settings, passes = self.settings, []
        x = drop_modalities(batch.x, settings.text_dropout, settings.audio_dropout, settings.group_dropout)

        def emotion_loss(logits: Tensor) -> Tensor:
            passes.append(logits[batch.label != NO_LABEL])
            return loss_of(logits, batch, self.weights, settings)

        # single precision: next to the encoder a conversation network costs nothing
        losses = self.learner.network.learn(x, batch.speaker, batch.label, emotion_loss)
        if settings.r_drop and len(passes[-1]):
            again = self.learner.network.learn(x, batch.speaker, batch.label, emotion_loss)
            losses = {name: (loss + again[name]) / 2 for name, loss in losses.items()}
            losses["r_drop"] = settings.r_drop * r_drop(passes[-2], passes[-1])
        return losses

    def _set_lr(self, steps: int) -> None:
        settings, progress = self.settings, self.progress
        factor = settings.lr_decay**progress.epoch
        if settings.warmup:
            total = max(1, settings.epochs * steps)
            warm = max(1.0, settings.warmup * total)
            factor = min((progress.step + 1) / warm, max(0.0, (total - progress.step) / (total - warm + 1)))
        for group, lr in zip(self.optimizer.param_groups, self._lr, strict=True):
            group["lr"] = lr * factor

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.settings.ema, self.progress.step / (self.progress.step + 10))
        torch._foreach_lerp_(self._slow, self._fast, 1 - decay)

    def keep(self, path: Path) -> None:
        """Write everything that going on needs."""
        temporary = path.with_suffix(".part")
        torch.save(
            {
                "learner": self.learner.state_dict(),
                "average": self.average.state_dict(),
                "best": self.best,
                "optimizer": self.optimizer.state_dict(),
                "progress": vars(self.progress),
                "random": (self.rng.getstate(), torch.get_rng_state()),
            },
            temporary,
        )
        temporary.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from what `keep` wrote.

        Raises:
            ValueError: it is of another network or optimiser.
        """
        kept = torch.load(path, weights_only=False)
        try:
            self.learner.load_state_dict(kept["learner"])
            self.average.load_state_dict(kept["average"])
            self.optimizer.load_state_dict(kept["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path}: expected a run of this configuration, got {str(error).splitlines()[0]}"
            ) from error
        self.best, self.progress = kept["best"], Progress(**kept["progress"])
        self.rng.setstate(kept["random"][0])
        torch.set_rng_state(kept["random"][1])


def train(
    learner: Learner,
    corpus: Corpus,
    dev: Mapping[str, Corpus],
    settings: Training,
    *,
    select: Sequence[str] = (),
    corpus_weights: Mapping[str, float] | None = None,
    tuning: FineTuning | None = None,
    keep: Path | None = None,
    report: Callable[[str], None] = log.info,
) -> Trained:
    """Train a learner in place and return its averaged best.

    Args:
        learner: fresh; the network's acoustic normalisation is set from the corpus where it has one.
        corpus: the training set.
        dev: the sets to score on, by name.
        settings: the run.
        select: what to choose the epoch by, the mean over these ``set:condition``; by default all of each.
        corpus_weights: weight of a corpus in the loss, 1 where not named.
        tuning: how the text encoder learns.
        keep: where to write the run after every epoch; a file that is there already is gone on from.
        report: told of every epoch in a line.

    Raises:
        ValueError: `select` or `corpus_weights` names what is not there, or `keep` is of another run.
    """
    torch.manual_seed(settings.seed)
    select = tuple(select) or tuple(f"{name}:all" for name in dev)
    if hasattr(learner.network, "set_audio_normalisation"):
        learner.network.set_audio_normalisation(*audio_statistics(corpus.features))
    weights = class_weights(corpus.features, settings.class_weight_power, corpus_weights or {})
    run = Run(learner, corpus, weights, settings, tuning)
    if keep is not None and keep.is_file():
        run.resume(keep)
    progress = run.progress
    while progress.epoch < settings.epochs and progress.epoch - progress.best_epoch <= settings.patience:
        epoch, started = progress.epoch, time.perf_counter()
        losses = run.epoch()
        scores = evaluate(run.average, dev)
        missing = [key for key in select if key not in scores]
        if missing:
            raise ValueError(
                f"select: expected some of {', '.join(scores) or 'no score'}, got {', '.join(missing)}"
            )
        chosen = float(np.mean([getattr(scores[key], settings.metric) for key in select]))
        record = {"loss": sum(losses.values()), "chosen": chosen} | {
            f"loss.{k}": v for k, v in losses.items()
        }
        record |= {key: getattr(s, settings.metric) for key, s in scores.items()}
        progress.history.append(record)
        report(f"epoch {epoch}: {_readable(record)} ({time.perf_counter() - started:.1f} s)")
        if chosen > progress.best:
            progress.best, progress.best_epoch = chosen, epoch
            run.best = copy.deepcopy(run.average.state_dict())
        if keep is not None:
            run.keep(keep)
    average = run.average
    average.load_state_dict(run.best)
    pairs = [predict(average, dev[name], condition) for name, condition in (key.split(":") for key in select)]
    temperature = fit_temperature(torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]))
    return Trained(
        average.network.eval(),
        temperature,
        progress.best_epoch,
        progress.history,
        evaluate(average, dev, temperature),
        average.encoder,
    )


def _readable(record: Mapping[str, float]) -> str:
    return " ".join(f"{key} {value:.2f}" for key, value in record.items())
