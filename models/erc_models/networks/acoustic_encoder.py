"""The acoustic encoder: the voice in a turn, relative to the same speaker's earlier turns, as one vector.

A speaker's running mean is subtracted after the projection: a mean commutes with a linear map, so the state
per speaker is as small as the projection. The mean is over the earlier turns only. Including the turn itself
would only change a factor: x - (S + x) / (n + 1 + k) is (n + k) / (n + 1 + k) times x - S / (n + k), for a
sum S over n earlier turns and a prior of k turns at the population's mean.

The caller keeps means and counts; the module holds weights only.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class AcousticEncoderConfig:
    """Sizes of an encoder, and the weight of a speaker's past.

    Attributes:
        audio_groups: sizes of the groups of acoustic features; each group may be missing.
        hidden: size d of the projection, and of the mean kept for each speaker.
        out_dim: size of the vector of a turn.
        prior: k, the population's mean weighs as much as this many turns of the speaker.
        clip: features on their logarithmic scale are clipped to +- this.
        dropout: on the hidden vector, in training only.
    """

    audio_groups: tuple[int, ...]
    hidden: int = 128
    out_dim: int = 64
    prior: float = 4.0
    clip: float = 5.0
    dropout: float = 0.5


class AcousticEncoder(nn.Module):
    """The network: acoustic features of a turn and the speaker's mean so far -> a vector.

    Features come in their own units. Each is centred and scaled (`set_normalisation`) and compressed by
    arcsinh: linear for usual values, logarithmic for outliers, which are common in functionals.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, config: AcousticEncoderConfig) -> None:
        super().__init__()
        self.config = config
        total, d = sum(config.audio_groups), config.hidden
        self.register_buffer("centre", torch.zeros(total))
        self.register_buffer("scale", torch.ones(total))
        bound = 1 / math.sqrt(total)
        self.projection = nn.Parameter(torch.empty(d, total).uniform_(-bound, bound))
        self.average = nn.Parameter(torch.zeros(total))
        """Mean of each compressed feature over the population, so that an average voice projects to 0."""
        self.bias = nn.Parameter(torch.zeros(d))
        self.out = nn.Linear(d, config.out_dim)

    def set_normalisation(self, centre: Tensor, scale: Tensor) -> None:
        """Set the features' centre and scale, (D,) each, in the features' units."""
        self.centre.copy_(centre)
        self.scale.copy_(scale.clamp(min=1e-6))

    def compress(self, audio: Tensor) -> Tensor:
        """Map features (N, D) to their logarithmic scale; NaN stays."""
        limit = math.sinh(self.config.clip)
        x = ((audio - self.centre) / self.scale).clamp(-limit, limit)
        size = x.abs()
        # arcsinh, written out: torch.asinh takes eight times as long on a CPU
        return torch.log(size + (x * x + 1).sqrt()) * (x / size.clamp(min=_TINY))

    def project(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Project turns to the space in which speakers' means are kept; 0 is the average voice.

        Args:
            audio: (N, D), read only under a True mask; NaN for a value that could not be measured.
            mask: bool (N, G), whether the turn has each group.

        Returns:
            (N, d); 0 for a turn without any group.
        """
        measured = columns(mask, self.config.audio_groups) & (audio == audio)  # NaN is unequal to itself
        known = torch.where(measured, self.compress(audio) - self.average, 0.0)
        return F.linear(known, self.projection)

    def initial(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return mean (N, d) and count (N,) of `rows` speakers who have not been heard."""
        return self.bias.new_zeros(rows, self.config.hidden), self.bias.new_zeros(rows)

    def read(self, projected: Tensor, present: Tensor, mean: Tensor, count: Tensor) -> Tensor:
        """Return the vectors of projected turns.

        Args:
            projected: (..., d).
            present: bool (...), whether the turn has any audio.
            mean: (..., d), of the speaker's earlier turns.
            count: (...), the number of those turns.

        Returns:
            (..., out); 0 for a turn without audio.
        """
        trust = (count / (count + self.config.prior)).unsqueeze(-1)
        hidden = F.gelu(projected - trust * mean + self.bias)
        hidden = F.dropout(hidden, self.config.dropout, self.training)
        return torch.where(present.unsqueeze(-1), self.out(hidden), 0.0)

    def forward(self, audio: Tensor, mask: Tensor, mean: Tensor, count: Tensor) -> Tensor:
        """Return vectors (N, out) of turns (N, D), (N, G), given the speakers' mean (N, d), count (N,)."""
        return self.read(self.project(audio, mask), mask.any(1), mean, count)

    @staticmethod
    def update(projected: Tensor, present: Tensor, mean: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Return the speakers' mean (N, d) and count (N,) after turns (N, d); unchanged unless `present`."""
        after = count + present
        step = (projected - mean) / after.clamp(min=1).unsqueeze(1)
        return torch.where(present.unsqueeze(1), mean + step, mean), after

    def dialogue(self, audio: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """Return the vectors of whole dialogues, the same as `forward` and `update` turn by turn.

        Args:
            audio: (B, T, D).
            mask: bool (B, T, G); padding has none.
            speaker: int64 (B, T).

        Returns:
            (B, T, out).
        """
        b, t = speaker.shape
        projected = self.project(audio.flatten(0, 1), mask.flatten(0, 1)).view(b, t, -1)
        present = mask.any(2)
        mean, count = earlier_means(projected, present, speaker)
        return self.read(projected, present, mean, count)

    def save(self, path: Path, head: nn.Linear, about: dict[str, str]) -> None:
        """Write weights in fp16 and the normalisation in fp32, with a classifier's `head` (C, out)."""
        tensors = {f"encoder.{name}": value for name, value in self.state_dict().items()}
        tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
        kept = {
            name: (value if name.removeprefix("encoder.") in _EXACT else value.half()).contiguous()
            for name, value in tensors.items()
        }
        sizes = {name: _text(value) for name, value in asdict(self.config).items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, path, metadata=about | sizes)

    @classmethod
    def load(cls, path: Path) -> "tuple[AcousticEncoder, nn.Linear]":
        """Load the encoder and the head that `save` wrote, in eval mode.

        Raises:
            ValueError: the file was not written by `save`.
        """
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        if "audio_groups" not in about or "head.weight" not in tensors:
            raise ValueError(f"{path}: expected an acoustic encoder with a head, got {sorted(tensors)[:3]}")
        config = AcousticEncoderConfig(
            audio_groups=tuple(int(size) for size in about["audio_groups"].split(",")),
            hidden=int(about["hidden"]),
            out_dim=int(about["out_dim"]),
            prior=float(about["prior"]),
            clip=float(about["clip"]),
            dropout=float(about["dropout"]),
        )
        encoder, head = cls(config), nn.Linear(config.out_dim, len(tensors["head.weight"]))
        for part, module in (("encoder.", encoder), ("head.", head)):
            mine = {n.removeprefix(part): v for n, v in tensors.items() if n.startswith(part)}
            module.load_state_dict(mine)
        return encoder.eval(), head.eval()


_TINY = 1e-30
"""Below every feature, so that the sign of 0 is 0."""

_EXACT = ("centre", "scale", "average")
"""Tensors stored in fp32: the units of functionals exceed the range of fp16."""


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def columns(mask: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Spread a mask of groups (N, G) over their features: bool (N, D), or (N, 1) for a single group."""
    if len(groups) == 1:
        return mask
    spread = [one.expand(-1, size) for one, size in zip(mask.split(1, 1), groups, strict=True)]
    return torch.cat(spread, 1)


def earlier_means(projected: Tensor, present: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each turn of whole dialogues, the mean of the same speaker's earlier turns and their count.

    Args:
        projected: (B, T, d).
        present: bool (B, T), whether a turn counts.
        speaker: int64 (B, T).

    Returns:
        (B, T, d), 0 without earlier turns, and (B, T).
    """
    same = (speaker.unsqueeze(2) == speaker.unsqueeze(1)) & present.unsqueeze(1)  # (B, now, before)
    earlier = same.tril(-1).to(projected.dtype)
    count = earlier.sum(2)
    return earlier @ projected / count.clamp(min=1).unsqueeze(2), count
