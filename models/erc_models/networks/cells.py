"""The arithmetic of recurrent cells; how input and state are mapped is each network's own."""

import torch
from torch import Tensor


def gru(from_input: Tensor, from_state: Tensor, h: Tensor) -> Tensor:
    """The next state (..., d) of a GRU.

    Args:
        from_input: (..., 3d), the mapped input: reset gate, update gate, proposal.
        from_state: (..., 3d), the mapped state, with its biases.
        h: (..., d).
    """
    d = h.shape[-1]
    reset, keep = torch.sigmoid(from_input[..., : 2 * d] + from_state[..., : 2 * d]).chunk(2, -1)
    proposal = torch.tanh(torch.addcmul(from_input[..., 2 * d :], reset, from_state[..., 2 * d :]))
    return torch.lerp(proposal, h, keep)


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The next h and c (..., d) of an LSTM.

    Args:
        gates: (..., 4d), the arguments of input, forget and output gate and of the candidate.
        c: (..., d).
    """
    d = c.shape[-1]
    i, f, o = torch.sigmoid(gates[..., : 3 * d]).chunk(3, -1)
    c = torch.addcmul(f * c, i, torch.tanh(gates[..., 3 * d :]))
    return o * torch.tanh(c), c
