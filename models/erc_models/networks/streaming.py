"""The step and state contract of every network.

``logits, state = model.step(x, speaker, state)`` defines a network; ``model(x, speaker)`` over a whole
dialogue gives the same numbers. A state is a frozen value of tensors, batch first, that is never modified:
an old state is a point to return to, and its bytes can be stored. Conversations at different turns share a
batch by stacking their states (`stack`).
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
    """The features of one turn per conversation, or of whole dialogues (then (B, T, ...)).

    A value under a False mask is never read and may be anything, NaN included. A turn without any
    modality, such as padding, carries no information.

    Attributes:
        text: text features (B, D_text).
        audio: acoustic features in their own units (B, D_audio), group after group; NaN for a single
            feature that could not be measured.
        text_mask: bool (B,), whether the turn has text.
        audio_mask: bool (B, G), whether the turn has each group of acoustic features.
        vision: visual features (B, D_vision), or None. No network here needs them; MultiEMO can read them.
        vision_mask: bool (B,), or None with `vision`.
        heard: what `StreamingModel.hear` made of `audio` (B, V), which then is not read; or None.
    """

    text: Tensor
    audio: Tensor
    text_mask: Tensor
    audio_mask: Tensor
    vision: Tensor | None = None
    vision_mask: Tensor | None = None
    heard: Tensor | None = None

    def turn(self, index: int) -> "TurnInput":
        """Return turn `index` of whole dialogues: (B, T, ...) -> (B, ...)."""
        return self.map(lambda tensor: tensor[:, index])

    def flatten(self) -> "TurnInput":
        """Join dialogues and turns into one dimension: (B, T, ...) -> (B T, ...)."""
        return self.map(lambda tensor: tensor.flatten(0, 1))

    def to(self, device: torch.device | str) -> "TurnInput":
        """Move the tensors to another device."""
        return self.map(lambda tensor: tensor.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> "TurnInput":
        """Apply a function to every tensor."""
        values = (getattr(self, field.name) for field in fields(self))
        return TurnInput(*(None if value is None else change(value) for value in values))


@dataclass(frozen=True, eq=False)
class State:
    """The state of B conversations: tensors, batch first. Each network has a subclass.

    Fields named in `PER_SPEAKER` are (B, S, ...), with a row for each speaker.
    """

    PER_SPEAKER: ClassVar[tuple[str, ...]] = ()

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def batch(self) -> int:
        """Number of conversations (B)."""
        return int(next(iter(self.tensors().values())).shape[0])

    @property
    def speakers_known(self) -> int:
        """Number of speakers that have a row (S)."""
        return getattr(self, self.PER_SPEAKER[0]).shape[1] if self.PER_SPEAKER else 0

    def to(self, device: torch.device | str) -> Self:
        """Move the state to another device."""
        return type(self)(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


class NetworkConfig(Protocol):
    """Input and output sizes, which the frozen configuration dataclass of every network has."""

    @property
    def text_dim(self) -> int:
        """Size of the text features."""

    @property
    def audio_groups(self) -> tuple[int, ...]:
        """Sizes of the groups of acoustic features."""

    @property
    def classes(self) -> int:
        """Number of emotions."""


S = TypeVar("S", bound=State)


class StreamingModel(nn.Module, Generic[S]):
    """A network that reads a conversation turn by turn.

    A subclass defines `initial_state`, `grow` and `advance`; it may vectorise `forward` and extend `learn`.
    The module holds weights only; everything about a conversation is in its state.

    `TRAINING_ONLY` names the submodules that only `learn` uses; checkpoints leave them out. `VOICE_ONLY`
    begins the names of parameters that conversations without audio never use, `VOICE_ROWS` those of
    parameters with two rows, text and audio, of which they never use the second.
    """

    TRAINING_ONLY: ClassVar[tuple[str, ...]] = ()
    VOICE_ONLY: ClassVar[tuple[str, ...]] = ()
    VOICE_ROWS: ClassVar[tuple[str, ...]] = ()
    config: NetworkConfig

    def initial_state(self, batch: int = 1, speakers: int = 0) -> S:
        """Return the state before the first turn, with rows for `speakers` speakers not heard yet."""
        raise NotImplementedError

    def grow(self, state: S, speakers: int) -> S:
        """Add rows for speakers not heard yet until there are at least `speakers`."""
        raise NotImplementedError

    def advance(self, x: TurnInput, speaker: Tensor, state: S) -> tuple[Tensor, S]:
        """Step without growing: every speaker index must have a row. Never synchronises with the device."""
        raise NotImplementedError

    def hear(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Reduce acoustic features (N, D_audio), (N, G) to what the network reads of them, (N, V).

        It is the part of the network that neither reads nor changes a state, so that it can run before the
        turn's place in the conversation is known. By default it is nothing: V is D_audio.
        """
        return audio

    def step(self, x: TurnInput, speaker: Tensor, state: S) -> tuple[Tensor, S]:
        """Read one turn of each conversation.

        Args:
            x: the turns, (B, ...).
            speaker: int64 (B,), the speaker's index, by order of appearance in each conversation.
            state: the state before the turns; it is not modified.

        Returns:
            Logits (B, C) and the state after the turns.
        """
        needed = int(speaker.max()) + 1
        if needed > state.speakers_known:
            state = self.grow(state, needed)
        return self.advance(x, speaker, state)

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return logits (B, T, C) of whole dialogues, `x` (B, T, ...), `speaker` (B, T), padded at end."""
        state = self.initial_state(speaker.shape[0], int(speaker.max()) + 1)
        logits = []
        for t in range(speaker.shape[1]):
            now, state = self.advance(x.turn(t), speaker[:, t], state)
            logits.append(now)
        return torch.stack(logits, 1)

    def learn(
        self, x: TurnInput, speaker: Tensor, label: Tensor, emotion_loss: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Return the weighted losses of a batch of whole dialogues by name; training minimises their sum.

        Args:
            x: the turns, (B, T, ...); padding has no modality.
            speaker: int64 (B, T).
            label: int64 (B, T), negative for an unlabelled turn.
            emotion_loss: logits (B, T, C) -> the classification loss, the same for every network.
        """
        return {"emotion": emotion_loss(self(x, speaker))}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by the name of their group; gradients are clipped per group."""
        return {"network": list(self.parameters())}

    def state_from_bytes(self, blob: bytes) -> S:
        """Restore a state that `state_to_bytes` wrote, bit for bit, onto the model's device.

        Raises:
            ValueError: the bytes are not a state of this network.
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
    """Return the size of a state's tensors in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.tensors().values())


def state_to_bytes(state: State) -> bytes:
    """Serialise a state as safetensors; `StreamingModel.state_from_bytes` is the inverse."""
    return tensors_to_bytes(
        {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors().items()}
    )


def with_row(rows: Tensor, index: Tensor, row: Tensor) -> Tensor:
    """Return `rows` (N, S, D) with `row` (N, D) at `index`, int64 (N,); scatter takes ten times as long."""
    here = torch.arange(rows.shape[1], device=rows.device) == index.unsqueeze(1)  # (N, S)
    return torch.where(here.unsqueeze(2), row.unsqueeze(1), rows)


def stack(model: StreamingModel[S], states: Sequence[S]) -> S:
    """Stack the states of several conversations into one batch, padded with unheard speakers."""
    speakers = max(state.speakers_known for state in states)
    grown = [model.grow(state, speakers).tensors() for state in states]
    return type(states[0])(**{name: torch.cat([g[name] for g in grown]) for name in grown[0]})


def unstack(state: S, speakers: Sequence[int]) -> list[S]:
    """Split a batch into states of one conversation each.

    Args:
        state: B conversations.
        speakers: number of speakers of each conversation; further rows are padding and dropped.
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
    """Step conversations that have states of their own, in one batch.

    Args:
        model: the network.
        x: one turn of each conversation, (B, ...).
        speakers: the speaker's index in each.
        states: B states of one conversation each, at whatever turn.

    Returns:
        Logits (B, C) and the B next states, the same as without the other conversations.
    """
    counts = [max(s.speakers_known, who + 1) for s, who in zip(states, speakers, strict=True)]
    batch = states[0] if len(states) == 1 else stack(model, states)
    logits, after = model.step(x, torch.tensor(speakers, device=x.text.device), batch)
    return logits, [after] if len(states) == 1 else unstack(after, counts)
