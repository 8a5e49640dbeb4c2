"""Opening a checkpoint: its graphs on the CPU; its networks in torch on a GPU, or where it has no graphs."""

import logging
from pathlib import Path

from erc_models.formats import checkpoint_files
from erc_models.formats.checkpoint_files import CheckpointProblem

from stream_erc.exceptions import CheckpointError
from stream_erc.inference.devices import on_gpu
from stream_erc.inference.emotion.classifier import EmotionClassifier
from stream_erc.inference.emotion.graph_files import find_graphs

log = logging.getLogger(__name__)


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

        return TorchClassifier(model, "cpu", warm=warm)
    from stream_erc.inference.emotion.slot_classifier import SlotClassifier

    return SlotClassifier(model, "cuda", warm=warm)
