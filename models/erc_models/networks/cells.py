"""The arithmetic of recurrent cells; each network maps input and state itself."""

import torch
from torch import Tensor


def gru(from_input: Tensor, from_state: Tensor, h: Tensor) -> Tensor:
    """Return the next state (..., d) of a GRU.

    Args:
        from_input: (..., 3d), the mapped input: reset gate, update gate, candidate.
        from_state: (..., 3d), the mapped state, with its biases.
        h: (..., d).
    """
    d = h.shape[-1]
    reset, keep = torch.sigmoid(from_input[..., : 2 * d] + from_state[..., : 2 * d]).chunk(2, -1)
    candidate = torch.tanh(torch.addcmul(from_input[..., 2 * d :], reset, from_state[..., 2 * d :]))
    return torch.lerp(candidate, h, keep)


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next h and c (..., d) of an LSTM.

    Args:
        gates: (..., 4d), pre-activations of the input, forget and output gates and of the candidate.
        c: (..., d).
    """
    d = c.shape[-1]
    i, f, o = torch.sigmoid(gates[..., : 3 * d]).chunk(3, -1)
    c = torch.addcmul(f * c, i, torch.tanh(gates[..., 3 * d :]))
    return o * torch.tanh(c), c
