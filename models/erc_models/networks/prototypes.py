"""Labels defined by a few examples instead of training (few-shot classification).

An embedding space that separates emotions needs no head: a label is the mean of its examples (prototypical
networks, Snell et al. 2017). `fit` builds a `LabelSpace` from examples, which replaces a network's head and
changes no weight. Embeddings here are rows of unit length.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

UNKNOWN_SCALE = 1.5
"""The scale if every label has a single example, so that none can be left out: it fits MELD dev best."""
MOST_LEFT_OUT = 2_000
"""Maximum number of examples left out in turn, spread evenly: enough to fit one number."""
_SCALES = torch.logspace(-1, 6, 141, base=2.0)
"""The candidates of `fit_scale`, 1/2 to 64."""


@dataclass(frozen=True, eq=False)
class LabelSpace:
    """Labels and their prototypes in an embedding space.

    Attributes:
        labels: their names.
        centre: (E,), subtracted from an embedding before it is compared.
        prototypes: (C, E), of unit length.
        scale: logits are the cosines times this.
    """

    labels: tuple[str, ...]
    centre: Tensor
    prototypes: Tensor
    scale: float

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return logits (..., C) of embeddings (..., E)."""
        return prototype_logits(embeddings - self.centre, self.prototypes, self.scale)

    def to(self, device: torch.device | str) -> "LabelSpace":
        """Move the space to another device."""
        return LabelSpace(self.labels, self.centre.to(device), self.prototypes.to(device), self.scale)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {"centre": self.centre, "prototypes": self.prototypes}
        about = json.dumps({"labels": self.labels, "scale": self.scale})
        save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, path, {"label_space": about})

    @classmethod
    def load(cls, path: Path) -> "LabelSpace":
        """Load what `save` wrote, bit for bit.

        Raises:
            ValueError: the file is missing or not a label space; the message names it.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["label_space"])
                centre, prototypes = file.get_tensor("centre"), file.get_tensor("prototypes")
            space = cls(tuple(about["labels"]), centre, prototypes, float(about["scale"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: expected a label space, got {reason}") from error
        wanted = (len(space.labels), *centre.shape)
        if centre.ndim != 1 or tuple(prototypes.shape) != wanted:
            raise ValueError(f"{path}: expected prototypes of shape {wanted}, got {tuple(prototypes.shape)}")
        return space


def prototypes(embeddings: Tensor, label: Tensor, classes: int) -> Tensor:
    """Return the mean embedding of each label, scaled to unit length.

    Args:
        embeddings: (N, E).
        label: int64 (N,), below `classes`.
        classes: number of labels.

    Returns:
        (C, E); zeros for a label without embeddings.
    """
    one_hot = F.one_hot(label, classes).to(embeddings.dtype)  # (N, C)
    return F.normalize(one_hot.t() @ embeddings, dim=1)


def prototype_logits(embeddings: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """Return the cosine of each embedding (..., E) with each prototype (C, E), times `scale`: (..., C)."""
    return scale * F.normalize(embeddings, dim=-1) @ prototypes.t()


def fit(embeddings: Tensor, label: Tensor, labels: Sequence[str]) -> LabelSpace:
    """Build the label space of some examples, at least one for each label.

    The centre is the mean of the labels' means. What all examples share (the style of the show, the length of
    the sentences, the bulk of the space) does not separate labels and would otherwise make all cosines alike.
    The scale is the one that classifies each example best when it is left out, see `fit_scale`.

    Args:
        embeddings: (N, E).
        label: int64 (N,), an index into `labels`.
        labels: at least two.

    Raises:
        ValueError: fewer than two labels, or one without an example; the message names it.
    """
    if len(labels) < 2:
        raise ValueError(f"expected two labels or more, got {', '.join(labels) or 'none'}")
    count = torch.bincount(label, minlength=len(labels))
    for name, examples in zip(labels, count.tolist(), strict=True):
        if not examples:
            raise ValueError(f"expected an example of each label, got none of {name}")
    one_hot = F.one_hot(label, len(labels)).to(embeddings.dtype)
    centre = (one_hot.t() @ embeddings / count.unsqueeze(1)).mean(0)
    found = prototypes(embeddings - centre, label, len(labels))
    return LabelSpace(tuple(labels), centre, found, fit_scale(*left_out_cosines(embeddings, label)))


def left_out_cosines(embeddings: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return each example's cosines (M, C) in the label space of all others, and its label (M,).

    The only example of a label cannot be left out, so M <= N. The centre is computed without the example too.
    """
    classes = int(label.max()) + 1
    one_hot = F.one_hot(label, classes).to(embeddings.dtype)  # (N, C)
    count = one_hot.sum(0)
    rows = (count[label] > 1).nonzero().squeeze(1)
    rows = rows[:: -(-len(rows) // MOST_LEFT_OUT) or 1]
    x, own = embeddings[rows], one_hot[rows].unsqueeze(2)  # (M, E), (M, C, 1)
    left = (count.unsqueeze(1) - own).clamp(min=1)  # (M, C, 1)
    means = (one_hot.t() @ embeddings - own * x.unsqueeze(1)) / left  # (M, C, E)
    centre = means.mean(1, keepdim=True)
    cosines = (
        F.normalize(means - centre, dim=2) @ F.normalize(x - centre[:, 0], dim=1).unsqueeze(2)
    ).squeeze(2)
    return cosines, label[rows]


def fit_scale(cosines: Tensor, label: Tensor) -> float:
    """Return the scale of cosines (M, C) that makes the labels (M,) most likely, all labels weighted equally.

    Targets are smoothed by Laplace's rule of succession: the next example may be wrong even if all of these
    are right, so a few clear examples do not give certainty. Without examples (M = 0) it is `UNKNOWN_SCALE`.
    """
    if not len(label):
        return UNKNOWN_SCALE
    weight = torch.bincount(label, minlength=cosines.shape[1]).clamp(min=1).to(cosines.dtype).reciprocal()
    doubt = 1 / (len(label) + 2)
    losses = [
        F.cross_entropy(scale * cosines, label, weight, label_smoothing=doubt) for scale in _SCALES.tolist()
    ]
    return float(_SCALES[int(torch.stack(losses).argmin())])
