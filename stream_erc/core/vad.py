"""The interface of a voice activity detector: a speech probability per 32 ms window, its state as a value.

The detector is recurrent. Its memory of a stream is a `VadState`, which is passed in and returned, so one
detector (`stream_erc.inference.silero`) serves any number of streams.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_erc.events import Samples

WINDOW = 512  # samples: 32 ms, the only size that the network was trained on at 16 kHz
CONTEXT = 64  # samples of the previous window, which the network reads before each window
HIDDEN = 128  # units of its LSTM

SILENT = 2 / 2**15
"""The peak of digital silence, dithered or not: two steps of 16 bits, far below what any microphone hears."""


@dataclass(frozen=True, slots=True, eq=False)
class VadState:
    """The network's memory of one stream.

    Attributes:
        hidden, cell: the state of its LSTM, (128,) each.
        context: the last samples of the previous window, (64,).
    """

    hidden: NDArray[np.float32]
    cell: NDArray[np.float32]
    context: Samples

    @classmethod
    def initial(cls) -> "VadState":
        """Return the state before any audio."""
        return cls(frozen(np.zeros(HIDDEN)), frozen(np.zeros(HIDDEN)), frozen(np.zeros(CONTEXT)))

    def after(self, window: Samples) -> "VadState":
        """Return this LSTM state with `window` as the previous window."""
        return VadState(self.hidden, self.cell, frozen(window[-CONTEXT:]))


class Vad(Protocol):
    """A stateless voice activity detector."""

    def __call__(self, window: Samples, state: VadState) -> tuple[float, VadState]:
        """Return the speech probability of `window` (512,), and the state after it."""
        ...

    def probabilities(self, windows: Samples, state: VadState) -> tuple[NDArray[np.float32], VadState]:
        """Return the speech probabilities (N,) of consecutive windows (N, 512), and the state after them."""
        ...


def is_silent(window: Samples) -> bool:
    """Return whether `window` is digital silence, as of a muted client, in which nobody can be heard."""
    return bool(max(window.max(initial=0.0), -window.min(initial=0.0)) <= SILENT)


def frozen(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a flat, read-only float32 copy."""
    copy = np.array(values, dtype=np.float32).reshape(-1)
    copy.flags.writeable = False
    return copy
