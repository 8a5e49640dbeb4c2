"""The folder of a checkpoint, read without torch: what ships, and each ``config.json``.

What a checkpoint consists of is in `erc_models.networks.checkpoint`.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import erc_models

FORMAT = 1


class CheckpointProblem(ValueError):
    """A checkpoint is missing, damaged or incompatible; the message is one line."""


def folders() -> list[Path]:
    """Return the folders of shipped checkpoints: in an installed wheel, in a checkout."""
    package = Path(erc_models.__file__).resolve().parent
    return [path for path in (package / "checkpoints", package.parent / "checkpoints") if path.is_dir()]


def available(parents: Sequence[Path] | None = None) -> dict[str, Path]:
    """List the shipped checkpoints, name -> folder, in `parents` or else in `folders()`.

    Beside them lie networks of speakers (``model.onnx``), which are no checkpoints.
    """
    return {
        folder.name: folder
        for parent in (folders() if parents is None else parents)
        for folder in sorted(parent.iterdir())
        if (folder / "config.json").is_file() and not (folder / "model.onnx").is_file()
    }


def resolve(name_or_path: str | Path, parents: Sequence[Path] | None = None) -> Path:
    """Return the folder of a checkpoint, given the name of a shipped one or a path.

    Raises:
        CheckpointProblem: there is no such folder; the message lists the shipped names.
    """
    shipped = available(parents)
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    names = ", ".join(shipped) or "none"
    raise CheckpointProblem(
        f"expected a checkpoint's folder or one of the shipped names ({names}), got {str(name_or_path)!r}"
    )


def read_config(folder: Path) -> dict:
    """Read and check a checkpoint's config.json; the weights are not loaded."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointProblem(f"expected a checkpoint with config.json in {folder}, found none")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointProblem(f"{path}: expected JSON, got {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise CheckpointProblem(f"{path}: expected a checkpoint of format {FORMAT}, got {found!r}")
    return config


def text_encoder_folder(folder: Path, config: Mapping) -> Path:
    """Return the folder of a checkpoint's text encoder, given its config.json."""
    return folder / str(config.get("text_encoder_folder", "text_encoder"))


T = TypeVar("T")


def build(kind: type[T], table: Mapping, where: str) -> T:
    """Build a configuration dataclass from a table of TOML or JSON.

    Raises:
        ValueError: a key is unknown (the message names the nearest known one) or a value has the wrong type.
    """
    known = {f.name: f for f in fields(kind)}
    values = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{where}: expected one of {', '.join(known)}, got {key!r}{hint}")
        default = known[key].default
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if isinstance(default, (bool, int, float, str, tuple)) and type(value) is not type(default):
            raise ValueError(f"{where}: {key}: expected a {type(default).__name__}, got {value!r}")
        values[key] = value
    return kind(**values)
