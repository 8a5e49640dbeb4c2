#!/bin/sh
# Guess: attention that may look at nothing is NaN or 0, one or the other, and in evaluation it is what it was in
#   training.
# Truth: with `need_weights=False`, nn.MultiheadAttention gives the bias of its output layer in training (its
#   attention is 0), and NaN in evaluation without gradients, where it takes another path. With `need_weights=True` it
#   is NaN in both. scaled_dot_product_attention itself gives 0.
# Hurts: whoever trains on padded dialogues or windows where a turn may have nothing to look at: the loss is fine, and
#   the first NaN comes with the first evaluation.
# Seen: torch 2.13.0 on a CPU, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch import nn

torch.manual_seed(0)
attention = nn.MultiheadAttention(16, 2, batch_first=True)
nn.init.normal_(attention.out_proj.bias)
turns = torch.randn(1, 3, 16)
forbidden = torch.tensor([[False, True, True], [True, True, True], [False, False, False]])


def second_turn(training, need_weights):
    """What the turn gets that may look at nothing."""
    attention.train(training)
    with torch.set_grad_enabled(training):
        return attention(turns, turns, turns, attn_mask=forbidden, need_weights=need_weights)[0][0, 1].detach()


trained, evaluated = second_turn(True, False), second_turn(False, False)
weighed = [second_turn(training, True) for training in (True, False)]
heads = turns.reshape(1, 3, 2, 8).transpose(1, 2)
plain = nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=~forbidden)[0, :, 1]
print(f"train(): {trained[:3].tolist()}, the bias: {torch.allclose(trained, attention.out_proj.bias)}")
print(f"eval(): {evaluated[:3].tolist()}")
print(f"with need_weights, train(): {weighed[0][:3].tolist()}, eval(): {weighed[1][:3].tolist()}")
print(f"scaled_dot_product_attention: {plain[0, :3].tolist()}")
as_described = (
    torch.allclose(trained, attention.out_proj.bias)
    and evaluated.isnan().all()
    and all(result.isnan().all() for result in weighed)
    and (plain == 0).all()
)
sys.exit(not as_described)
PYTHON
