"""Layers with weights of their own for each of M modalities, which one tensor (M, N, D) holds."""

import torch
from torch import Tensor, nn

from erc_models.networks.streaming import TurnInput


def presence(x: TurnInput) -> Tensor:
    """Whether turns (N, ...) have text and audio, bool (2, N)."""
    return torch.stack([x.text_mask, x.audio_mask.any(1)])


class EachLinear(nn.Module):
    """A linear map for each of M modalities: (M, N, inputs) -> (M, N, outputs)."""

    def __init__(self, modalities: int, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(modalities, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(modalities, 1, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The map of `x`."""
        return torch.bmm(x, self.weight) if self.bias is None else torch.baddbmm(self.bias, x, self.weight)


class EachNorm(nn.Module):
    """Layer normalisation with a gain and an offset for each of M modalities, (M, N, d)."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(modalities, 1, width))
        self.offset = nn.Parameter(torch.zeros(modalities, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last dimension."""
        return torch.addcmul(self.offset, torch.layer_norm(x, x.shape[-1:]), self.gain)
