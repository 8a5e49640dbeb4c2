"""A linear layer over a turn's features: the head for fine-tuning text encoders.

It has no memory and is the baseline of the model zoo: any network that beats it does so by its memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.modalities import normalise
from erc_models.networks.streaming import State, StreamingModel, TurnInput


@dataclass(frozen=True)
class LinearConfig:
    """Configuration of the linear layer.

    Attributes:
        text_dim: size of the text features.
        audio_groups: sizes of the groups of acoustic features; each group may be missing.
        classes: number of emotions.
        dropout: on the features, in training only.
        audio_clip: normalised acoustic features are clipped to +- this many standard deviations.
    """

    text_dim: int = 384
    audio_groups: tuple[int, ...] = (88, 8)
    classes: int = 7
    dropout: float = 0.2
    audio_clip: float = 5.0


@dataclass(frozen=True, eq=False)
class LinearState(State):
    """An empty state, (B, 0)."""

    nothing: Tensor


class Linear(StreamingModel[LinearState]):
    """The network: logits W_text text + W_audio audio + b. A missing modality adds 0."""

    audio_mean: Tensor
    audio_std: Tensor
    _group: Tensor

    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        self.config = config
        total, groups = sum(config.audio_groups), len(config.audio_groups)
        self.text = nn.Linear(config.text_dim, config.classes)
        self.audio = nn.Linear(total, config.classes, bias=False)
        self.register_buffer("audio_mean", torch.zeros(total))
        self.register_buffer("audio_std", torch.ones(total))
        group = torch.arange(groups).repeat_interleave(torch.tensor(config.audio_groups))
        self.register_buffer("_group", group, persistent=False)

    def set_audio_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation (D_audio,) for normalising acoustic features."""
        self.audio_mean.copy_(mean)
        self.audio_std.copy_(std.clamp(min=1e-6))

    def initial_state(self, batch: int = 1, speakers: int = 0) -> LinearState:
        """Return the empty state."""
        return LinearState(self.text.weight.new_zeros(batch, 0))

    def grow(self, state: LinearState, speakers: int) -> LinearState:
        """Return the same state."""
        return state

    def advance(self, x: TurnInput, speaker: Tensor, state: LinearState) -> tuple[Tensor, LinearState]:
        """Read one turn of each conversation; see `StreamingModel.step`."""
        return self._classify(x), state

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return logits (B, T, C) of whole dialogues."""
        return self._classify(x)

    def _classify(self, x: TurnInput) -> Tensor:
        text = torch.where(x.text_mask.unsqueeze(-1), x.text, 0.0)
        audio = normalise(x.audio, self.audio_mean, self.audio_std, self.config.audio_clip)
        audio = torch.where(x.audio_mask[..., self._group], audio, 0.0)
        if self.training:
            text, audio = F.dropout(text, self.config.dropout), F.dropout(audio, self.config.dropout)
        return self.text(text) + self.audio(audio)
