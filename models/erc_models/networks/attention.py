"""Attention of a turn over a window of turns: mask biases, sliding windows and an attention layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.modalities import ModalityLinear

MASKED = -1e9
"""The bias of a masked score: its softmax weight becomes exactly 0."""


def mask_to_bias(mask: Tensor) -> Tensor:
    """Return the bias to add to scores: 0 where the mask is True, else `MASKED`."""
    return torch.where(mask, 0.0, MASKED)


def sliding_windows(rows: Tensor, window: int, empty: float = 0.0) -> Tensor:
    """Return each row with the W - 1 rows before it, (..., T, D) -> (..., T, W, D), padded with `empty`."""
    return F.pad(rows, (0, 0, window - 1, 0), value=empty).unfold(-2, window, 1).transpose(-1, -2)


class WindowAttention(nn.Module):
    """Attention of the current turn over a window of turns, with a bias for each relative position.

    The scores use W_q W_k^T and the output W_v W_o only as products, so the products are learned, as a
    full-rank matrix per head. The cached turns then serve as keys and values themselves and are cached only
    once. Positions count back from the current turn, so the layer is invariant to time shifts.
    """

    def __init__(self, width: int, heads: int, positions: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = width**-0.5
        self.query = ModalityLinear(2, width, heads * width)
        self.value = ModalityLinear(2, heads * width, width, bias=False)
        self.position = nn.Parameter(torch.zeros(2, 1, heads, positions))

    def forward(self, x: Tensor, keys: Tensor, key_bias: Tensor, slots: Tensor | None = None) -> Tensor:
        """Return the turns with attention added, `x` + attn.

        Args:
            x: (2, N, d).
            keys: (2, N, K, d), the turns to attend to.
            key_bias: (2, N, 1, K), 0 or `MASKED`.
            slots: (N, K), the relative position of each key; None: the last K positions in order.
        """
        _, n, k, d = keys.shape
        position = self.position if slots is None else self.position[:, 0, :, slots].transpose(1, 2)
        bias = (key_bias + position).reshape(2 * n, self.heads, k)
        turns = keys.reshape(2 * n, k, d)
        query = self.query(x).view(2 * n, self.heads, d)
        weight = torch.baddbmm(bias, query, turns.transpose(1, 2), alpha=self.scale).softmax(-1)
        return torch.baddbmm(x, torch.bmm(weight, turns).view(2, n, -1), self.value.weight)
