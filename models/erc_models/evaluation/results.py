"""Stored results: the predictions and scores of a row of the model zoo, one JSON file a row.

A file describes the network and, for each set it was scored on, the label that each seed's network predicted
for every turn, so that two rows can be compared turn by turn later. Its content does not depend on the date:

    {"format": 1, "name": "si_lstm_meld", "architecture": "si_lstm", "network": {...}, "causal": true,
     "parameters": 1500000, "state_bytes": 10400, "step_ms": 0.61,
     "text_encoder": "MiniLM", "text_parameters": 22700000, "config": "si_lstm_meld.toml", "command": "...",
     "sets": {"meld_dev:text": {...}}}

A set is named as the trainer names it, ``CORPUS_SPLIT[_VARIANT]:CONDITION``, and holds

    {"corpus": "meld", "split": "dev", "variant": "", "condition": "text", "modalities": ["text"],
     "labels": [...], "gold": "0410...", "lengths": [12, ...], "turns": 1109, "dialogues": 114,
     "seeds": {"0": {"predicted": "0400...", "scores": {...}, "course": {...}}},
     "scores": {"weighted_f1": {"mean": 60.3, "sd": 0.4, "low": 57.0, "high": 63.2}, ...},
     "classes": {"neutral": {"precision": ..., "recall": ..., "f1": ..., "support": 470}, ...}}

where ``gold`` and ``predicted`` have one character per scored turn, its label's place in `ALPHABET`.
"""

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

import erc_models
from erc_models.evaluation import bootstrap, metrics
from erc_models.evaluation.metrics import FIGURES, Predictions
from erc_models.evaluation.network_facts import facts
from erc_models.networks.streaming import StreamingModel

FORMAT = 1
ALPHABET = string.digits + string.ascii_letters
FOLDER = Path(erc_models.__file__).resolve().parents[1] / "results"
"""The zoo's results in a checkout."""

MODALITIES: Mapping[str, tuple[str, ...]] = {
    "all": ("text", "audio"),
    "text": ("text",),
    "audio": ("audio",),
}
"""The modalities that a network may read in a condition."""

_SET = re.compile(r"(?:(?P<corpus>[\w-]+?)_)?(?P<split>train|dev|test)(?:_(?P<variant>[\w-]+))?")


def results_of(
    name: str,
    *,
    architecture: str,
    network: StreamingModel,
    sets: Mapping[str, Mapping[int, Predictions]],
    modalities: Mapping[str, Sequence[str]] | None = None,
    text_encoder: str | None = None,
    text_parameters: int = 0,
    config: str = "",
    command: str = "",
) -> dict:
    """Return the results of a configuration trained with one or more seeds.

    Args:
        name: of the row, and of its file.
        architecture: a key of `checkpoint.ARCHITECTURES`.
        network: of any seed; only its sizes are read.
        sets: name of the set (see the module) -> seed -> predictions.
        modalities: of a set that lacks a modality of its condition (MELD without sound).
        text_encoder: its name, or None.
        text_parameters: its number of parameters.
        config: name of the configuration's file.
        command: the command that gave these results, without paths of one machine.

    Raises:
        ValueError: a set's name is malformed, or its seeds were scored on different turns.
    """
    sets = {key: seeds for key, seeds in sets.items() if not _only_text(key, sets)}
    return {
        "format": FORMAT,
        "name": name,
        "architecture": architecture,
        **facts(network),
        "text_encoder": text_encoder,
        "text_parameters": text_parameters,
        "config": config,
        "command": command,
        "sets": {
            key: set_results(key, seeds, (modalities or {}).get(key)) for key, seeds in sorted(sets.items())
        },
    }


def _only_text(key: str, sets: Mapping[str, Mapping[int, Predictions]]) -> bool:
    """Return whether a condition "all" equals the condition "text", because the set has text only."""
    name, _, condition = key.partition(":")
    text = sets.get(f"{name}:text")
    if condition != "all" or text is None or text.keys() != sets[key].keys():
        return False
    return all(np.array_equal(text[s].probabilities, sets[key][s].probabilities) for s in text)


def set_results(key: str, seeds: Mapping[int, Predictions], modalities: Sequence[str] | None = None) -> dict:
    """Return the predictions of each seed for a set, and the scores with their intervals."""
    name, _, condition = key.partition(":")
    if condition not in MODALITIES:
        raise ValueError(f"set: expected NAME:CONDITION of {', '.join(MODALITIES)}, got {key!r}")
    match = _SET.fullmatch(name)
    first = next(iter(seeds.values()))
    for seed, other in seeds.items():
        if not (np.array_equal(other.gold, first.gold) and np.array_equal(other.lengths(), first.lengths())):
            raise ValueError(f"{key}: expected every seed scored on the same turns, got others for {seed}")
    scores = {seed: metrics.scores_of(found) for seed, found in seeds.items()}
    tallies = np.stack([metrics.tally(found) for found in seeds.values()])  # (S, K, M)
    intervals = bootstrap.intervals(tallies, first.labels)
    columns = {name: np.array([getattr(s, name) for s in scores.values()]) for name in FIGURES}
    return {
        "corpus": (match and match["corpus"]) or name,
        "split": (match and match["split"]) or "",
        "variant": (match and match["variant"]) or "",
        "condition": condition,
        "modalities": list(modalities or MODALITIES[condition]),
        "labels": list(first.labels),
        "turns": len(first.gold),
        "dialogues": len(first.lengths()),
        "scores": {
            name: {
                "mean": _rounded(values.mean()),
                "sd": _rounded(values.std(ddof=1)) if len(values) > 1 else None,
                "low": _rounded(intervals[name].low) if name in intervals else None,
                "high": _rounded(intervals[name].high) if name in intervals else None,
            }
            for name, values in columns.items()
        },
        "classes": {
            label: {
                "precision": _rounded(np.mean([s.precision[label] for s in scores.values()])),
                "recall": _rounded(np.mean([s.recall[label] for s in scores.values()])),
                "f1": _rounded(np.mean([s.per_class[label] for s in scores.values()])),
                "support": next(iter(scores.values())).support[label],
            }
            for label in first.labels
        },
        "gold": encode(first.gold),
        "lengths": first.lengths().tolist(),
        "seeds": {
            str(seed): {
                "scores": {name: _rounded(getattr(scores[seed], name)) for name in FIGURES},
                "course": _plain(asdict(metrics.course(found))),
                "predicted": encode(found.predicted),
            }
            for seed, found in seeds.items()
        },
    }


def matrices(result: Mapping) -> metrics.Floats:
    """Return the confusion matrices (S, K, C, C) of a stored set's seeds and dialogues."""
    gold, lengths = decode(result["gold"]), np.array(result["lengths"])
    classes = len(result["labels"])
    return np.stack(
        [
            metrics.confusions(decode(found["predicted"]), gold, lengths, classes)
            for found in result["seeds"].values()
        ]
    )


def encode(labels: np.ndarray) -> str:
    """Encode label indices (N,) as N characters."""
    return "".join(ALPHABET[i] for i in labels)


def decode(text: str) -> metrics.Integers:
    """Decode what `encode` returned."""
    return np.array([ALPHABET.index(c) for c in text], dtype=np.int64)


def store(results: Mapping, folder: Path = FOLDER) -> Path:
    """Write ``folder/NAME.json``; keep the measured step time of the same network."""
    path = folder / f"{results['name']}.json"
    kept = {}
    if path.is_file():
        before = load(path)
        if before["network"] == results["network"] and before["architecture"] == results["architecture"]:
            kept = {name: before[name] for name in ("step_ms",) if name in before}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(_json({**kept, **results}), encoding="utf-8")
    return path


def load(path: Path) -> dict:
    """Read a file of results.

    Raises:
        ValueError: it is missing, or not results of this format.
    """
    if not path.is_file():
        raise ValueError(f"expected stored results at {path}, found no such file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or "sets" not in found:
        raise ValueError(f"{path}: expected results of format {FORMAT}, got others")
    return found


def load_all(folder: Path = FOLDER) -> dict[str, dict]:
    """Read all stored results, by name."""
    return {path.stem: load(path) for path in sorted(folder.glob("*.json"))}


def _json(results: Mapping) -> str:
    """Format indented JSON with lists of numbers on one line."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\[\s+((?:-?[\d.]+,?\s+)+)\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def _rounded(value: float) -> float:
    return round(float(value), 4)


def _plain(value: object) -> object:
    """Round the numbers in a value for JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return round(value, 6) if isinstance(value, float) else value
