"""The checkpoints that ship with the package, as ``stream-erc models`` lists them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from erc_models.formats import checkpoint_files
from erc_models.formats.checkpoint_files import CheckpointProblem

from stream_erc.exceptions import CheckpointError


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A shipped checkpoint as listed by ``stream-erc models``."""

    name: str
    architecture: str
    labels: tuple[str, ...]
    summary: str
    folder: Path


def shipped_models() -> list[ShippedModel]:
    """Return the checkpoints that ship with the package."""
    found = []
    for name, folder in checkpoint_files.available().items():
        try:
            config = checkpoint_files.read_config(folder)
        except CheckpointProblem as problem:
            raise CheckpointError(str(problem)) from problem
        about = config.get("about", {})
        summary = str(about.get("summary", ""))
        found.append(ShippedModel(name, config["architecture"], tuple(config["labels"]), summary, folder))
    return found


def checkpoint_digest(model: str | Path) -> str:
    """Return a hash of a checkpoint's settings and weights, with those of its text encoder.

    Raises:
        CheckpointError: no such checkpoint.
    """
    digest = hashlib.sha256()
    try:
        folder = checkpoint_files.resolve(model)
        config = checkpoint_files.read_config(folder)
    except CheckpointProblem as problem:
        raise CheckpointError(str(problem)) from problem
    for place in (folder, checkpoint_files.text_encoder_folder(folder, config)):
        for path in (place / "config.json", place / "model.safetensors"):
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()
