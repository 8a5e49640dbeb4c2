"""The step/state contract that every network keeps.

``logits, state = model.step(x, speaker, state)`` is the definition of a network; ``model(x, speaker)``
over a whole dialogue gives the same numbers. A state is a frozen value of tensors, batch first, that no
one modifies: keeping one is a rewind point, throwing one away undoes a turn, and its bytes are a snapshot.
Conversations that are out of step with one another share a batch by gathering their states (`stack`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class TurnInput:
    """What a network reads of one turn per conversation, or of whole dialogues (then (B, T, ...)).

    A value under a False mask is never read: it may be anything, NaN included. A turn without any
    modality (padding, for one) tells the network nothing.

    Attributes:
        text: text features (B, D_text).
        audio: acoustic features in their own units (B, D_audio), the groups one after the other; NaN
            where a single one could not be measured.
        text_mask: bool (B,), whether the turn has text.
        audio_mask: bool (B, G), whether each group of acoustic features is there.
        vision: visual features (B, D_vision), or None: no network here needs them, MultiEMO can read them.
        vision_mask: bool (B,), or None with `vision`.
    """

    text: Tensor
    audio: Tensor
    text_mask: Tensor
    audio_mask: Tensor
    vision: Tensor | None = None
    vision_mask: Tensor | None = None

    def turn(self, index: int) -> "TurnInput":
        """Turn `index` of whole dialogues: (B, T, ...) -> (B, ...)."""
        return self.map(lambda tensor: tensor[:, index])

    def flatten(self) -> "TurnInput":
        """The turns of whole dialogues in one row: (B, T, ...) -> (B T, ...)."""
        return self.map(lambda tensor: tensor.flatten(0, 1))

    def to(self, device: torch.device | str) -> "TurnInput":
        """The same values on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> "TurnInput":
        """The same turns with every tensor changed, indexed for one."""
        values = (getattr(self, field.name) for field in fields(self))
        return TurnInput(*(None if value is None else change(value) for value in values))


@dataclass(frozen=True, eq=False)
class State:
    """The state of B conversations: tensors with the batch first; a model subclasses it.

    Fields named in `PER_SPEAKER` are (B, S, ...), with a row for each speaker met so far.
    """

    PER_SPEAKER: ClassVar[tuple[str, ...]] = ()

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def batch(self) -> int:
        """How many conversations (B)."""
        return int(next(iter(self.tensors().values())).shape[0])

    @property
    def speakers_known(self) -> int:
        """How many speakers there is room for (S)."""
        return int(getattr(self, self.PER_SPEAKER[0]).shape[1]) if self.PER_SPEAKER else 0

    def to(self, device: torch.device | str) -> Self:
        """The same state on another device."""
        return type(self)(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


class NetworkConfig(Protocol):
    """What the frozen configuration dataclass of every network has: the sizes of its ends."""

    @property
    def text_dim(self) -> int:
        """Size of the text features."""

    @property
    def audio_groups(self) -> tuple[int, ...]:
        """Sizes of the groups of acoustic features."""

    @property
    def classes(self) -> int:
        """How many emotions."""


S = TypeVar("S", bound=State)


class StreamingModel(nn.Module, Generic[S]):
    """A network that reads a conversation turn by turn.

    A subclass gives `initial_state`, `grow` and `advance`, and may vectorise `forward` and add to `learn`.
    Weights live in the module, what a conversation leaves behind lives in the state alone.

    `TRAINING_ONLY` names the submodules that only `learn` uses; a checkpoint does not keep them.
    """

    TRAINING_ONLY: ClassVar[tuple[str, ...]] = ()
    config: NetworkConfig

    def initial_state(self, batch: int = 1, speakers: int = 0) -> S:
        """The state before the first turn, with rows for `speakers` speakers that nobody has heard yet."""
        raise NotImplementedError

    def grow(self, state: S, speakers: int) -> S:
        """The same state with room for at least `speakers` speakers; new ones start unheard."""
        raise NotImplementedError

    def advance(self, x: TurnInput, speaker: Tensor, state: S) -> tuple[Tensor, S]:
        """`step` without growing: every speaker index must have its row. It never waits for the device."""
        raise NotImplementedError

    def step(self, x: TurnInput, speaker: Tensor, state: S) -> tuple[Tensor, S]:
        """Read one turn of each conversation.

        Args:
            x: the turns, (B, ...).
            speaker: int64 (B,), who speaks, by order of appearance in each conversation.
            state: the state before the turns; it stays as it was.

        Returns:
            Logits (B, C) and the state after the turns.
        """
        needed = int(speaker.max()) + 1
        if needed > state.speakers_known:
            state = self.grow(state, needed)
        return self.advance(x, speaker, state)

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Logits (B, T, C) of whole dialogues, `x` (B, T, ...) and `speaker` (B, T); padding at the end."""
        state = self.initial_state(speaker.shape[0], int(speaker.max()) + 1)
        logits = []
        for t in range(speaker.shape[1]):
            now, state = self.advance(x.turn(t), speaker[:, t], state)
            logits.append(now)
        return torch.stack(logits, 1)

    def learn(
        self, x: TurnInput, speaker: Tensor, label: Tensor, emotion_loss: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Named losses of a batch of whole dialogues, weighted: training minimises their sum.

        Args:
            x: the turns, (B, T, ...); padding has no modality.
            speaker: int64 (B, T).
            label: int64 (B, T), negative where there is none.
            emotion_loss: logits (B, T, C) -> the classification loss that every network shares.
        """
        return {"emotion": emotion_loss(self(x, speaker))}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parts of the network whose gradients are clipped apart from one another, by name."""
        return {"network": list(self.parameters())}

    def state_from_bytes(self, blob: bytes) -> S:
        """Restore a state that `state_to_bytes` wrote, bit for bit, onto the model's device.

        Raises:
            ValueError: the bytes are no state of this network.
        """
        template = self.initial_state()
        try:
            found = tensors_from_bytes(blob)
        except SafetensorError as error:
            raise ValueError(f"expected a conversation state, got {len(blob)} unreadable bytes") from error
        expected = template.tensors()
        if found.keys() != expected.keys():
            raise ValueError(f"expected a state of {sorted(expected)}, got {sorted(found)}")
        for name, like in expected.items():
            free = 2 if name in template.PER_SPEAKER else 1
            got = found[name]
            if got.shape[free:] != like.shape[free:] or got.dtype != like.dtype:
                raise ValueError(
                    f"expected state {name!r} of shape {tuple(like.shape)} {like.dtype}, "
                    f"got {tuple(got.shape)} {got.dtype}"
                )
        device = next(self.parameters()).device
        return type(template)(**{name: tensor.to(device) for name, tensor in found.items()})


def state_bytes(state: State) -> int:
    """How many bytes the tensors of a state hold."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.tensors().values())


def state_to_bytes(state: State) -> bytes:
    """A state as safetensors bytes; `StreamingModel.state_from_bytes` is the inverse."""
    return tensors_to_bytes(
        {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors().items()}
    )


def stack(model: StreamingModel[S], states: Sequence[S]) -> S:
    """Gather the states of several conversations into one batch; fewer speakers are padded as unheard."""
    speakers = max(state.speakers_known for state in states)
    grown = [model.grow(state, speakers).tensors() for state in states]
    return type(states[0])(**{name: torch.cat([g[name] for g in grown]) for name in grown[0]})


def unstack(state: S, speakers: Sequence[int]) -> list[S]:
    """Part a batch into states of one conversation each.

    Args:
        state: B conversations.
        speakers: how many speakers each has met; rows beyond were only padding and are dropped.
    """
    parts = []
    for i, count in enumerate(speakers):
        rows = {name: tensor[i : i + 1] for name, tensor in state.tensors().items()}
        for name in state.PER_SPEAKER:
            rows[name] = rows[name][:, :count]
        parts.append(type(state)(**{name: tensor.clone() for name, tensor in rows.items()}))
    return parts


def step_each(
    model: StreamingModel[S], x: TurnInput, speakers: Sequence[int], states: Sequence[S]
) -> tuple[Tensor, list[S]]:
    """`step` for conversations that keep their own states, in one batch.

    Args:
        model: the network.
        x: one turn of each conversation, (B, ...).
        speakers: who speaks in each.
        states: B states of one conversation each, at whatever turn.

    Returns:
        Logits (B, C) and the B next states, as they would be without the others.
    """
    counts = [max(s.speakers_known, who + 1) for s, who in zip(states, speakers, strict=True)]
    batch = states[0] if len(states) == 1 else stack(model, states)
    logits, after = model.step(x, torch.tensor(speakers, device=x.text.device), batch)
    return logits, [after] if len(states) == 1 else unstack(after, counts)
