"""Fit a checkpoint's temperatures on dev, and compare them by cross-validation.

``scripts/calibrate --checkpoint NAME|DIR --data FILE [--clips FILE] [--store]``
collects the network's predictions for a corpus (its words as they are and at a word error rate of 35%; words
only, voice only, both), for acted clips (alone, and ten of a speaker in a row) and for the corpus's words in
the clips' voices (`prepare.compose`), and divides the turns into parts by their modalities. For each part it
compares the checkpoint's temperature, one temperature of the part's own, and two of its own (for turns whose
likeliest label is neutral, and for the others) by the log loss on held-out turns: ten folds of dialogues and
speakers, or one for each speaker of clips. The best is selected; ``--store`` writes it to config.json.

The expected calibration error is printed beside that of a perfectly calibrated network with the same
confidences and number of turns: with some hundred turns a bin, the error is never near 0.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from scipy.special import softmax

from erc_models.data import releases
from erc_models.data.datasets import Dialogue
from erc_models.data.feature_store import NO_LABEL
from erc_models.data.text_features import default_cache
from erc_models.evaluation import evaluation_sets
from erc_models.evaluation.metrics import NEUTRAL, Floats, Integers, expected_calibration_error
from erc_models.evaluation.prediction import masks, predict
from erc_models.formats.checkpoint_files import resolve
from erc_models.networks.checkpoint import Checkpoint, load
from erc_models.training.prepare import Clips, compose

FOLDS = 10
REPEATS = 5
"""Number of cross-validations, each with different folds."""
MIN_TURNS = 200
"""Minimum number of turns for temperatures of a part's own."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Part:
    """Turns with the same modalities.

    Attributes:
        logits: (N, C), uncalibrated.
        gold: (N,).
        group: (N,), the dialogue or speaker of a turn; folds keep groups together.
    """

    logits: Floats
    gold: Integers
    group: Integers

    def select(self, rows: Mask) -> "Part":
        """Select turns."""
        return Part(self.logits[rows], self.gold[rows], self.group[rows])


def parts_of(collected: Sequence[tuple[Part, Mask]]) -> dict[str, Part]:
    """Group turns by their modalities, named as in `Calibration.temperatures`.

    Args:
        collected: turns, and whether each has words and each group of acoustic features (N, 1 + G).
    """
    found: dict[str, list[Part]] = {}
    for part, present in collected:
        keys = np.array(["".join("01"[int(has)] for has in row) for row in present])
        for key in np.unique(keys):
            found.setdefault(str(key), []).append(part.select(keys == key))
    joined = {
        key: Part(*(np.concatenate([getattr(p, name) for p in same]) for name in ("logits", "gold", "group")))
        for key, same in sorted(found.items())
    }
    return {key: part for key, part in joined.items() if len(part.gold) >= MIN_TURNS}


def probabilities(part: Part, temperatures: Floats, neutral: int | None) -> Floats:
    """Return a part's probabilities (N, C), by the temperatures of other labels and of neutral (2,)."""
    is_neutral = part.logits.argmax(1) == (-1 if neutral is None else neutral)
    return softmax(part.logits / temperatures[is_neutral.astype(int)][:, None], axis=1)


def fit(part: Part, count: int, neutral: int | None) -> Floats:
    """Fit the temperatures of other labels and of neutral (2,) that minimise the log loss.

    Args:
        part: the turns to fit on.
        count: number of temperatures to fit, 1 (both are the same) or 2.
        neutral: index of the label, or None if there is none.
    """

    def loss(logs: Floats) -> float:
        return log_loss(probabilities(part, np.exp(logs[[0, -1]]), neutral), part.gold)

    bounds = [(-np.log(4), np.log(4))] * count
    return np.exp(minimize(loss, np.zeros(count), method="L-BFGS-B", bounds=bounds).x[[0, -1]])


def folds(group: Integers, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows, bool (N,), of each fold; groups stay together."""
    groups = np.random.default_rng(seed).permutation(np.unique(group))
    for chosen in np.array_split(groups, min(FOLDS, len(groups))):
        yield np.isin(group, chosen)


def cross_validated(part: Part, fitted: Callable[[Part], Floats], neutral: int | None) -> list[Floats]:
    """Return each turn's probabilities (N, C), by temperatures fitted without it, for each repeat."""
    found = []
    for seed in range(REPEATS):
        held_out = np.empty(part.logits.shape)
        for fold in folds(part.group, seed):
            held_out[fold] = probabilities(part.select(fold), fitted(part.select(~fold)), neutral)
        found.append(held_out)
    return found


def log_loss(predicted: Floats, gold: Integers) -> float:
    """Return the mean negative log-probability of the gold labels."""
    return float(-np.log(predicted[np.arange(len(gold)), gold]).mean())


def perfect_error(predicted: Floats, draws: int = 200) -> tuple[float, float, float]:
    """Return the calibration error if these probabilities were true: its mean, 5th and 95th percentile."""
    rng = np.random.default_rng(0)
    cumulative = predicted.cumsum(1)
    errors = []
    for _ in range(draws):
        gold = (rng.random((len(predicted), 1)) > cumulative[:, :-1]).sum(1)
        errors.append(expected_calibration_error(predicted, gold))
    return float(np.mean(errors)), *(float(q) for q in np.quantile(errors, [0.05, 0.95]))


@dataclass(frozen=True)
class Choice:
    """A way to calibrate a part, with its losses and errors.

    Attributes:
        temperatures: of other labels and of neutral, fitted on all turns.
        loss: log loss, cross-validated.
        error: calibration error, cross-validated, mean over the repeats.
        spread: its standard deviation over the repeats.
        within: calibration error on the turns used for fitting.
        perfect: see `perfect_error`.
    """

    temperatures: tuple[float, float]
    loss: float
    error: float
    spread: float
    within: float
    perfect: tuple[float, float, float]


def compare(part: Part, temperature: float, neutral: int | None) -> dict[str, Choice]:
    """Compare ways to calibrate a part: the checkpoint's temperature, one of its own, two of its own."""
    ways: dict[str, Callable[[Part], Floats]] = {
        "the checkpoint's": lambda turns: np.full(2, temperature),
        "one of its own": lambda turns: fit(turns, 1, neutral),
    }
    if neutral is not None:
        ways["neutral and other"] = lambda turns: fit(turns, 2, neutral)
    found = {}
    for name, fitted in ways.items():
        held_out = cross_validated(part, fitted, neutral)
        errors = [expected_calibration_error(p, part.gold) for p in held_out]
        final = fitted(part)
        within = probabilities(part, final, neutral)
        found[name] = Choice(
            temperatures=(float(final[0]), float(final[1])),
            loss=float(np.mean([log_loss(p, part.gold) for p in held_out])),
            error=float(np.mean(errors)),
            spread=float(np.std(errors)),
            within=expected_calibration_error(within, part.gold),
            perfect=perfect_error(within),
        )
    return found


def collect(
    checkpoint: Checkpoint, data: Path, clips: Path | None, cache: Path | None
) -> list[tuple[Part, Mask]]:
    """Collect the network's predictions for a corpus and for clips, see `parts_of`."""
    dialogues = evaluation_sets.with_labels(releases.read(data), checkpoint.labels)
    misheard = evaluation_sets.misheard(dialogues, 0.35, 0)
    prosody = evaluation_sets.voices_of(checkpoint, dialogues)
    found = []

    def add(turns: Sequence[Dialogue], audio: Floats, conditions: Sequence[str], group: Integers) -> None:
        features = evaluation_sets.featurise(checkpoint, turns, audio, cache=cache)
        for condition in conditions:
            text, voice = masks(features, condition)
            present = torch.cat([text.unsqueeze(1), voice], 1).numpy()  # (N, 1 + G)
            scored = present.any(1) & (features.label != NO_LABEL).numpy()
            if scored.any():
                p = predict(checkpoint.network, features, condition, None, scored)
                found.append((Part(np.log(p.probabilities), p.gold, group[scored]), present[scored]))

    group = np.repeat(np.arange(len(dialogues)), [len(d.utterances) for d in dialogues])
    add(dialogues, prosody, ("text", "all", "audio"), group)
    add(misheard, prosody, ("text", "all"), group)
    if clips is None:
        return found
    singly, voices = evaluation_sets.clips(clips, checkpoint)
    singly = evaluation_sets.with_labels(singly, checkpoint.labels)
    names = sorted({u.speaker for d in singly for u in d.utterances})
    for made, audio in ((singly, voices), evaluation_sets.together(singly, voices, 0)):
        who = [len(dialogues) + names.index(u.speaker) for d in made for u in d.utterances]
        add(made, audio, ("all", "audio"), np.array(who))
    for spoken in (dialogues, misheard):
        # both get the same voices; a turn that lost its words gets none, since its label may be the words'
        made, audio, _ = compose(spoken, Clips.load(clips, "dev", ("plain",)), random.Random(0), doubt=0.0)
        audio[[not u.text for d in made for u in d.utterances]] = np.nan
        add(made, audio, ("all",), group)
    return found


def report(found: Mapping[str, Mapping[str, Choice]], parts: Mapping[str, Part]) -> None:
    """Print the comparison for every part."""
    table = Table(title="* selected: the lowest log loss, cross-validated", title_justify="left")
    for column in ("words, voice", "turns", "temperatures", "other", "neutral", "log loss", "ECE", "± folds",
                   "in sample", "perfect: ECE [5%, 95%]"):  # fmt: skip
        table.add_column(column)
    for key, choices in found.items():
        for name, c in choices.items():
            kept = "*" if c is best(choices) else " "
            mean, low, high = c.perfect
            table.add_row(key, str(len(parts[key].gold)), f"{kept} {name}", f"{c.temperatures[0]:.2f}",
                          f"{c.temperatures[1]:.2f}", f"{c.loss:.4f}", f"{c.error:.4f}", f"{c.spread:.4f}",
                          f"{c.within:.4f}", f"{mean:.3f} [{low:.3f}, {high:.3f}]")  # fmt: skip
    Console(width=150, highlight=False).print(table)


def best(choices: Mapping[str, Choice]) -> Choice:
    """Select the choice with the lowest log loss, of equal ones the simpler."""
    return min(choices.values(), key=lambda c: round(c.loss, 4))


def store(folder: Path, labels: Sequence[str], chosen: Mapping[str, Choice], neutral: int | None) -> None:
    """Write the temperatures of each part to a checkpoint's config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    found = {
        key: [round(choice.temperatures[i == neutral], 4) for i in range(len(labels))]
        for key, choice in chosen.items()
    }
    made = {}
    for key, value in config.items():  # beside the temperature, as `checkpoint.save` writes it
        if key != "temperatures":
            made[key] = value
        if key == "temperature":
            made["temperatures"] = found
    path.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="scripts/calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, help="a shipped checkpoint's name, or a folder")
    parser.add_argument("--data", type=Path, required=True, help="a corpus to fit on: dev, never test")
    parser.add_argument("--clips", type=Path, help="acoustic features of clips, .npz")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of text features")
    parser.add_argument("--store", action="store_true", help="write the temperatures to config.json")
    args = parser.parse_args(arguments)
    try:
        folder = resolve(args.checkpoint)
        checkpoint = load(folder)
        parts = parts_of(collect(checkpoint, args.data, args.clips, args.cache))
    except (ValueError, OSError) as error:
        sys.exit(f"calibrate: {str(error).splitlines()[0]}")
    neutral = next((i for i, label in enumerate(checkpoint.labels) if label.lower() in NEUTRAL), None)
    found = {key: compare(part, checkpoint.temperature, neutral) for key, part in parts.items()}
    report(found, parts)
    if args.store:
        store(folder, checkpoint.labels, {key: best(choices) for key, choices in found.items()}, neutral)


if __name__ == "__main__":
    main()
