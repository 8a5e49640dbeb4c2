"""The graphs of a checkpoint, if all are there and of its present weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erc_models.formats.checkpoint_files import read_config, text_encoder_folder
from erc_models.formats.graph_files import STEP, TEXT_ENCODER, VOICE, stamp_matches


@dataclass(frozen=True, slots=True)
class Graphs:
    """The files of a checkpoint's graphs, and its ``config.json``; `text_encoder` is None if it has none."""

    config: dict[str, Any]
    step: Path
    voice: Path
    text_encoder: Path | None


def find_graphs(folder: Path) -> Graphs | None:
    """Return the graphs of a checkpoint, None unless all are there and of its present weights.

    Raises:
        CheckpointProblem: it has no usable ``config.json``.
    """
    config = read_config(folder)
    place = text_encoder_folder(folder, config) if config.get("text_encoder") is not None else None
    graphs = Graphs(config, folder / STEP, folder / VOICE, None if place is None else place / TEXT_ENCODER)
    paths = [graphs.step, graphs.voice, *([graphs.text_encoder] if graphs.text_encoder else [])]
    return graphs if all(stamp_matches(path) for path in paths) else None
