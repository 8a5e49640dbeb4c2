"""Turns -> emotions: the checkpoint's networks, run in batches. The only importer of `erc_models`.

The classifier owns weights, nothing else: the memory of a conversation comes in with each turn and goes
out as a new value. On a GPU that value's tensors stay on the GPU; only probabilities come back.
"""

from pathlib import Path

import torch
from erc_models import checkpoint as checkpoints

from stream_erc.exceptions import CheckpointError, DeviceError


def resolve_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one.

    Raises:
        DeviceError: CUDA was asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("expected a CUDA device (--device cuda), found none: use --device cpu or auto")
    return torch.device(name)


class EmotionClassifier:
    """A checkpoint's text encoder and recurrent network.

    Args:
        model: name of a shipped checkpoint, or a folder.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        CheckpointError: no such checkpoint, or it is damaged.
        DeviceError: no such device.
    """

    def __init__(self, model: str | Path, device: str = "auto") -> None:
        self.device = resolve_device(device)
        try:
            self._checkpoint = checkpoints.load(checkpoints.resolve(str(model)), self.device)
        except checkpoints.CheckpointProblem as problem:
            raise CheckpointError(str(problem)) from problem
        self.name: str = self._checkpoint.name
        self.labels: tuple[str, ...] = self._checkpoint.labels
