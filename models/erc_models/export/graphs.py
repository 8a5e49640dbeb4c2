"""The graphs of a checkpoint, exported from its networks.

``text_encoder/encoder.onnx``: tokens of one window -> the text features. ``voice.onnx``: `hear`.
``step.onnx``: `advance` and the calibration -> the probabilities and the state after the turn, and what a
conversation begins with. Weights stay in the safetensors files (`erc_models.export.weights`).
"""

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.func import functional_call

from erc_models.export.integer_linear import in_integers
from erc_models.export.weights import store_outside
from erc_models.formats import checkpoint_files
from erc_models.formats.graph_files import SOURCE, STEP, TEXT_ENCODER, VOICE, graph_source
from erc_models.networks import checkpoint as checkpoints
from erc_models.networks.checkpoint import Checkpoint
from erc_models.networks.streaming import TurnInput

OPSET = 18


class Step(nn.Module):
    """`advance` on plain tensors, with calibrated probabilities, and the initial state of one speaker."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network, self.calibration = checkpoint.network, checkpoint.calibration
        self.fields = tuple(self.network.initial_state().tensors())

    def forward(
        self,
        text: Tensor,
        heard: Tensor,
        text_mask: Tensor,
        audio_mask: Tensor,
        speaker: Tensor,
        state: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Return probabilities (B, C), the fields of the next state, and those of the initial state."""
        network = self.network
        initial = network.initial_state(1, 1)
        before = type(initial)(**dict(zip(self.fields, state, strict=True)))
        turns = TurnInput(text, heard, text_mask, audio_mask, heard=heard)
        logits, after = network.advance(turns, speaker, before)
        scaled = self.calibration.scale(logits, text_mask, audio_mask)
        return (scaled.softmax(-1), *after.tensors().values(), *initial.tensors().values())


class Hear(nn.Module):
    """`hear` on plain tensors."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = checkpoint.network

    def forward(self, audio: Tensor, audio_mask: Tensor) -> Tensor:
        """Return what the network reads of acoustic features (N, D), (N, G)."""
        return self.network.hear(audio, audio_mask)


class Encode(nn.Module):
    """A text encoder on the tokens of one window, none of them padding."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.encoder = checkpoint.text_encoder

    def forward(self, ids: Tensor, target: Tensor) -> Tensor:
        """Return the text features (1, D) of tokens (1, T), whose target is (1, T)."""
        return self.encoder(ids, torch.ones_like(ids), target)


class _Weightless(nn.Module):
    """A module whose weights are inputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._hidden = [module]  # in a list: not a submodule, so its weights are not exported with it

    def forward(self, weights: Mapping[str, Tensor], arguments: Sequence[Any]) -> Any:
        return functional_call(self._hidden[0], dict(weights), tuple(arguments))


def export(folder: Path) -> list[Path]:
    """Export the graphs of a checkpoint into its folder; return the files.

    Raises:
        CheckpointProblem: it is no checkpoint, or is damaged.
    """
    checkpoint = checkpoints.load(folder)
    config = checkpoint_files.read_config(folder)
    weights = folder / "model.safetensors"
    made = [folder / STEP]
    _export_step(checkpoint, weights, made[0])
    audio = sum(checkpoint.network.config.audio_groups)
    groups = len(checkpoint.network.config.audio_groups)
    made.append(folder / VOICE)
    rows = Dim("turns")
    _export(
        Hear(checkpoint).eval(),
        {"audio": torch.randn(4, audio), "audio_mask": torch.ones(4, groups, dtype=torch.bool)},
        {"audio": {0: rows}, "audio_mask": {0: rows}},
        ["heard"],
        weights,
        made[1],
        "network.",
    )
    if checkpoint.text_encoder is not None:
        place = checkpoint_files.text_encoder_folder(folder, config)
        made.append(place / TEXT_ENCODER)
        tokens = {"ids": torch.ones(1, 9, dtype=torch.long), "target": torch.ones(1, 9, dtype=torch.long)}
        length = Dim("tokens", min=2, max=512)
        module = Encode(checkpoint)
        module.encoder = in_integers(copy.deepcopy(module.encoder))
        _export(
            module.eval(),
            tokens,
            {"ids": {1: length}, "target": {1: length}},
            ["text"],
            place / "model.safetensors",
            made[2],
            "encoder.model.",
        )
    return made


def _export_step(checkpoint: Checkpoint, weights: Path, path: Path) -> None:
    network, batch, speakers = checkpoint.network, 4, 3
    state = network.initial_state(batch, speakers)
    heard = network.hear(
        torch.zeros(batch, sum(network.config.audio_groups)),
        torch.ones(batch, len(network.config.audio_groups), dtype=torch.bool),
    )
    inputs: dict[str, Any] = {
        "text": torch.randn(batch, network.config.text_dim),
        "heard": heard,
        "text_mask": torch.ones(batch, dtype=torch.bool),
        "audio_mask": torch.ones(batch, len(network.config.audio_groups), dtype=torch.bool),
        "speaker": torch.arange(batch) % speakers,
        "state": list(state.tensors().values()),
    }
    turns, rows = Dim("conversations"), Dim("speakers")
    shapes: dict[str, Any] = {name: {0: turns} for name in inputs if name != "state"}
    shapes["state"] = [
        {0: turns, 1: rows} if name in state.PER_SPEAKER else {0: turns} for name in state.tensors()
    ]
    fields = list(state.tensors())
    _export(
        Step(checkpoint).eval(),
        inputs,
        shapes,
        ["probabilities", *(f"next_{name}" for name in fields), *(f"initial_{name}" for name in fields)],
        weights,
        path,
        "network.",
        [*list(inputs)[:-1], *(f"state_{name}" for name in fields)],
    )


def _export(
    module: nn.Module,
    inputs: Mapping[str, Any],
    shapes: Mapping[str, Any],
    outputs: Sequence[str],
    weights: Path,
    path: Path,
    prefix: str,
    names: Sequence[str] | None = None,
) -> None:
    """Export a module, whose weights' names begin with `prefix` beyond those in the file, and save it."""
    given = {name: value for name, value in module.state_dict().items() if name.startswith(prefix)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Weightless(module),
            (given, list(inputs.values())),
            dynamic_shapes=({name: {} for name in given}, list(shapes.values())),
            input_names=[*given, *(names or inputs)],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    store_outside(model, {name: name.removeprefix(prefix) for name in given}, weights)
    for node in model.graph.node:  # what the exporter notes of the source
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:], model.metadata_props[:]
    model.metadata_props.add(key=SOURCE, value=graph_source(path.parent))
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path))


def describe(paths: Sequence[Path]) -> str:
    """Return a line of JSON about exported files."""
    return json.dumps({path.name: path.stat().st_size for path in paths})
