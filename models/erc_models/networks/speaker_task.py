"""The speaker task of `SpeakerMultitask`: is a turn by a speaker heard before, and which, or by a new one?"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.attention import MASKED

UNSCORED = -100
"""The target of a turn that is not scored: nobody was heard before, or the turn is empty."""


class SpeakerPointer(nn.Module):
    """A pointer network that scores each speaker heard so far and a new one."""

    def __init__(self, width: int, horizon: int) -> None:
        super().__init__()
        self.query = nn.Linear(3 * width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.age = nn.Parameter(0.1 * torch.randn(horizon + 1, width))
        self.count = nn.Parameter(0.1 * torch.randn(horizon + 1, width))
        self.new = nn.Parameter(0.1 * torch.randn(horizon + 1, width))  # by the number of speakers heard
        self.horizon, self.scale = horizon, width**-0.5

    def forward(self, turn: Tensor, speakers: Tensor, age: Tensor, count: Tensor) -> Tensor:
        """Return logits (N, S + 1) of the turn's speaker, the new speaker last.

        Args:
            turn: (N, 3 d), the turn and its context; neither may depend on the turn's speaker.
            speakers: (N, S, d), before the turn.
            age: int64 (N, S), before the turn, see `SpeakerMultitaskState`.
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
    """Return `age` and `count` of the state before each turn of whole dialogues, both int64 (B, T, S).

    Args:
        speaker: int64 (B, T).
        present: bool (B, T), False for an empty turn.
        speakers: S.
    """
    spoke = F.one_hot(speaker, speakers) * present.unsqueeze(2)  # (B, T, S)
    time = present.cumsum(1).unsqueeze(2)  # the turn's number, from 1
    last = F.pad((spoke * time).cummax(1).values[:, :-1], (0, 0, 1, 0))  # 0: never
    before = time - present.long().unsqueeze(2)
    return (before + 1 - last).where(last > 0, 0), spoke.cumsum(1) - spoke


def gold_of(speaker: Tensor, present: Tensor, count: Tensor) -> Tensor:
    """Return the speaker task's targets (B, T): a speaker heard before, S for a new one, or `UNSCORED`."""
    heard = count.gather(2, speaker.unsqueeze(2)).squeeze(2) > 0
    scored = present & count.any(2)
    return speaker.where(heard, count.shape[2]).where(scored, UNSCORED)
