"""Scores of the speaker task, and of baselines that read no feature."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from erc_models.networks.speaker_multitask import SpeakerMultitask
from erc_models.networks.speaker_task import UNSCORED, history
from erc_models.networks.streaming import TurnInput


@dataclass(frozen=True)
class SpeakerScores:
    """Accuracy of the speaker task and of baselines that read no feature, percent.

    Attributes:
        turns: number of scored turns: all except empty ones and the first of each dialogue.
        accuracy: of the network.
        heard_accuracy: of the network, for speakers heard before.
        majority: of predicting the speaker with the most turns so far (of several, the most recent).
        last_other: of predicting the most recent speaker before the last one, or a new one.
        last: of predicting the last speaker.
        new: of predicting a new speaker.
    """

    turns: int
    accuracy: float
    heard_accuracy: float
    majority: float
    last_other: float
    last: float
    new: float


@torch.no_grad()
def score_speakers(model: SpeakerMultitask, dialogues: Iterable[tuple[TurnInput, Tensor]]) -> SpeakerScores:
    """Score the speaker task.

    Args:
        model: in eval mode.
        dialogues: batches of whole dialogues, `x` (B, T, ...) and `speaker` (B, T).

    Raises:
        ValueError: there is no turn to score.
    """
    hits = torch.zeros(8, dtype=torch.float64)
    for x, speaker in dialogues:
        logits, gold = model.speaker_logits(x, speaker)
        present = x.text_mask | x.audio_mask.any(2)
        age, count = history(speaker, present, logits.shape[2] - 1)
        asked, new = gold != UNSCORED, logits.shape[2] - 1
        far = torch.iinfo(age.dtype).max
        others = torch.where(age > 1, age, far)
        answers = [
            logits.argmax(2),
            (count * (age.amax() + 1) - age).argmax(2),
            others.argmin(2).where(others.amin(2) < far, new),
            torch.where(age == 1, 1, 0).argmax(2),
            torch.full_like(gold, new),
        ]
        right = [(answer == gold)[asked].sum() for answer in answers]
        heard = asked & (gold != new)
        hits += torch.stack([asked.sum(), heard.sum(), (answers[0] == gold)[heard].sum(), *right]).cpu()
    turns, heard_turns = int(hits[0]), max(int(hits[1]), 1)
    if not turns:
        raise ValueError("expected dialogues of two or more turns to ask for their speakers, got none")
    accuracy, majority, last_other, last, new_speaker = (100 * hits[3:] / turns).tolist()
    heard_accuracy = 100 * float(hits[2]) / heard_turns
    return SpeakerScores(turns, accuracy, heard_accuracy, majority, last_other, last, new_speaker)
