"""The state of a conversation as one row of 64-bit words, so that one copy moves all of its fields."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from erc_models.networks.streaming import State
from torch import Tensor

WORD = 8
"""Bytes of a word. Every field begins at a word, so that any type can be read in place."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    words: int


class RowLayout:
    """The places of a state's fields in a row.

    Args:
        like: a state of one conversation, with rows for as many speakers as fit in a row.
    """

    def __init__(self, like: State) -> None:
        self._kind: Any = type(like)
        self.speakers: int | None = like.speakers_known if like.PER_SPEAKER else None
        """The most speakers of a state that fits; None if states have no rows for speakers."""
        self._fields: list[_Field] = []
        self.words = 0
        for name, tensor in like.tensors().items():
            shape = tuple(tensor.shape[1:])
            words = -(-prod(shape) * tensor.element_size() // WORD)
            self._fields.append(_Field(name, tensor.dtype, shape, self.words, words))
            self.words += words

    def pack(self, state: State) -> Tensor:
        """Return a state of B conversations, each with all rows for speakers, as int64 (B, words)."""
        batch, parts = state.batch, []
        for field in self._fields:
            if field.words:
                flat = getattr(state, field.name).reshape(batch, prod(field.shape)).contiguous()
                data = flat.view(torch.uint8)
                parts.append(torch.nn.functional.pad(data, (0, field.words * WORD - data.shape[1])))
        if not parts:
            return torch.zeros(batch, 0, dtype=torch.int64)
        return torch.cat(parts, 1).view(torch.int64)

    def unpack(self, rows: Tensor, speakers: int | None = None) -> State:
        """Return the state that rows int64 (B, words) hold, with rows for its first `speakers`; None: all."""
        fields = {}
        for field in self._fields:
            part = rows[:, field.start : field.start + field.words].view(field.dtype)
            tensor = part[:, : prod(field.shape)].reshape(len(rows), *field.shape)
            cut = speakers is not None and field.name in self._kind.PER_SPEAKER
            fields[field.name] = tensor[:, :speakers] if cut else tensor
        state: State = self._kind(**fields)
        return state
