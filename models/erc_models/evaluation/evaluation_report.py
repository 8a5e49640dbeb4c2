"""The results of an evaluation, as JSON and as tables."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from erc_models.evaluation import bootstrap, metrics
from erc_models.evaluation.metrics import Predictions, scores_of
from erc_models.networks.checkpoint import Checkpoint

FORMAT = 1

COLUMNS = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "macro_recall": "macro recall",
    "micro_f1_without_neutral": "micro F1*",
    "macro_f1_without_neutral": "macro F1*",
    "mcc": "MCC",
    "ece": "ECE",
    "brier": "Brier",
}


@dataclass(frozen=True)
class Request:
    """The data and conditions to score a checkpoint on.

    Attributes:
        data: a corpus, a feature set, or the acoustic features of clips.
        conditions: some of `CONDITIONS`.
        audio: a feature set with the voices of the corpus.
        wer: word error rates to simulate, 0 to 1.
        swaps: shares of turns to assign to another speaker.
        one_speaker: whether to assign all turns of a dialogue to one speaker, too.
        seed: of the simulated changes.
        cache: folder of text features.
    """

    data: Path
    conditions: tuple[str, ...] = ("all",)
    audio: Path | None = None
    wer: tuple[float, ...] = ()
    swaps: tuple[float, ...] = ()
    one_speaker: bool = False
    seed: int = 0
    cache: Path | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """A checkpoint's predictions in one condition.

    Attributes:
        part: ``alone`` or ``together`` for clips, else empty.
        change: the change to the data, for example ``WER 35%``.
        condition: of `CONDITIONS`.
        modalities: which of text and audio the turns had.
        predictions: of the scored turns.
    """

    part: str
    change: str
    condition: str
    modalities: tuple[str, ...]
    predictions: Predictions


def as_json(checkpoint: Checkpoint, request: Request, found: Sequence[Result], command: str) -> dict:
    """Return everything about an evaluation except its time and place."""
    return {
        "format": FORMAT,
        "command": command,
        "checkpoint": checkpoint.name,
        "architecture": checkpoint.architecture,
        "data": _short(request.data),
        "data_sha256": _sha256(request.data),
        "seed": request.seed,
        "labels": list(checkpoint.labels),
        "results": [_result_json(result) for result in found],
        "differences": differences(found, request.conditions),
    }


def _result_json(result: Result) -> dict:
    predictions = result.predictions
    scores = asdict(scores_of(predictions))
    sums = metrics.tally(predictions)
    intervals = bootstrap.intervals(sums[None], predictions.labels)
    matrix = metrics.split(sums.sum(0), len(predictions.labels))[0]
    return {
        "part": result.part,
        "change": result.change,
        "condition": result.condition,
        "modalities": list(result.modalities),
        "turns": len(predictions.gold),
        "dialogues": len(predictions.lengths()),
        "scores": {
            name: {"value": scores[name]} | (asdict(intervals[name]) if name in intervals else {})
            for name in metrics.FIGURES
        },
        "classes": {
            label: {
                "precision": scores["precision"][label],
                "recall": scores["recall"][label],
                "f1": scores["per_class"][label],
                "support": scores["support"][label],
            }
            for label in predictions.labels
        },
        "confusion": matrix.astype(int).tolist(),
        "course": asdict(metrics.course(predictions)),
    }


def differences(found: Sequence[Result], conditions: Sequence[str]) -> list[dict]:
    """Compare the first condition with each of the others that scored the same turns."""
    made = []
    for first in (result for result in found if result.condition == conditions[0]):
        for other in found:
            same = (other.part, other.change) == (first.part, first.change)
            a, b = other.predictions, first.predictions
            if not same or other is first or not np.array_equal(a.gold, b.gold):
                continue
            pair = [metrics.confusions(p.predicted, p.gold, p.lengths(), len(p.labels))[None] for p in (a, b)]
            values = bootstrap.paired_differences(*pair, b.labels)
            made.append(
                {
                    "part": first.part,
                    "change": first.change,
                    "of": f"{first.condition} less {other.condition}",
                    "scores": {name: asdict(value) for name, value in values.items()},
                }
            )
    return made


def _sha256(path: Path) -> str:
    """Hash a file's content, or the names and contents of all files in a folder."""
    hashed = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if path.is_dir():
            hashed.update(file.relative_to(path).as_posix().encode())
        hashed.update(file.read_bytes())
    return hashed.hexdigest()


def _short(path: Path) -> str:
    """Shorten a path to the corpus folder and file, without the places of one machine."""
    return path.name if path.is_dir() else "/".join(path.resolve().parts[-2:])


def command_of(module: str, arguments: Sequence[str]) -> str:
    """Return a command line without the paths of one machine."""
    shown = [_short(Path(a)) if "/" in a and not a.startswith("-") else a for a in arguments]
    return shlex.join(["python", "-m", module, *shown])


def report(name: str, stored: dict) -> None:
    """Print the tables of a result of `as_json`."""
    console = Console(width=180, highlight=False)
    table = Table(title=f"{name} on {stored['data']}, step by step", title_justify="left")
    for column in ("data", "reads", "turns", *COLUMNS.values()):
        table.add_column(column, justify="left" if column in ("data", "reads") else "right")
    for result in stored["results"]:
        values = []
        for figure in COLUMNS:
            digits = 1 if figure in metrics.PERCENT else 3
            s = result["scores"][figure]
            interval = f"[{s['low']:.{digits}f}, {s['high']:.{digits}f}]" if "low" in s else ""
            values.append(f"{s['value']:.{digits}f}\n{interval}".strip())
        data = " ".join(filter(None, (result["part"], result["change"]))) or "unchanged"
        reads = f"{result['condition']} ({' + '.join(result['modalities'])})"
        table.add_row(data, reads, str(result["turns"]), *values)
    console.print(table)
    console.print("In brackets: 95% intervals, dialogues resampled. *: without neutral.")
    for difference in stored["differences"]:
        s = difference["scores"]["weighted_f1"]
        data = " ".join(filter(None, (difference["part"], difference["change"]))) or "unchanged"
        console.print(
            f"{data}: weighted F1, {difference['of']}: {s['mean']:+.2f} [{s['low']:+.2f}, {s['high']:+.2f}]"
        )
    _report_first(console, stored["results"][0])
    if task := stored.get("speaker_task"):
        names = ("last_other", "majority", "new", "last")
        floors = ", ".join(f"{name.replace('_', ' ')} {task[name]:.1f}" for name in names)
        console.print(
            f"Speaker task ({task['turns']} turns): accuracy {task['accuracy']:.1f}%, for speakers heard "
            f"before {task['heard_accuracy']:.1f}%; baselines: {floors}"
        )


def _report_first(console: Console, first: dict) -> None:
    """Print a result by class and by turn."""
    classes = Table(title=f"By class, {first['condition']}", title_justify="left")
    for column in ("label", "precision", "recall", "F1", "turns"):
        classes.add_column(column, justify="left" if column == "label" else "right")
    for label, row in first["classes"].items():
        numbers = (f"{row[key]:.1f}" for key in ("precision", "recall", "f1"))
        classes.add_row(label, *numbers, str(row["support"]))
    console.print(classes)
    course = first["course"]
    turns = ", ".join(
        f"turn {name}: {f1:.1f} ({course['turns'][name]})"
        for name, f1 in course["weighted_f1"].items()
        if f1 is not None
    )
    console.print(f"Weighted F1 by turn of the dialogue (turns): {turns}")
    right = course["first_right"]
    console.print(
        f"First correct label at turn {'-' if right is None else f'{right:.2f}'} on average, never in "
        f"{course['never_right']:.1%} of dialogues; the label changes at {course['flips']:.1%} of turns, "
        f"the gold label at {course['gold_flips']:.1%}."
    )
