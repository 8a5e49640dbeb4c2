#!/bin/sh
# Guess: a dynamically quantized model is a little less exact, but gives a row the same result in whatever batch it
#   stands.
# Truth: DynamicQuantizeLinear takes one scale from the largest value of the whole batch. Beside a row that is 30
#   times as large, a row has some eight of the 256 steps left, and its result is off by an eighth of its size, ten
#   times as much as alone.
# Hurts: servers that batch requests of several users, and whoever tests a quantized model row by row and runs it in
#   batches (or the other way round).
# Seen: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.WARNING)
chance = np.random.default_rng(0)
plain, quantized = f"{sys.argv[1]}/plain.onnx", f"{sys.argv[1]}/quantized.onnx"
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "one_layer",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
    [numpy_helper.from_array(chance.standard_normal((64, 8)).astype(np.float32), "w")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), plain)
quantize_dynamic(plain, quantized, weight_type=QuantType.QInt8)

row, large = chance.standard_normal((2, 1, 64)).astype(np.float32)
batch = np.concatenate([row, 30 * large])


def run(model, x):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0][0]


exact = run(plain, row)
moved = {}
for name, model in (("plain", plain), ("quantized", quantized)):
    alone, beside = run(model, row), run(model, batch)
    size = np.linalg.norm(exact)
    moved[name] = np.linalg.norm(alone - exact) / size, np.linalg.norm(beside - exact) / size
    print(f"{name}: off by {moved[name][0]:.1%} alone, by {moved[name][1]:.1%} beside a large row")
sys.exit(not (max(moved["plain"]) < 1e-4 and moved["quantized"][0] < 0.03 and moved["quantized"][1] > 0.1))
PYTHON
