"""Networks and dialogues to test on: every weight off its initial value, every modality missing somewhere."""

from typing import TypeVar

import torch
from erc_models.networks.streaming import State, StreamingModel, TurnInput
from torch import Tensor

TEXT, GROUPS, CLASSES = 6, (4, 3), 3

Model = TypeVar("Model", bound=StreamingModel)
S = TypeVar("S", bound=State)


@torch.no_grad()
def stirred(model: Model) -> Model:
    """The network in eval mode, every weight off its initial value, so that none is invisible by chance."""
    for parameter in model.eval().parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def dialogues(batch: int, turns: int, seed: int = 1, speakers: int = 3) -> tuple[TurnInput, Tensor]:
    """Random dialogues in which every combination of missing modalities occurs."""
    g = torch.Generator().manual_seed(seed)
    x = TurnInput(
        torch.randn(batch, turns, TEXT, generator=g),
        5 * torch.randn(batch, turns, sum(GROUPS), generator=g),
        torch.rand(batch, turns, generator=g) > 0.3,
        torch.rand(batch, turns, len(GROUPS), generator=g) > 0.4,
    )
    return x, torch.randint(0, speakers, (batch, turns), generator=g)


@torch.no_grad()
def play(model: StreamingModel[S], x: TurnInput, speaker: Tensor) -> tuple[Tensor, S]:
    """`step` turn by turn: logits (B, T, C) and the last state."""
    state, logits = model.initial_state(speaker.shape[0]), []
    for t in range(speaker.shape[1]):
        now, state = model.step(x.turn(t), speaker[:, t], state)
        logits.append(now)
    return torch.stack(logits, 1), state
