"""What a classifier is, and how one is opened.

A classifier holds only weights: the memory of a conversation is passed in with each turn and returned as a
new value. On the CPU a checkpoint's graphs run in ONNX Runtime, without torch; on a GPU, and where a
checkpoint has no graphs, its networks run with torch.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from erc_models.networks import checkpoint_files
from erc_models.networks.checkpoint_files import CheckpointProblem

from stream_erc.core.work import ClassifyTurn, ConversationState
from stream_erc.events import Emotion, Vector
from stream_erc.exceptions import CheckpointError
from stream_erc.inference.acoustics import FeatureSpec
from stream_erc.inference.devices import on_gpu
from stream_erc.inference.emotion.graph_files import find_graphs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A shipped checkpoint as listed by ``stream-erc models``."""

    name: str
    architecture: str
    labels: tuple[str, ...]
    summary: str
    folder: Path


class EmotionClassifier(Protocol):
    """A checkpoint's text encoder and conversation network.

    Attributes:
        name: the checkpoint's name.
        labels: its emotions.
        acoustic_spec: the acoustic features that it reads, None if none.
        warm: whether everything is loaded; `warm_up` loads the rest.
    """

    name: str
    labels: tuple[str, ...]
    acoustic_spec: FeatureSpec | None
    warm: bool

    def warm_up(self) -> None:
        """Load what was left for later.

        Raises:
            CheckpointError: it is damaged.
        """

    def classify(self, works: Sequence[ClassifyTurn]) -> list[tuple[Emotion, ConversationState]]:
        """Classify one turn of each of B conversations, in one batch.

        Returns:
            The emotion of each turn, and the conversation state after it.
        """

    def state_to_bytes(self, state: ConversationState) -> bytes:
        """Encode a conversation state, for a snapshot that leaves this process."""

    def state_from_bytes(self, blob: bytes) -> ConversationState:
        """Decode a conversation state, bit for bit.

        Raises:
            CheckpointError: the bytes are not a state of this checkpoint's network.
        """

    def require_embedding_space(self) -> None:
        """Refuse a network that cannot predict labels given by examples.

        Raises:
            LabelsError: it has no embedding space; the message names the checkpoints that have one.
        """

    def with_labels(self, examples: Sequence[tuple[str, str, Vector | None]]) -> "EmotionClassifier":
        """Return a classifier with the same network that predicts labels given by examples.

        Args:
            examples: (label, words or "", acoustic features or None) of one turn each.

        Raises:
            LabelsError: the network has no embedding space, or there are fewer than two labels.
        """


def open_classifier(model: str | Path, device: str = "auto", *, warm: bool = True) -> EmotionClassifier:
    """Open a checkpoint.

    Args:
        model: the name of a shipped checkpoint, or a folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        warm: whether to load everything now.

    Raises:
        CheckpointError: no such checkpoint, or it is damaged.
        DeviceError: no such device.
    """
    gpu = on_gpu(device)
    if not gpu:
        try:
            folder = checkpoint_files.resolve(model)
            graphs = find_graphs(folder)
        except CheckpointProblem as problem:
            raise CheckpointError(str(problem)) from problem
        if graphs is not None:
            from stream_erc.inference.emotion.graph_classifier import GraphClassifier

            return GraphClassifier(folder, graphs)
        log.info("%s: running with torch, since it has no graphs of its own weights", folder)
    from stream_erc.inference.emotion.torch_classifier import TorchClassifier

    return TorchClassifier(model, "cuda" if gpu else "cpu", warm=warm)


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
