"""Graphs whose weights stay in the safetensors file beside them.

A graph is exported with its weights as inputs. Here they become initializers that point into the file
(ONNX external data), so that weights are stored once, in fp16, and a graph is some ten kilobytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

_KINDS = {"F16": TensorProto.FLOAT16, "F32": TensorProto.FLOAT}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file: its type, shape, and place in the file in bytes."""

    kind: int
    shape: tuple[int, ...]
    offset: int
    length: int


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Read where a safetensors file has its tensors."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    return {
        name: StoredTensor(
            _KINDS[about["dtype"]],
            tuple(about["shape"]),
            8 + size + about["data_offsets"][0],
            about["data_offsets"][1] - about["data_offsets"][0],
        )
        for name, about in header.items()
        if name != "__metadata__"
    }


def store_outside(model: onnx.ModelProto, weights: Mapping[str, str], path: Path) -> None:
    """Turn inputs of a graph into initializers in the safetensors file `path`, beside which it will be saved.

    Args:
        model: the graph, which is changed.
        weights: the inputs, with the names of their tensors in the file.
        path: the file.
    """
    graph, stored = model.graph, stored_tensors(path)
    used = {name for node in graph.node for name in node.input}
    casts = []
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
        if value.name not in used:
            continue
        tensor = stored[weights[value.name]]
        name = value.name if tensor.kind == TensorProto.FLOAT else f"{value.name}_stored"
        initializer = graph.initializer.add(name=name, data_type=tensor.kind, dims=tensor.shape)
        initializer.data_location = TensorProto.EXTERNAL
        for key, about in (
            ("location", path.name),
            ("offset", str(tensor.offset)),
            ("length", str(tensor.length)),
        ):
            initializer.external_data.add(key=key, value=about)
        if name != value.name:
            casts += _widened(graph, name, value.name)
    for node in reversed(casts):
        graph.node.insert(0, node)


def _widened(graph: onnx.GraphProto, stored: str, name: str) -> list[onnx.NodeProto]:
    """Return the casts to fp32; of a table only the rows that are looked up are cast, in place."""
    lookups = [node for node in graph.node if node.op_type == "Gather" and node.input[0] == name]
    for node in lookups:
        node.input[0] = stored
        found, node.output[0] = node.output[0], f"{node.output[0]}_stored"
        at = list(graph.node).index(node) + 1
        graph.node.insert(at, helper.make_node("Cast", [node.output[0]], [found], to=TensorProto.FLOAT))
    others = any(name in node.input for node in graph.node)
    return [helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT)] if others else []
