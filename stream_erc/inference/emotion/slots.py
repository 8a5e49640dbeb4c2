"""Slots on a device: a cache of the states of conversations, which are values.

A step reads the slots of the states before it, and writes those after it to other slots; so a state never
changes, and may have several successors, as a turn that is revised has. Each state also has its row in the
memory of the host, copied with the turn's probabilities. So a slot can be given to another state at any time:
a state without one is uploaded when it is stepped next, and a snapshot never waits for the device.
"""

import itertools
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Row = NDArray[np.int64]
"""A state as `RowLayout` packs it, (words,)."""

_tickets = itertools.count()


@dataclass(frozen=True, eq=False)
class SlotState:
    """The state of one conversation.

    Attributes:
        row: its fields, with rows for as many speakers as fit; never written to.
        speakers: the number of speakers that it knows.
        ticket: a number that no other state of this process has.
    """

    row: Row
    speakers: int
    ticket: int = field(default_factory=lambda: next(_tickets))

    def __reduce__(self) -> tuple[object, ...]:
        """Leave the ticket behind: it means another state in another process."""
        return SlotState, (self.row, self.speakers)


@dataclass(frozen=True, slots=True)
class _Place:
    """A slot, and what happens when nobody holds its state any more."""

    slot: int
    end: "weakref.finalize"  # type: ignore[type-arg]  # it cannot be subscripted


class SlotTable:
    """Slots for states, the least recently used given away when none is free. Not thread-safe.

    A slot is free again when nobody holds its state any more.

    Args:
        slots: their number, at least twice the largest batch.
        initial: the row of a conversation that begins, int64 (words,), on the device.

    Attributes:
        rows: int64 (slots + 2, words).
        initial: the index of a row that is only read: the beginning of a conversation.
        scratch: the index of a row that is only written: whatever pads a batch.
        uploads: the number of states that were uploaded so far.
    """

    def __init__(self, slots: int, initial: Tensor) -> None:
        self.rows = initial.new_zeros(slots + 2, len(initial))
        self.initial, self.scratch, self.uploads = slots, slots + 1, 0
        self.rows[self.initial] = initial
        self._slots: OrderedDict[int, _Place] = OrderedDict()  # by ticket, the least recently used first
        self._free = list(range(slots - 1, -1, -1))
        self._dropped: deque[int] = deque()  # tickets of states that nobody holds, from any thread

    @property
    def held(self) -> int:
        """The number of slots that hold a state."""
        self._collect()
        return len(self._slots)

    def hold(self, state: SlotState, slot: int) -> None:
        """Note that a slot, which `reserve` gave, holds a state."""
        end = weakref.finalize(state, self._dropped.append, state.ticket)
        end.atexit = False
        self._slots[state.ticket] = _Place(slot, end)

    def find(self, states: Sequence[SlotState | None]) -> list[int]:
        """Return the indices of the states' rows, uploading those that have none; None is a beginning."""
        known = [state for state in states if state is not None]
        for state in known:
            if state.ticket in self._slots:
                self._slots.move_to_end(state.ticket)
        missing = {state.ticket: state for state in known if state.ticket not in self._slots}
        if missing:
            self._upload(list(missing.values()))
        return [self.initial if state is None else self._slots[state.ticket].slot for state in states]

    def reserve(self, count: int) -> list[int]:
        """Return slots to write to: free ones, then those of the states that were used least recently."""
        self._collect()
        while len(self._free) < count:
            _, place = self._slots.popitem(last=False)
            place.end.detach()
            self._free.append(place.slot)
        return [self._free.pop() for _ in range(count)]

    def give_back(self, slots: Sequence[int]) -> None:
        """Return slots that were reserved in vain."""
        self._free.extend(slots)

    def _upload(self, states: Sequence[SlotState]) -> None:
        slots = self.reserve(len(states))
        index = torch.tensor(slots)
        rows = torch.from_numpy(np.stack([state.row for state in states]))
        if self.rows.is_cuda:
            index, rows = index.pin_memory(), rows.pin_memory()
        device = self.rows.device
        self.rows.index_copy_(0, index.to(device, non_blocking=True), rows.to(device, non_blocking=True))
        for state, slot in zip(states, slots, strict=True):
            self.hold(state, slot)
        self.uploads += len(states)

    def _collect(self) -> None:
        """Free the slots of states that nobody holds."""
        while self._dropped:
            place = self._slots.pop(self._dropped.popleft(), None)
            if place is not None:
                self._free.append(place.slot)
