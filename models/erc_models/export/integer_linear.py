"""Linear maps in 8-bit integers, for graphs.

Weights are rounded for each output, activations for each row as they come, both symmetrically (the dynamic
quantisation of Jacob et al., arXiv 1712.05877, with a scale for each row). A scale for each row, and not for
the whole input, keeps the result of a row independent of the other rows.

Activations have 7 bits: processors without VNNI add two products in 16 bits, which those of 8 bits exceed
(ONNX Runtime, "When and why do I need to try U8U8?").
"""

import torch
from torch import Tensor, nn

LARGEST_WEIGHT, LARGEST_ACTIVATION = 127, 63
_ZERO = 64  # activations are unsigned: processors multiply those with signed weights


def steps(rows: Tensor, largest: int) -> Tensor:
    """Return the step (..., 1) by which each row (..., D) is rounded to integers within +- `largest`."""
    return rows.abs().amax(-1, keepdim=True).clamp(min=1e-9) / largest


class IntegerLinear(nn.Module):
    """The map of an `nn.Linear`, rounded; for export, since torch itself does not run it in integers."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (..., inputs) -> (..., outputs)."""
        weight_step, step = steps(self.weight, LARGEST_WEIGHT), steps(x, LARGEST_ACTIVATION)
        weight = (self.weight / weight_step).round().to(torch.int8).t()
        rounded = ((x / step).round() + _ZERO).to(torch.uint8)
        zero = torch.full((), _ZERO, dtype=torch.uint8)
        shape = (*x.shape[:-1], self.weight.shape[0])
        product = torch.onnx.ops.symbolic(
            "MatMulInteger", (rounded, weight, zero), dtype=torch.int32, shape=shape
        )
        return product.float() * step * weight_step.squeeze(1) + self.bias


def in_integers(module: nn.Module) -> nn.Module:
    """Replace every `nn.Linear` in a module, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, IntegerLinear(child))
        else:
            in_integers(child)
    return module
