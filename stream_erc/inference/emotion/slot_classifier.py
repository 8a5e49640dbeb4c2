"""A checkpoint's networks on a GPU: states in slots, batches of few sizes, each a CUDA graph.

The same runs on a CPU, without graphs and in single precision, which is how it is tested.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from erc_models.formats.text_windows import TextWindow
from erc_models.networks.streaming import State, TurnInput, state_to_bytes
from torch import Tensor

from stream_erc.core.work import ClassifyTurn, ConversationState
from stream_erc.events import Emotion, Vector
from stream_erc.inference.emotion.buckets import BATCHES, Run, bucket_of, eager, recorded
from stream_erc.inference.emotion.slots import SlotState, SlotTable
from stream_erc.inference.emotion.state_rows import RowLayout
from stream_erc.inference.emotion.text_reader import TextReader, sent
from stream_erc.inference.emotion.torch_classifier import TorchClassifier

SPEAKERS = 8
"""Speakers of a conversation whose state fits in a slot; one with more is stepped as on the CPU."""

SLOTS = 65_536
"""Slots: about a gigabyte, for ten thousand conversations with a few kept states each."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """The tensors of a step of one size, in fixed places, and the step.

    Attributes:
        host: input by name, in memory of the host from which the device can copy.
        device: the same on the device.
        text: text features (b, D), on the device.
        logits, rows: the step's results, (b, C) and (b, words), on the device.
        host_logits, host_rows: where they are copied to.
        run: the step.
    """

    host: dict[str, Tensor]
    device: dict[str, Tensor]
    text: Tensor
    logits: Tensor
    rows: Tensor
    host_logits: Tensor
    host_rows: Tensor
    run: Run


class SlotClassifier(TorchClassifier):
    """See `TorchClassifier`; it gives the same emotions, and the same bytes of a state.

    Args:
        model, device, warm: see `TorchClassifier`.
        batches: the sizes of batches.
        slots: the number of slots, at least twice the largest batch.
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "cuda",
        *,
        warm: bool = True,
        batches: Sequence[int] = BATCHES,
        slots: int = SLOTS,
    ) -> None:
        super().__init__(model, device, warm=warm)
        assert slots >= 2 * batches[-1], f"expected {2 * batches[-1]} slots or more, got {slots}"
        self._sizes = tuple(batches)
        self._lock = threading.Lock()  # of the slots, and of the tensors in fixed places
        with torch.inference_mode():
            initial = self._network.initial_state(1, SPEAKERS)
            self._layout = RowLayout(initial)
            self._table = SlotTable(slots, self._layout.pack(initial)[0].to(self.device))
        self._steps: dict[int, _Batch] = {}
        self._reader: TextReader | None = None
        if warm:
            self._settle()

    def warm_up(self) -> None:
        """See `TorchClassifier.warm_up`; also record the steps."""
        if not self.warm:
            super().warm_up()
            self._settle()

    @torch.inference_mode()
    def classify(self, works: Sequence[ClassifyTurn]) -> list[tuple[Emotion, ConversationState]]:
        """See `TorchClassifier.classify`; any number of turns."""
        fitting = [i for i, work in enumerate(works) if self._fits(work)]
        found: dict[int, tuple[Emotion, ConversationState]] = {}
        for first in range(0, len(fitting), self._sizes[-1]):
            some = fitting[first : first + self._sizes[-1]]
            found.update(zip(some, self._classify([works[i] for i in some]), strict=True))
        for i in set(range(len(works))) - set(fitting):
            (found[i],) = super().classify([works[i]])
        return [found[i] for i in range(len(works))]

    def with_labels(self, examples: Sequence[tuple[str, str, Vector | None]]) -> "SlotClassifier":
        """See `TorchClassifier.with_labels`."""
        other = super().with_labels(examples)
        assert isinstance(other, SlotClassifier)
        other._lock, other._steps = threading.Lock(), {}
        other._table = SlotTable(self._table.initial, self._table.rows[self._table.initial])
        other._settle()
        return other

    def state_to_bytes(self, state: ConversationState) -> bytes:
        """See `TorchClassifier.state_to_bytes`; it never waits for the device."""
        return bytes(
            state_to_bytes(self._unpacked(state) if isinstance(state, SlotState) else self._state(state))
        )

    @torch.inference_mode()
    def state_from_bytes(self, blob: bytes) -> ConversationState:
        """See `TorchClassifier.state_from_bytes`."""
        state = super().state_from_bytes(blob)
        assert isinstance(state, State)
        if state.speakers_known > SPEAKERS:
            return state
        row = self._layout.pack(self._network.grow(state, SPEAKERS)).cpu()[0].numpy()
        return SlotState(row, state.speakers_known)

    # --- a batch ----------------------------------------------------------------------------------

    def _fits(self, work: ClassifyTurn) -> bool:
        few = self._layout.speakers is None or work.turn.speaker < self._layout.speakers
        return few and _is_slot_state(work.state)

    def _classify(self, works: Sequence[ClassifyTurn]) -> list[tuple[Emotion, ConversationState]]:
        """Classify turns whose states fit in slots, at most the largest batch."""
        self.warm_up()
        read = [i for i, work in enumerate(works) if work.turn.read]
        windows = [TextWindow(works[i].past, works[i].turn.speaker, works[i].turn.read) for i in read]
        texts = self._reader(windows) if self._reader is not None and windows else None
        states = [work.state if isinstance(work.state, SlotState) else None for work in works]
        speakers = [
            max(work.turn.speaker + 1, 0 if state is None else state.speakers)
            for work, state in zip(works, states, strict=True)
        ]
        with self._lock:
            batch = self._step(bucket_of(len(works), self._sizes))
            sources = self._table.find(states)
            targets = self._table.reserve(len(works))
            try:
                self._fill(batch, works, read, texts, sources, targets)
                logits, rows = self._run(batch, len(works))
            except BaseException:
                self._table.give_back(targets)
                raise
            after = [SlotState(row.copy(), count) for row, count in zip(rows, speakers, strict=True)]
            for state, slot in zip(after, targets, strict=True):
                self._table.hold(state, slot)
            masks = [batch.host[name][: len(works)].clone() for name in ("text_mask", "audio_mask")]
        probabilities = self._calibration.scale(logits, *masks).softmax(-1).numpy()  # (B, C)
        return [(self._emotion(row), state) for row, state in zip(probabilities, after, strict=True)]

    def _fill(
        self,
        batch: _Batch,
        works: Sequence[ClassifyTurn],
        read: Sequence[int],
        texts: Tensor | None,
        sources: Sequence[int],
        targets: Sequence[int],
    ) -> None:
        """Write the inputs of a batch; the rows beyond are padding, which touches no conversation."""
        host, count = {name: tensor.numpy() for name, tensor in batch.host.items()}, len(works)
        host["source"][:] = self._table.initial
        host["target"][:] = self._table.scratch
        host["source"][:count], host["target"][:count] = sources, targets
        host["speaker"][:] = 0
        host["speaker"][:count] = [work.turn.speaker for work in works]
        host["text_mask"][:] = False
        host["text_mask"][read] = True
        host["audio"][:] = np.nan
        for row, work in zip(host["audio"], works, strict=False):
            if work.features.acoustic is not None:
                row[:] = work.features.acoustic
        edges = np.cumsum([0, *self.audio_groups[:-1]])
        host["audio_mask"][:] = np.logical_or.reduceat(np.isfinite(host["audio"]), edges, axis=1)
        for name, tensor in batch.device.items():
            tensor.copy_(batch.host[name], non_blocking=True)
        batch.text.zero_()
        if texts is not None:
            batch.text[sent(torch.tensor(read), self.device)] = texts

    def _run(
        self, batch: _Batch, count: int
    ) -> tuple[Tensor, np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
        """Run a step; return the logits (count, C) and the next rows (count, words), on the host."""
        batch.run()
        batch.host_logits.copy_(batch.logits, non_blocking=True)
        batch.host_rows.copy_(batch.rows, non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        return batch.host_logits[:count].clone(), batch.host_rows[:count].numpy()

    # --- what is made once ------------------------------------------------------------------------

    def _settle(self) -> None:
        """Halve the text encoder's precision on a GPU, and record the steps."""
        if self._text_encoder is not None:
            self._reader = TextReader(self._text_encoder, self.device)
        if self.device.type != "cuda":
            return
        if self._text_encoder is not None:
            self._text_encoder.model.half()  # its weights are stored in half precision
        with self._lock, torch.inference_mode():
            for size in self._sizes:
                self._step(size)

    def _step(self, size: int) -> _Batch:
        if size not in self._steps:
            self._steps[size] = self._make_step(size)
        return self._steps[size]

    def _make_step(self, size: int) -> _Batch:
        groups, table = self.audio_groups, self._table
        host = {
            "audio": torch.full((size, sum(groups)), torch.nan),
            "audio_mask": torch.zeros(size, len(groups), dtype=torch.bool),
            "text_mask": torch.zeros(size, dtype=torch.bool),
            "speaker": torch.zeros(size, dtype=torch.int64),
            "source": torch.full((size,), table.initial),
            "target": torch.full((size,), table.scratch),
        }
        gpu = self.device.type == "cuda"
        if gpu:
            host = {name: tensor.pin_memory() for name, tensor in host.items()}
        device = {name: tensor.to(self.device, copy=True) for name, tensor in host.items()}
        text = torch.zeros(size, self._text_dim, device=self.device)
        logits = torch.zeros(size, self._network.config.classes, device=self.device)
        rows = torch.zeros(size, self._layout.words, dtype=torch.int64, device=self.device)

        def run() -> None:
            before = self._layout.unpack(table.rows.index_select(0, device["source"]))
            turns = TurnInput(text, device["audio"], device["text_mask"], device["audio_mask"])
            found, after = self._network.advance(turns, device["speaker"], before)
            logits.copy_(found)
            rows.copy_(self._layout.pack(after))
            table.rows.index_copy_(0, device["target"], rows)

        on_host = [torch.zeros(t.shape, dtype=t.dtype, pin_memory=gpu) for t in (logits, rows)]
        made = (recorded if gpu else eager)(run)
        return _Batch(host, device, text, logits, rows, on_host[0], on_host[1], made)

    def _unpacked(self, state: SlotState) -> State:
        speakers = None if self._layout.speakers is None else state.speakers
        return self._layout.unpack(torch.from_numpy(state.row)[None], speakers)

    def _state(self, state: ConversationState | None) -> State:
        """Return a state on the device, for a step outside of slots."""
        if isinstance(state, SlotState):
            return self._unpacked(state).to(self.device)
        return super()._state(state)


def _is_slot_state(state: ConversationState | None) -> TypeGuard[SlotState | None]:
    return state is None or isinstance(state, SlotState)
