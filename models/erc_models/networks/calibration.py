"""Temperature scaling, so that a network's confidence matches its accuracy.

A checkpoint has one temperature for all turns, and may have others for turns with certain modalities, since a
network is over- or underconfident to a different degree with voice alone than with words. Those are given per
label and apply to the turns whose likeliest label it is. Dividing by a positive number keeps the likeliest
label, so calibration changes no label, and no score except those of probabilities.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Calibration:
    """The temperatures by which logits are divided.

    Attributes:
        temperature: the default.
        temperatures: modalities of a turn -> a temperature for each label (C,). The key has ``1`` or ``0``
            for words and then for each group of acoustic features.
    """

    temperature: float = 1.0
    temperatures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def check(self, groups: int, classes: int) -> None:
        """Check the temperatures against the sizes of a network.

        Raises:
            ValueError: a temperature is not above 0, or the keys or labels do not fit the network.
        """
        if not self.temperature > 0:
            raise ValueError(f"expected a temperature above 0, got {self.temperature}")
        for key, values in self.temperatures.items():
            if len(key) != 1 + groups or set(key) - set("01"):
                raise ValueError(f"temperatures: expected {1 + groups} of 0 and 1 as a key, got {key!r}")
            if len(values) != classes or not all(value > 0 for value in values):
                raise ValueError(f"temperatures: expected {classes} above 0 for {key!r}, got {list(values)}")

    def scale(self, logits: Tensor, text_mask: Tensor, audio_mask: Tensor) -> Tensor:
        """Divide logits (N, C) by the temperatures for each turn's modalities, masks (N,) and (N, G)."""
        if not self.temperatures:
            return logits / self.temperature
        table, row_of = (tensor.to(logits.device) for tensor in self._tables)
        present = torch.cat([text_mask.unsqueeze(1), audio_mask], 1).long()  # (N, 1 + G)
        bits = [1 << i for i in range(present.shape[1])]
        row = row_of[(present * torch.tensor(bits, device=present.device)).sum(1)]
        return logits / table[row, logits.argmax(1)].unsqueeze(1)

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        """Temperatures (P + 1, C), the default last, and the row for each set of modalities (2^(1 + G),)."""
        first = next(iter(self.temperatures))
        rows = [*self.temperatures.values(), (self.temperature,) * len(self.temperatures[first])]
        row_of = torch.full((2 ** len(first),), len(rows) - 1)
        for row, key in enumerate(self.temperatures):
            row_of[sum(1 << i for i, present in enumerate(key) if present == "1")] = row
        return torch.tensor(rows), row_of
