"""The graph files of a checkpoint (see `erc_models.export`), as they are read: without torch and onnx."""

import hashlib
import json
from pathlib import Path

STEP, VOICE, TEXT_ENCODER = "step.onnx", "voice.onnx", "encoder.onnx"
SOURCE = "exported_from"
"""The key of a graph's metadata that has its `graph_source`."""

_IRRELEVANT = ("about", "features", "text_encoder", "text_encoder_folder", "transformers_version")


def graph_source(folder: Path) -> str:
    """Return a hash of what a folder's graphs depend on beside the values of the weights.

    It covers ``config.json`` and the places of the tensors in ``model.safetensors``, into which graphs point.

    Raises:
        OSError: a file is missing.
        ValueError: config.json is no JSON.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    hashed = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    with (folder / "model.safetensors").open("rb") as file:
        size = file.read(8)
        hashed.update(size + file.read(int.from_bytes(size, "little")))
    return hashed.hexdigest()


def stamp_matches(path: Path) -> bool:
    """Return whether a graph is there and was exported from the weights beside it, as they are now."""
    try:  # the metadata of a graph is text in the file
        return graph_source(path.parent).encode() in path.read_bytes()
    except (OSError, ValueError):
        return False
