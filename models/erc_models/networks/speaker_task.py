"""Who says this turn, of those heard so far, or is it someone new? The second task of `SpeakerMultitask`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.attention import MASKED

UNSCORED = -100
"""Gold of the speaker task where there is no question: nobody was heard before, or the turn is empty."""


class SpeakerPointer(nn.Module):
    """Scores for each speaker heard so far and for a new one."""

    def __init__(self, width: int, horizon: int) -> None:
        super().__init__()
        self.query = nn.Linear(3 * width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.age = nn.Parameter(0.1 * torch.randn(horizon + 1, width))
        self.count = nn.Parameter(0.1 * torch.randn(horizon + 1, width))
        self.new = nn.Parameter(0.1 * torch.randn(horizon + 1, width))  # by how many were heard
        self.horizon, self.scale = horizon, width**-0.5

    def forward(self, turn: Tensor, speakers: Tensor, age: Tensor, count: Tensor) -> Tensor:
        """Logits (N, S + 1) of whose turn it is, the new speaker last.

        Args:
            turn: (N, 3 d), the turn and its context; nothing in it knows who speaks.
            speakers: (N, S, d), before the turn.
            age: int64 (N, S), before the turn, as the state keeps it.
            count: int64 (N, S), likewise.
        """
        keys = self.key(speakers) + self._row(self.age, age) + self._row(self.count, count)
        new = self._row(self.new, (count > 0).sum(1))
        query = (self.query(turn) * self.scale).unsqueeze(2)
        scores = (torch.cat([keys, new.unsqueeze(1)], 1) @ query).squeeze(2)
        return scores.masked_fill(F.pad(count == 0, (0, 1)), MASKED)

    def _row(self, table: Tensor, index: Tensor) -> Tensor:
        return F.embedding(index.clamp(max=self.horizon), table)


def history(speaker: Tensor, present: Tensor, speakers: int) -> tuple[Tensor, Tensor]:
    """`age` and `count` of the state before each turn of whole dialogues, both int64 (B, T, S).

    Args:
        speaker: int64 (B, T).
        present: bool (B, T), whether the turn is not empty.
        speakers: S.
    """
    spoke = F.one_hot(speaker, speakers) * present.unsqueeze(2)  # (B, T, S)
    time = present.cumsum(1).unsqueeze(2)  # which turn it is, from 1
    last = F.pad((spoke * time).cummax(1).values[:, :-1], (0, 0, 1, 0))  # 0: never
    before = time - present.long().unsqueeze(2)
    return (before + 1 - last).where(last > 0, 0), spoke.cumsum(1) - spoke


def gold_of(speaker: Tensor, present: Tensor, count: Tensor) -> Tensor:
    """What the speaker task should answer (B, T): the index of a speaker heard before, S, or `UNSCORED`."""
    heard = count.gather(2, speaker.unsqueeze(2)).squeeze(2) > 0
    asked = present & count.any(2)
    return speaker.where(heard, count.shape[2]).where(asked, UNSCORED)
