"""Temperatures: how a network's confidence is made to say how often it is right.

A checkpoint has one temperature for all turns, and may have others for turns of which certain modalities are
there: a network is sure of itself in another way when it hears a voice alone than when it reads words. Among
these a label has a temperature of its own, that of the turns of which it is the likeliest label. Dividing by
a positive number keeps that label, so calibration changes no label and no score but those of probabilities.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Calibration:
    """What logits are divided by.

    Attributes:
        temperature: where nothing else is given.
        temperatures: what a turn has, ``1`` or ``0`` for its words and then for each group of acoustic
            features -> a temperature for each label (C,).
    """

    temperature: float = 1.0
    temperatures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def check(self, groups: int, classes: int) -> None:
        """Refuse what a network of so many groups of acoustic features and labels cannot use.

        Raises:
            ValueError: a temperature that is not above 0, or of something else.
        """
        if not self.temperature > 0:
            raise ValueError(f"expected a temperature above 0, got {self.temperature}")
        for key, values in self.temperatures.items():
            if len(key) != 1 + groups or set(key) - set("01"):
                raise ValueError(f"temperatures: expected {1 + groups} of 0 and 1 as a key, got {key!r}")
            if len(values) != classes or not all(value > 0 for value in values):
                raise ValueError(f"temperatures: expected {classes} above 0 for {key!r}, got {list(values)}")

    def scale(self, logits: Tensor, text_mask: Tensor, audio_mask: Tensor) -> Tensor:
        """Logits (N, C) of turns over their temperatures, by the masks (N,), (N, G) of what they have."""
        if not self.temperatures:
            return logits / self.temperature
        table, place = (tensor.to(logits.device) for tensor in self._tables)
        there = torch.cat([text_mask.unsqueeze(1), audio_mask], 1).long()  # (N, 1 + G)
        row = place[(there << torch.arange(there.shape[1], device=there.device)).sum(1)]
        return logits / table[row, logits.argmax(1)].unsqueeze(1)

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        """Temperatures (P + 1, C), the last row for all else; which row is for what is there (2^(1 + G),)."""
        first = next(iter(self.temperatures))
        rows = [*self.temperatures.values(), (self.temperature,) * len(self.temperatures[first])]
        place = torch.full((2 ** len(first),), len(rows) - 1)
        for row, key in enumerate(self.temperatures):
            place[sum(1 << i for i, there in enumerate(key) if there == "1")] = row
        return torch.tensor(rows), place
