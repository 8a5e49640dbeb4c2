"""Feature sets: precomputed features of a corpus split, from which conversation networks are trained.

A split is one safetensors file with flat arrays over all utterances, dialogue after dialogue, and the offsets
of the dialogues. Its metadata (JSON) holds the labels, the names of dialogues and corpora, and the
specification of the features.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from erc_models.networks.streaming import TurnInput

NO_LABEL = -100
"""The label of an unlabelled utterance, which losses and scores ignore."""

CONDITIONS = ("all", "text", "audio")
"""The modalities that a network may read of a turn: all, text only, audio only."""


def mask_modalities(x: TurnInput, condition: str) -> TurnInput:
    """Mask the modalities that a condition of `CONDITIONS` may not read."""
    if condition not in CONDITIONS:
        raise ValueError(f"condition: expected one of {', '.join(CONDITIONS)}, got {condition!r}")
    if condition == "all":
        return x
    vision_mask = None if x.vision_mask is None else torch.zeros_like(x.vision_mask)
    if condition == "text":
        return replace(x, audio_mask=torch.zeros_like(x.audio_mask), vision_mask=vision_mask)
    return replace(x, text_mask=torch.zeros_like(x.text_mask), vision_mask=vision_mask)


@dataclass(frozen=True, eq=False)
class DialogueBatch:
    """B dialogues padded to T turns; a padded turn has no modality and no label.

    Attributes:
        x: the turns, (B, T, ...).
        speaker: int64 (B, T), by order of appearance in the dialogue.
        label: int64 (B, T), `NO_LABEL` for an unlabelled turn.
        corpus: int64 (B,).
        soft: (B, T, C) target probabilities, or None.
    """

    x: TurnInput
    speaker: Tensor
    label: Tensor
    corpus: Tensor
    soft: Tensor | None = None

    def to(self, device: torch.device | str) -> "DialogueBatch":
        """Move the batch to another device."""
        return DialogueBatch(
            self.x.to(device),
            self.speaker.to(device),
            self.label.to(device),
            self.corpus.to(device),
            None if self.soft is None else self.soft.to(device),
        )


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """N utterances of K dialogues.

    Attributes:
        text: (N, D_text), float16 or float32.
        audio: (N, D_audio) in the features' own units, group after group; NaN for a value not measured.
        text_mask: bool (N,).
        audio_mask: bool (N, G).
        speaker: int64 (N,), dialogue-local, by order of appearance.
        label: int64 (N,), an index into `labels` or `NO_LABEL`.
        offsets: int64 (K + 1,), dialogue k has the utterances from offsets[k] up to offsets[k + 1].
        corpus: int64 (K,), an index into `corpora`.
        labels: the emotions.
        corpora: names of the corpora.
        names: a name for each dialogue.
        audio_groups: sizes of the groups of acoustic features; they sum to D_audio.
        spec: the specification of the features, as in a checkpoint.
        soft: (N, C) target probabilities, of a teacher for example, or None.
        vision: visual features (N, D_vision), float16 or float32, or None; ignored where the mask is False.
        vision_mask: bool (N,), or None with `vision`.
    """

    text: Tensor
    audio: Tensor
    text_mask: Tensor
    audio_mask: Tensor
    speaker: Tensor
    label: Tensor
    offsets: Tensor
    corpus: Tensor
    labels: tuple[str, ...]
    corpora: tuple[str, ...]
    names: tuple[str, ...]
    audio_groups: tuple[int, ...]
    spec: dict = field(default_factory=dict)
    soft: Tensor | None = None
    vision: Tensor | None = None
    vision_mask: Tensor | None = None

    def __post_init__(self) -> None:
        n, k = len(self.text), len(self.offsets) - 1
        expected = {
            "text": (n, self.text.shape[-1]), "audio": (n, sum(self.audio_groups)), "text_mask": (n,),
            "audio_mask": (n, len(self.audio_groups)), "speaker": (n,), "label": (n,), "corpus": (k,),
        }  # fmt: skip
        if self.soft is not None:
            expected["soft"] = (n, len(self.labels))
        if (self.vision is None) != (self.vision_mask is None):
            alone = "vision" if self.vision_mask is None else "vision_mask"
            raise ValueError(f"expected 'vision' and 'vision_mask' or neither, got {alone!r} alone")
        if self.vision is not None:
            expected |= {"vision": (n, self.vision.shape[-1]), "vision_mask": (n,)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                got = tuple(getattr(self, name).shape)
                raise ValueError(f"expected {name!r} of shape {shape}, got {got}")
        if len(self.names) != k or int(self.offsets[0]) != 0 or int(self.offsets[-1]) != n:
            raise ValueError(
                f"expected {k} names and offsets from 0 to {n}, got {len(self.names)} names and offsets "
                f"from {int(self.offsets[0])} to {int(self.offsets[-1])}"
            )

    def __len__(self) -> int:
        """Return the number of dialogues (K)."""
        return len(self.offsets) - 1

    def by_turn(self) -> "FeatureSet":
        """Make every utterance a dialogue of its own."""
        turns = self.offsets.diff()
        names = tuple(
            f"{name}:{turn}" for name, n in zip(self.names, turns.tolist(), strict=True) for turn in range(n)
        )
        return replace(
            self,
            offsets=torch.arange(len(self.text) + 1),
            corpus=self.corpus.repeat_interleave(turns),
            names=names,
            speaker=torch.zeros_like(self.speaker),
        )

    def lengths(self) -> list[int]:
        """Return the number of turns of each dialogue."""
        return self.offsets.diff().tolist()

    def batch(self, dialogues: Sequence[int]) -> DialogueBatch:
        """Pad dialogues, given by index, to a batch in float32."""
        lengths = [int(self.offsets[k + 1] - self.offsets[k]) for k in dialogues]
        rows = torch.full((len(dialogues), max(lengths)), -1)  # (B, T), -1: padding
        for i, (k, length) in enumerate(zip(dialogues, lengths, strict=True)):
            rows[i, :length] = torch.arange(int(self.offsets[k]), int(self.offsets[k]) + length)
        real = rows >= 0
        rows = rows.clamp(min=0)
        x = TurnInput(
            self.text[rows].float(),
            self.audio[rows].float(),
            self.text_mask[rows] & real,
            self.audio_mask[rows] & real.unsqueeze(2),
            None if self.vision is None else self.vision[rows].float(),
            None if self.vision_mask is None else self.vision_mask[rows] & real,
        )
        return DialogueBatch(
            x,
            self.speaker[rows].where(real, 0),
            self.label[rows].where(real, NO_LABEL),
            self.corpus[list(dialogues)],
            None if self.soft is None else self.soft[rows].float(),
        )

    def save(self, path: Path) -> None:
        """Write the file."""
        arrays = {name: array.contiguous() for name, array in self._arrays().items()}
        about = {
            "labels": self.labels, "corpora": self.corpora, "names": self.names,
            "audio_groups": self.audio_groups, "spec": self.spec,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, path, metadata={"feature_set": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> "FeatureSet":
        """Read the file.

        Raises:
            ValueError: it is missing or not a feature set; the message names it.
        """
        if not path.is_file():
            raise ValueError(f"expected a feature set at {path}, found no such file")
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["feature_set"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}
            return cls(
                **arrays,
                labels=tuple(about["labels"]),
                corpora=tuple(about["corpora"]),
                names=tuple(about["names"]),
                audio_groups=tuple(about["audio_groups"]),
                spec=about["spec"],
            )
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"expected a feature set at {path}, got {error!r}") from error

    def _arrays(self) -> dict[str, Tensor]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def concatenate(sets: Sequence[FeatureSet]) -> FeatureSet:
    """Join sets of the same labels, features and specification; a corpus is identified by its name.

    If only some sets have visual features, the others get masked ones.
    """
    sets = _with_vision(sets)
    first = sets[0]
    for other in sets[1:]:
        for name in ("labels", "audio_groups", "spec"):
            if getattr(other, name) != getattr(first, name):
                raise ValueError(f"expected {name} {getattr(first, name)}, got {getattr(other, name)}")
        if (other.soft is None) != (first.soft is None):
            raise ValueError("expected soft labels in every set or in none, got some")
    corpora = tuple(dict.fromkeys(name for s in sets for name in s.corpora))
    arrays: dict[str, list[Tensor]] = {}
    utterances = 0
    for s in sets:
        renumber = torch.tensor([corpora.index(name) for name in s.corpora])
        moved = replace(s, corpus=renumber[s.corpus])
        for name, array in moved._arrays().items():
            if name == "offsets":
                array = (array if not arrays.get(name) else array[1:]) + utterances
            arrays.setdefault(name, []).append(array)
        utterances += len(s.text)
    names = tuple(name for s in sets for name in s.names)
    joined = {name: torch.cat(parts) for name, parts in arrays.items()}
    return replace(first, **joined, corpora=corpora, names=names)


def _with_vision(sets: Sequence[FeatureSet]) -> Sequence[FeatureSet]:
    """Add masked visual features to sets without any, if another set has some."""
    widths = {s.vision.shape[1]: s.vision for s in sets if s.vision is not None}
    if not widths:
        return sets
    if len(widths) > 1:
        raise ValueError(f"expected visual features of one size, got {', '.join(map(str, widths))}")
    [(width, like)] = widths.items()
    return [
        s
        if s.vision is not None
        else replace(s, vision=like.new_zeros(len(s.text), width), vision_mask=torch.zeros_like(s.text_mask))
        for s in sets
    ]
