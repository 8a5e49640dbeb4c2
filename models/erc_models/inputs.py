"""The way of a turn into a network: its modalities normalised and brought to a common width.

Networks with two modalities run both through one set of batched kernels: a tensor (2, N, D) holds text at 0
and audio at 1, where N is the batch in `advance` and all turns of the batch in `forward`.
"""

import math

import torch
from torch import Tensor, nn

from erc_models.streaming import TurnInput


class ModalLinear(nn.Module):
    """A linear map for each modality: (2, N, inputs) -> (2, N, outputs)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(2, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(2, 1, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The map of `x`."""
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)


class ModalNorm(nn.Module):
    """Layer normalisation with a gain and an offset for each modality, (2, N, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2, 1, width))
        self.offset = nn.Parameter(torch.zeros(2, 1, width))
        self.shape = (width,)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last dimension."""
        return torch.addcmul(self.offset, torch.layer_norm(x, self.shape), self.gain)


class InputReduction(nn.Module):
    """Both modalities brought to a common width d, a linear layer each.

    Acoustic features come in their own units and are normalised here, by what `set_normalisation` was given
    (of the training set), and clipped to +- `clip` standard deviations. Every group of them has its own
    linear map into the audio vector; what is present is summed, with a bias per group so that an absent
    group is not mistaken for an average one.
    """

    audio_mean: Tensor
    audio_std: Tensor
    _group: Tensor

    def __init__(self, text_dim: int, audio_groups: tuple[int, ...], width: int, clip: float = 5.0) -> None:
        super().__init__()
        total, groups = sum(audio_groups), len(audio_groups)
        self.clip = clip
        self.text = nn.Linear(text_dim, width)
        self.audio = nn.Linear(total + groups, width, bias=False)  # the last columns are the biases
        self.norm = ModalNorm(width)
        self.register_buffer("audio_mean", torch.zeros(total))
        self.register_buffer("audio_std", torch.ones(total))
        group = torch.arange(groups).repeat_interleave(torch.tensor(audio_groups))
        self.register_buffer("_group", group, persistent=False)

    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation (D_audio,) of the acoustic features."""
        self.audio_mean.copy_(mean)
        self.audio_std.copy_(std.clamp(min=1e-6))

    def forward(self, x: TurnInput) -> Tensor:
        """Turns (N, ...) -> tokens (2, N, d)."""
        known = ((x.audio - self.audio_mean) / self.audio_std).clamp_(-self.clip, self.clip).nan_to_num_(0.0)
        # a feature that could not be measured is set to its mean; an absent group adds nothing at all
        mask = x.audio_mask
        known *= mask if mask.shape[1] == 1 else mask.index_select(1, self._group)
        features, biases = self.audio.weight.t().split([known.shape[1], mask.shape[1]])
        audio = torch.addmm(mask.to(known.dtype) @ biases, known, features)
        text = torch.where(x.text_mask.unsqueeze(1), x.text, 0.0)
        tokens = torch.cat([self.text(text), audio])
        return self.norm(tokens.view(2, -1, tokens.shape[1]))
