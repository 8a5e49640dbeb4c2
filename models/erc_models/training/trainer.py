"""The training loop of all conversation networks.

`train` minimises a network's losses (`StreamingModel.learn`), keeps an exponential moving average of the
weights, scores the average on dev after every epoch, stops early, and returns the average of the best epoch
with its temperature. On a CPU the seed determines a run; an interrupted run resumes after its last epoch and
ends at the same weights.
"""

import copy
import logging
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.data.batching import audio_statistics, class_weights, draw, drop_modalities, turn_batches
from erc_models.data.feature_store import NO_LABEL, DialogueBatch
from erc_models.evaluation.metrics import Scores
from erc_models.networks.losses import r_drop
from erc_models.networks.streaming import StreamingModel
from erc_models.networks.text_encoder import TextEncoder
from erc_models.training import fine_tuning
from erc_models.training.fine_tuning import FineTuning
from erc_models.training.learner import Corpus, Learner, dev_scores, fit_temperature, labelled_logits
from erc_models.training.run_config import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a run.

    Attributes:
        model: the averaged weights of the best epoch, in eval mode.
        temperature: fitted on the sets that selected the epoch.
        best_epoch: counted from 0.
        history: mean losses and dev scores of the metric for every epoch.
        scores: of the best epoch, calibrated, by ``set:condition``.
        encoder: the averaged text encoder, if it was trained.
    """

    model: StreamingModel
    temperature: float
    best_epoch: int
    history: list[dict[str, float]]
    scores: dict[str, Scores]
    encoder: TextEncoder | None = None


@dataclass
class Progress:
    """The progress of a run: everything that `resume` needs except the weights."""

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def loss_of(logits: Tensor, batch: DialogueBatch, weights: Tensor, settings: Training) -> Tensor:
    """Return the weighted cross-entropy over the labelled turns.

    Args:
        logits: (B, T, C).
        batch: the dialogues.
        weights: (corpora, C), from `class_weights`.
        settings: label smoothing and the weight of soft labels.
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


class Run:
    """A training run: its mutable state, and how to save and resume it.

    Args:
        learner: fresh.
        corpus: the training set.
        weights: of labels, (corpora, C).
        settings: the run's settings.
        tuning: the encoder's settings, if it is trained.
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
        """Train on the dialogues drawn for an epoch; return the mean of each loss."""
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

        # single precision: the cost of a conversation network is negligible beside the encoder's
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

    def save(self, path: Path) -> None:
        """Save everything that `resume` needs."""
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
        """Resume from what `save` wrote.

        Raises:
            ValueError: the file belongs to another network or optimiser.
        """
        saved = torch.load(path, weights_only=False)
        try:
            self.learner.load_state_dict(saved["learner"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path}: expected a run of this configuration, got {str(error).splitlines()[0]}"
            ) from error
        self.best, self.progress = saved["best"], Progress(**saved["progress"])
        self.rng.setstate(saved["random"][0])
        torch.set_rng_state(saved["random"][1])


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
        learner: fresh; its network's acoustic normalisation, if any, is set from the corpus.
        corpus: the training set.
        dev: the sets to score, by name.
        settings: the run's settings.
        select: the epoch is selected by the mean score over these ``set:condition``; by default condition
            "all" of each set.
        corpus_weights: weight of each corpus in the loss, by default 1.
        tuning: the text encoder's settings, if it is trained.
        keep: file to save the run to after every epoch; an existing file is resumed from.
        report: called with a line for every epoch.

    Raises:
        ValueError: `select` or `corpus_weights` has an unknown name, or `keep` belongs to another run.
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
        scores = dev_scores(run.average, dev)
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
            run.save(keep)
    average = run.average
    average.load_state_dict(run.best)
    keys = (key.split(":") for key in select)
    logits, labels, _ = zip(*(labelled_logits(average, dev[name], part) for name, part in keys), strict=True)
    temperature = fit_temperature(torch.cat(logits), torch.cat(labels))
    return Trained(
        average.network.eval(),
        temperature,
        progress.best_epoch,
        progress.history,
        dev_scores(average, dev, temperature),
        average.encoder,
    )


def _readable(record: Mapping[str, float]) -> str:
    return " ".join(f"{key} {value:.2f}" for key, value in record.items())
