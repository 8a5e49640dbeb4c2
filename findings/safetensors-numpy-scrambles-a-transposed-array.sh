#!/bin/sh
# Guess: an array that is a transposed view is saved as it reads, or is refused, as safetensors.torch refuses such a
#   tensor.
# Truth: safetensors.numpy saves it without a word, with the shape of the view and the bytes in the order in which
#   they lie in memory. What is loaded has the right shape and the wrong numbers. Its documentation asks for
#   contiguous arrays; nothing checks. Up to 0.7.0 it came back right.
# Hurts: whoever stores `weight.T`, the usual step from one framework's layout to another's.
# Seen: safetensors 0.8.0 and 0.7.0, numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 0.7.0 0.8.0; do
    "$folder/venv/bin/pip" install -q "safetensors==$version" numpy==2.4.6
    "$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

weight = np.arange(6, dtype=np.float32).reshape(2, 3)
loaded = load(save({"weight": weight.T}))["weight"]
print(f"safetensors {safetensors.__version__}")
print(f"  saved  {weight.T.tolist()}\n  loaded {loaded.tolist()}")
same = loaded.shape == (3, 2) and np.array_equal(loaded, weight.T)
scrambled = loaded.shape == (3, 2) and np.array_equal(loaded.ravel(), weight.ravel())
sys.exit(not (scrambled if safetensors.__version__ == "0.8.0" else same))
PYTHON
done
