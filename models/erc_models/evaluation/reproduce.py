"""Reproduce a row of the model zoo: score a checkpoint on the corpora and compare it with the stored row.

``scripts/evaluate NAME --data DATA [--work WORK] [--clips FILE] [--store]`` takes
the checkpoints of WORK/NAME (its seeds in WORK/NAME/seed_N), or else the shipped one of that name, and scores
it on the sets of ``models/results/NAME.json``, or, if no row is stored, on dev of its corpora under DATA:

- ``CORPUS_SPLIT:CONDITION`` is DATA/CORPUS/SPLIT.jsonl.gz, with features as at run time;
- ``clips_dev:CONDITION`` are the clips of FILE (of `scripts/extract_features`), each a conversation;
- any other set is read from WORK/features or WORK/voices, where training wrote it.

It prints the row and the share of turns with the stored label; ``--store`` stores the row instead.
"""

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from erc_models.data import releases
from erc_models.data.feature_store import CONDITIONS, FeatureSet
from erc_models.data.text_features import default_cache
from erc_models.evaluation import evaluation_sets, results
from erc_models.evaluation.metrics import Predictions
from erc_models.evaluation.prediction import predict, readable
from erc_models.formats.checkpoint_files import resolve
from erc_models.networks.checkpoint import Checkpoint, load

CONFIGS = results.FOLDER.parent / "configs"

SAME = 0.99
"""A row is reproduced if at least this share of turns has the stored label: weights are stored in fp16, and
text features depend on the batch in their last digits, so that a close decision may differ."""


@dataclass(frozen=True)
class Places:
    """The folders and files to read.

    Attributes:
        data: folder of the corpora.
        work: the folder that training wrote, or None.
        clips: acoustic features of clips, or None.
        cache: folder of text features.
    """

    data: Path
    work: Path | None = None
    clips: Path | None = None
    cache: Path | None = None


def checkpoints(name: str, work: Path | None) -> dict[int, Path]:
    """Return the folders of a row's checkpoints by seed; a shipped checkpoint is seed 0."""
    if work is not None and (work / name).is_dir():
        seeds = {int(p.name.removeprefix("seed_")): p for p in sorted((work / name).glob("seed_*"))}
        return seeds or {0: work / name}
    return {0: resolve(name)}


def read_set(name: str, checkpoint: Checkpoint, places: Places) -> FeatureSet | None:
    """Read the features of a set; return None if its data are not available."""
    corpus, _, split = name.rpartition("_")
    path = places.data / corpus / f"{split}.jsonl.gz"
    if name == "clips_dev":
        if places.clips is None:
            return None
        dialogues, audio = evaluation_sets.clips(places.clips, checkpoint)
        dialogues = evaluation_sets.with_labels(dialogues, checkpoint.labels)
    elif path.is_file():
        dialogues = evaluation_sets.with_labels(releases.read(path), checkpoint.labels)
        audio = evaluation_sets.voices_of(checkpoint, dialogues)
    else:
        folders = () if places.work is None else (places.work / "features", places.work / "voices")
        kept = [folder / f"{name}.safetensors" for folder in folders]
        return next((FeatureSet.load(file) for file in kept if file.is_file()), None)
    return evaluation_sets.featurise(checkpoint, dialogues, audio, cache=places.cache)


def names_to_score(checkpoint: Checkpoint, places: Places) -> list[str]:
    """Name the sets for a row that is not stored: dev of the corpora that the checkpoint was selected on.

    If the checkpoint does not record them, it is dev of every corpus whose labels it has.
    """
    chosen_on = {name.rpartition("_dev")[0] for name in checkpoint.about.get("data", {}).get("dev", ())}
    found = []
    for path in sorted(places.data.glob("*/dev.jsonl.gz")):
        try:
            evaluation_sets.with_labels(releases.read(path), checkpoint.labels)
        except ValueError:  # other emotions
            continue
        if not chosen_on or path.parent.name in chosen_on:
            found.append(f"{path.parent.name}_dev")
    return found + (["clips_dev"] if places.clips and checkpoint.features.get("acoustic") else [])


def predict_conditions(checkpoint: Checkpoint, name: str, features: FeatureSet) -> dict[str, Predictions]:
    """Predict a set in each condition in which any turn is readable, by ``set:condition``."""
    return {
        f"{name}:{condition}": predict(checkpoint.network, features, condition, checkpoint.calibration)
        for condition in CONDITIONS
        if readable(features, condition).any()
    }


def share_of_same_labels(stored: Mapping, found: Mapping) -> float | None:
    """Return the share of turns, over the seeds of both, with the same label; None if not comparable."""
    seeds = stored["seeds"].keys() & found["seeds"].keys()
    if not seeds or stored["gold"] != found["gold"] or stored["labels"] != found["labels"]:
        return None
    pairs = [(stored["seeds"][s]["predicted"], found["seeds"][s]["predicted"]) for s in seeds]
    return float(np.mean([results.decode(a) == results.decode(b) for a, b in pairs]))


def reproduce(name: str, stored: Mapping | None, places: Places, command: str) -> tuple[dict, list[str]]:
    """Score a row again; return its results, and the sets whose data are not available.

    Raises:
        ValueError: there is no checkpoint, or no data to score it on.
    """
    sets: dict[str, dict[int, Predictions]] = {}
    missing: list[str] = []
    config = CONFIGS / f"{name}.toml"
    for seed, folder in checkpoints(name, places.work).items():
        checkpoint = load(folder)
        if config.is_file():
            wanted = tomllib.loads(config.read_text(encoding="utf-8")).get("architecture", "si_lstm")
            if checkpoint.architecture != wanted:
                raise ValueError(
                    f"{folder}: expected {wanted} as {config.name} has, got {checkpoint.architecture}"
                )
        keys = list(stored["sets"]) if stored else []
        names = list(dict.fromkeys(key.split(":")[0] for key in keys)) or names_to_score(checkpoint, places)
        for part in names:
            features = read_set(part, checkpoint, places)
            if features is None:
                missing.append(part)
                continue
            for key, predictions in predict_conditions(checkpoint, part, features).items():
                if not keys or key in keys:
                    sets.setdefault(key, {})[seed] = predictions
    if not sets:
        wanted = ", ".join(dict.fromkeys(missing)) or "a corpus with its labels"
        raise ValueError(f"{places.data}: expected data to score {name} on ({wanted}), found none")
    encoder = checkpoint.text_encoder
    row = results.results_of(
        name,
        architecture=checkpoint.architecture,
        network=checkpoint.network,
        sets=sets,
        text_encoder=None if encoder is None else str(encoder.model.config.model_type),
        text_parameters=0 if encoder is None else sum(p.numel() for p in encoder.parameters()),
        config=config.name if config.is_file() else "",
        command=command,
    )
    return row, list(dict.fromkeys(missing))


def report(row: Mapping, stored: Mapping | None, missing: Sequence[str]) -> bool:
    """Print a row beside the stored one; return whether everything comparable is the same."""
    console = Console(width=140, highlight=False)
    table = Table(title=f"{row['name']}, {row['architecture']}", title_justify="left")
    for column in ("set", "turns", "seeds", "weighted F1", "stored", "macro F1", "ECE", "same labels"):
        table.add_column(column, justify="left" if column == "set" else "right")
    same = True
    for key, part in row["sets"].items():
        before = (stored or {}).get("sets", {}).get(key)
        share = None if before is None else share_of_same_labels(before, part)
        same = same and (before is None or (share is not None and share >= SAME))
        f1 = part["scores"]["weighted_f1"]
        table.add_row(
            key,
            str(part["turns"]),
            str(len(part["seeds"])),
            f"{f1['mean']:.2f} [{f1['low']:.1f}, {f1['high']:.1f}]",
            "-" if before is None else f"{before['scores']['weighted_f1']['mean']:.2f}",
            f"{part['scores']['macro_f1']['mean']:.2f}",
            f"{part['scores']['ece']['mean']:.3f}",
            "-" if before is None else "other turns" if share is None else f"{share:.2%}",
        )
    console.print(table)
    if missing:
        console.print(f"Not scored, data not found: {', '.join(missing)}")
    if stored:
        console.print("The row equals the stored one." if same else "The row differs from the stored one.")
    return same


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="scripts/evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="a row of the zoo, or a shipped checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--work", type=Path, help="the folder that training wrote")
    parser.add_argument("--clips", type=Path, help="acoustic features of clips, .npz")
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="folder of stored results")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of text features")
    parser.add_argument("--store", action="store_true", help="store the row")
    args = parser.parse_args(arguments)
    path = args.results / f"{args.name}.json"
    try:
        stored = results.load(path) if path.is_file() else None
        places = Places(args.data, args.work, args.clips, args.cache)
        row, missing = reproduce(
            args.name, None if args.store else stored, places, f"scripts/evaluate {args.name} --data DATA"
        )
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {str(error).splitlines()[0]}")
    same = report(row, stored, missing)
    if args.store:
        results.store(row, args.results)
    elif not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
