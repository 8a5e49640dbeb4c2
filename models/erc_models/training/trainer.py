"""The training loop that all conversation networks share.

`train` minimises a network's own losses (`StreamingModel.learn`), keeps the exponential moving average of the
weights, scores it on dev after every epoch, stops early, and returns the average of the best epoch with its
temperature. On a CPU a seed decides everything; an interrupted run goes on from its last epoch to the same
weights.
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
            run.keep(keep)
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
