"""Layers with weights for each modality, and the reduction of a turn's modalities to one width.

Networks run their M modalities through one set of batched kernels: a tensor (M, N, D) holds text at 0, audio
at 1 and, where there is a third, vision at 2. N is the batch in `advance` and all turns of the batch in
`forward`.
"""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from erc_models.networks.acoustic_encoder import AcousticEncoder, AcousticEncoderConfig, columns
from erc_models.networks.streaming import TurnInput, with_row


def presence(x: TurnInput) -> Tensor:
    """Return which of text and audio each turn (N, ...) has, bool (2, N)."""
    return torch.stack([x.text_mask, x.audio_mask.any(1)])


class ModalityLinear(nn.Module):
    """A linear map per modality: (M, N, inputs) -> (M, N, outputs)."""

    def __init__(self, modalities: int, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(modalities, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(modalities, 1, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map each modality by its own weights."""
        return torch.bmm(x, self.weight) if self.bias is None else torch.baddbmm(self.bias, x, self.weight)


class ModalityNorm(nn.Module):
    """Layer normalisation with a gain and an offset per modality, (M, N, d)."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(modalities, 1, width))
        self.offset = nn.Parameter(torch.zeros(modalities, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last dimension."""
        return torch.addcmul(self.offset, torch.layer_norm(x, x.shape[-1:]), self.gain)


def normalise(audio: Tensor, mean: Tensor, std: Tensor, clip: float) -> Tensor:
    """Return acoustic features in standard deviations from their mean, within +- `clip`; 0 for NaN."""
    return ((audio - mean) / std).clamp_(-clip, clip).nan_to_num_(0.0)


class InputReduction(nn.Module):
    """Both modalities reduced to a common width d, a linear layer each.

    Acoustic features come in their own units and are normalised here, by the training set's mean and standard
    deviation (`set_normalisation`), and clipped to +- `clip` standard deviations. Each group has a linear map
    into the audio vector. The maps of the groups that are present are summed, with a bias per group, so that
    an absent group differs from an average one.
    """

    audio_mean: Tensor
    audio_std: Tensor

    def __init__(self, text_dim: int, audio_groups: tuple[int, ...], width: int, clip: float = 5.0) -> None:
        super().__init__()
        total, groups = sum(audio_groups), len(audio_groups)
        self.audio_groups, self.clip = audio_groups, clip
        self.text = nn.Linear(text_dim, width)
        self.audio = nn.Linear(total + groups, width, bias=False)  # the last columns are the biases
        self.norm = ModalityNorm(2, width)
        self.register_buffer("audio_mean", torch.zeros(total))
        self.register_buffer("audio_std", torch.ones(total))

    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation (D_audio,) of the acoustic features."""
        self.audio_mean.copy_(mean)
        self.audio_std.copy_(std.clamp(min=1e-6))

    def forward(self, x: TurnInput) -> Tensor:
        """Reduce turns (N, ...) to tokens (2, N, d)."""
        heard = self.hear(x.audio, x.audio_mask) if x.heard is None else x.heard
        return _tokens(self.text, self.norm, x, heard)

    def hear(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the audio vectors (N, d) of acoustic features (N, D_audio) under a mask (N, G)."""
        known = self.acoustics(audio, mask)
        features, biases = self.audio.weight.t().split([known.shape[1], mask.shape[1]])
        return torch.addmm(mask.to(known.dtype) @ biases, known, features)

    def acoustics(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the normalised acoustic features (N, D_audio).

        A feature that was not measured is set to its mean, 0; an absent group is 0 and has no bias.
        """
        known = normalise(audio, self.audio_mean, self.audio_std, self.clip)
        return torch.where(columns(mask, self.audio_groups), known, 0.0)


class VoiceReduction(nn.Module):
    """Both modalities reduced to a common width d, the voice relative to the same speaker's earlier turns.

    An `AcousticEncoder` computes the audio token. Its state for a speaker, the running mean and the number of
    turns, is one row (hidden + 1,) that the caller keeps; it starts as zeros.
    """

    def __init__(self, text_dim: int, voice: AcousticEncoderConfig, width: int) -> None:
        super().__init__()
        self.text = nn.Linear(text_dim, width)
        self.voice = AcousticEncoder(voice)
        self.audio = nn.Linear(voice.out_dim, width)
        self.norm = ModalityNorm(2, width)
        self._loaded = 0  # number of leading features whose normalisation was loaded

    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the centre and scale of the acoustic features (D_audio,), except the loaded ones."""
        voice, loaded = self.voice, self._loaded
        centre, scale = mean.to(voice.centre), std.to(voice.scale)
        voice.set_normalisation(
            torch.cat([voice.centre[:loaded], centre[loaded:]]),
            torch.cat([voice.scale[:loaded], scale[loaded:]]),
        )

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Load weights written by `AcousticEncoder.save`; those of other features stay.

        The prior and the dropout are not loaded.

        Raises:
            ValueError: it is not such a file, or its groups are not the first groups here, or sizes differ.
        """
        try:
            found, _ = AcousticEncoder.load(path)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path}: expected an acoustic encoder, got {error}") from error
        mine, its = self.voice.config, found.config
        fitting = replace(
            its,
            audio_groups=mine.audio_groups[: len(its.audio_groups)],
            hidden=mine.hidden,
            out_dim=mine.out_dim,
            clip=mine.clip,
        )
        if its != fitting:
            raise ValueError(f"{path}: expected {_sizes(fitting)}, got {_sizes(its)}")
        columns = self._loaded = sum(its.audio_groups)
        for name in ("projection", "centre", "scale", "average"):
            getattr(self.voice, name)[..., :columns] = getattr(found, name)
        self.voice.bias.copy_(found.bias)
        self.voice.out.load_state_dict(found.out.state_dict())

    def hear(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the voices (N, hidden) of acoustic features (N, D_audio) under a mask (N, G)."""
        return self.voice.project(audio, mask)

    def forward(self, x: TurnInput, speaker: Tensor, voices: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce one turn of each conversation.

        Args:
            x: the turns (B, ...).
            speaker: int64 (B,).
            voices: (B, S, hidden + 1), each speaker's mean, then the count.

        Returns:
            Tokens (2, B, d), and the voices after the turn.
        """
        row = speaker.view(-1, 1, 1).expand(-1, 1, voices.shape[2])
        past = voices.gather(1, row).squeeze(1)  # (B, hidden + 1)
        mean, count = past[:, :-1], past[:, -1]
        projected = self.hear(x.audio, x.audio_mask) if x.heard is None else x.heard
        present = x.audio_mask.any(1)
        heard = self.voice.read(projected, present, mean, count)
        mean, count = self.voice.update(projected, present, mean, count)
        after = torch.cat([mean, count.unsqueeze(1)], 1)
        return _tokens(self.text, self.norm, x, self.audio(heard)), with_row(voices, speaker, after)

    def dialogue(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return tokens (2, B T, d) of whole dialogues (B, T, ...), the same as `forward` turn by turn."""
        heard = self.voice.dialogue(x.audio, x.audio_mask, speaker).flatten(0, 1)
        return _tokens(self.text, self.norm, x.flatten(), self.audio(heard))


def _sizes(voice: AcousticEncoderConfig) -> str:
    return f"groups {voice.audio_groups}, hidden {voice.hidden}, out {voice.out_dim}, clip {voice.clip:g}"


def _tokens(text_map: nn.Linear, norm: ModalityNorm, x: TurnInput, audio: Tensor) -> Tensor:
    """Return tokens (2, N, d) of turns (N, ...) whose audio is reduced already (N, d)."""
    text = text_map(torch.where(x.text_mask.unsqueeze(1), x.text, 0.0))
    return norm(torch.cat([text, audio]).view(2, -1, audio.shape[1]))
