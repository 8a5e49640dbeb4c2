"""Train an acoustic encoder on acted clips, by voice only.

``python -m erc_models.training.train_voice --acoustics DIR --out FILE`` reads ``DIR/ravdess.npz`` and
``tess.npz`` (of `scripts/extract_features`), trains on the speakers of split train, and writes the encoder
with its head.

There are many features and few clips, so the network is trained on principal components of the speaker
encoder's voice states. Prosody stays as it is, since its few values would be lost among the others. The
linear maps are then multiplied to one projection.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.data.datasets import MELD_LABELS
from erc_models.networks.acoustic_encoder import AcousticEncoder, AcousticEncoderConfig

GROUPS = ("voice_states", "prosody")
"""The groups of acoustic features, in the order in which networks read them."""

COMPONENTS = {"functionals_compare": 320, "functionals_egemaps": 88, "voice_states": 192, "prosody": 8}
"""Number of principal components of each group; a group without more values stays as it is."""

CLASSES = len(MELD_LABELS)


@dataclass(frozen=True, eq=False)
class Voices:
    """Labelled clips.

    Attributes:
        audio: (N, D), the groups one after the other.
        groups: their sizes.
        label: (N,) index into MELD_LABELS.
        speaker, copy, split: (N,) names.
        spec: specification of each group's features.
    """

    audio: np.ndarray
    groups: tuple[int, ...]
    label: np.ndarray
    speaker: np.ndarray
    copy: np.ndarray
    split: np.ndarray
    spec: dict

    @classmethod
    def load(
        cls, folder: Path, names: Sequence[str] = ("ravdess", "tess"), groups: Sequence[str] = GROUPS
    ) -> "Voices":
        """Read groups of features from the files of these names."""
        columns: dict[str, list[np.ndarray]] = {}
        for name in names:
            with np.load(folder / f"{name}.npz") as file:
                for key in (*groups, "label", "speaker", "augmentation", "split"):
                    columns.setdefault(key, []).append(file[key])
                spec = json.loads(str(file["feature_specs"]))
        joined = {key: np.concatenate(parts) for key, parts in columns.items()}
        return cls(
            audio=np.hstack([joined[name] for name in groups]).astype(np.float32),
            groups=tuple(joined[name].shape[1] for name in groups),
            label=joined["label"],
            speaker=joined["speaker"],
            copy=joined["augmentation"],
            split=joined["split"],
            spec=spec,
        )

    def rows(self, keep: np.ndarray) -> "Voices":
        """Select clips."""
        columns = (self.label, self.speaker, self.copy, self.split)
        return Voices(self.audio[keep], self.groups, *(column[keep] for column in columns), spec=self.spec)


@dataclass(frozen=True)
class Recipe:
    """Training settings, selected by cross-validation over training speakers (see models/LOG.md).

    Attributes:
        components: number for each group, see `COMPONENTS`.
        whitening: a component of standard deviation s is divided by s to this power.
        hidden, out_dim, prior, dropout: of the encoder.
        input_dropout: on the components.
        epochs, batch, lr, weight_decay, label_smoothing: of AdamW with one cycle of the learning rate.
        cold: share of turns trained without the speaker's past.
        turns: maximum length of the conversations from which a speaker's past is drawn.
    """

    components: tuple[int, ...] = tuple(COMPONENTS[name] for name in GROUPS)
    whitening: float = 0.25
    hidden: int = 128
    out_dim: int = 64
    prior: float = 4.0
    dropout: float = 0.5
    input_dropout: float = 0.2
    epochs: int = 20
    batch: int = 256
    lr: float = 3e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    cold: float = 0.3
    turns: int = 60


@dataclass(frozen=True, eq=False)
class Basis:
    """The normalisation and the linear map to components that were fitted on a training set.

    Attributes:
        blank: an encoder with the normalisation set.
        components: (P, D), the map from compressed features less their average to components.
        values: (N, P), the training clips' components.
    """

    blank: AcousticEncoder
    components: Tensor
    values: Tensor


def fit_basis(voices: Voices, recipe: Recipe) -> Basis:
    """Fit normalisation and components on the training clips; deterministic."""
    size = (recipe.hidden, recipe.out_dim, recipe.prior)
    blank = AcousticEncoder(AcousticEncoderConfig(voices.groups, *size, dropout=recipe.dropout))
    low, centre, high = np.nanpercentile(voices.audio[::3], (15.87, 50, 84.13), axis=0)
    deviation = np.nanstd(voices.audio, 0, dtype=np.float64)
    scale = np.where(high - low > 2e-3 * deviation, (high - low) / 2, deviation)
    blank.set_normalisation(torch.from_numpy(centre), torch.from_numpy(scale))
    known = blank.compress(torch.from_numpy(voices.audio))
    average = known.nanmean(0)
    blank.average.data.copy_(average)
    known = (known - average).nan_to_num_(0.0)
    spread = known.std(0, correction=0)
    inverse = torch.where(spread > 1e-3, 1 / spread.clamp(min=1e-3), 0.0)
    known *= inverse
    maps = []
    for kept, group in zip(recipe.components, known.split(voices.groups, 1), strict=False):
        size = group.shape[1]
        maps.append(torch.eye(size) if kept >= size else principal(group, kept, recipe.whitening))
    components = torch.block_diag(*maps)
    return Basis(blank, components * inverse, known @ components.t())


def principal(x: Tensor, kept: int, whitening: float) -> Tensor:
    """Return a map (P, D) from rows (N, D) of mean 0 to principal components of average power 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, singular, directions = torch.svd_lowrank(x, min(kept, *x.shape), niter=3)
    weight = directions.t() / singular.clamp(min=1e-6).unsqueeze(1) ** whitening
    return weight / (x @ weight.t()).std()


def pasts(values: Tensor, speaker: np.ndarray, turns: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Put every speaker's clips into conversations in a random order.

    Returns:
        The mean of the speaker's clips before each clip (N, P), and their number (N,).
    """
    mean, count = torch.zeros_like(values), torch.zeros(len(values))
    for name in np.unique(speaker):
        order = torch.from_numpy(rng.permutation(np.flatnonzero(speaker == name)))
        for part in order.split(turns):
            before = torch.arange(len(part), dtype=values.dtype)
            total = values[part].cumsum(0) - values[part]
            mean[part] = total / before.clamp(min=1).unsqueeze(1)
            count[part] = before
    return mean, count


def pretrain(
    voices: Voices, recipe: Recipe, seed: int, basis: Basis | None = None
) -> tuple[AcousticEncoder, nn.Linear]:
    """Train an encoder and its head (C, out); deterministic given clips and seed.

    Args:
        voices: the training clips.
        recipe: the settings.
        seed: of weights, order and dropout.
        basis: of the same clips; None: it is fitted.
    """
    basis = basis or fit_basis(voices, recipe)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    values, label = basis.values, torch.from_numpy(voices.label)
    trunk = nn.Linear(values.shape[1], recipe.hidden)
    encoder = AcousticEncoder(basis.blank.config)
    head = nn.Linear(recipe.out_dim, CLASSES)
    parameters = [*trunk.parameters(), *encoder.out.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay)
    steps = -(-len(label) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=recipe.epochs * steps, pct_start=0.15
    )
    weight = torch.bincount(label, minlength=CLASSES).clamp(min=1).float() ** -0.5
    weight *= CLASSES / weight.sum()
    for _ in range(recipe.epochs):
        mean, count = pasts(values, voices.speaker, recipe.turns, rng)
        count *= torch.from_numpy(rng.random(len(label)) >= recipe.cold)
        for rows in torch.from_numpy(rng.permutation(len(label))).split(recipe.batch):
            trust = (count[rows] / (count[rows] + recipe.prior)).unsqueeze(1)
            x = F.dropout(values[rows] - trust * mean[rows], recipe.input_dropout)
            hidden = F.dropout(F.gelu(trunk(x)), recipe.dropout)
            loss = F.cross_entropy(
                head(encoder.out(hidden)), label[rows], weight, label_smoothing=recipe.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        for name in ("centre", "scale", "average"):
            getattr(encoder, name).copy_(getattr(basis.blank, name))
        encoder.projection.copy_(trunk.weight @ basis.components)
        encoder.bias.copy_(trunk.bias)
    return encoder.eval(), head.eval()


@torch.no_grad()
def cold_logits(encoder: AcousticEncoder, head: nn.Linear, voices: Voices) -> Tensor:
    """Return logits (N, C) of the clips, each without a past."""
    mask = torch.ones(len(voices.label), len(voices.groups), dtype=torch.bool)
    state = encoder.initial(len(voices.label))
    return head(encoder(torch.from_numpy(voices.audio), mask, *state))


@torch.no_grad()
def warm_logits(
    encoder: AcousticEncoder, head: nn.Linear, voices: Voices, order: int
) -> tuple[Tensor, Tensor]:
    """Predict each speaker's clips of one copy as a conversation, shuffled by the seed `order`.

    Returns:
        Logits (N, C), and the number of the speaker's clips before each (N,).
    """
    rng = np.random.default_rng(order)
    logits = torch.empty(len(voices.label), CLASSES)
    before = torch.empty(len(voices.label))
    who = np.char.add(voices.speaker, voices.copy)
    for name in np.unique(who):
        rows = rng.permutation(np.flatnonzero(who == name))
        mask = torch.ones(1, len(rows), len(voices.groups), dtype=torch.bool)
        speaker = torch.zeros(1, len(rows), dtype=torch.long)
        vectors = encoder.dialogue(torch.from_numpy(voices.audio[rows])[None], mask, speaker)
        logits[torch.from_numpy(rows)] = head(vectors)[0]
        before[torch.from_numpy(rows)] = torch.arange(float(len(rows)))
    return logits, before


def macro_recall(label: np.ndarray, logits: Tensor) -> float:
    """Return the unweighted mean recall of the classes that occur, percent."""
    guess = logits.argmax(1).numpy()
    return 100 * float(np.mean([np.mean(guess[label == c] == c) for c in np.unique(label)]))


def main() -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--acoustics", type=Path, required=True, help="folder with ravdess.npz, tess.npz")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    voices = Voices.load(args.acoustics)
    train = voices.rows(voices.split == "train")
    encoder, head = pretrain(train, Recipe(), args.seed)
    encoder.save(args.out, head, {"spec": json.dumps(voices.spec), "labels": ",".join(MELD_LABELS)})
    print(f"{args.out}: trained on {len(train.label)} clips, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
