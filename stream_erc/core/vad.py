"""What a session needs of a speech detector: one probability for each 32 ms window, and its state as a value.

The detector is recurrent. What it remembers of one stream is a `VadState` that goes in and comes back, so one
detector (`stream_erc.inference.silero`) serves any number of streams.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_erc.events import Samples

WINDOW = 512  # samples: 32 ms, the one size that the network was trained with at 16 kHz
CONTEXT = 64  # samples of the window before, which it reads in front of each window
HIDDEN = 128


@dataclass(frozen=True, slots=True, eq=False)
class VadState:
    """What the network remembers of one stream.

    Attributes:
        hidden, cell: of its LSTM, (128,) each.
        context: the last samples of the window before, (64,).
    """

    hidden: NDArray[np.float32]
    cell: NDArray[np.float32]
    context: Samples

    @classmethod
    def initial(cls) -> "VadState":
        """The state before any audio."""
        return cls(frozen(np.zeros(HIDDEN)), frozen(np.zeros(HIDDEN)), frozen(np.zeros(CONTEXT)))

    def after(self, window: Samples) -> "VadState":
        """The same recurrence where `window` was the last one heard."""
        return VadState(self.hidden, self.cell, frozen(window[-CONTEXT:]))


class Vad(Protocol):
    """What tells speech from other sound; stateless itself."""

    def __call__(self, window: Samples, state: VadState) -> tuple[float, VadState]:
        """The probability that `window` (512,) holds speech, and the state after it."""
        ...

    def probabilities(self, windows: Samples, state: VadState) -> tuple[NDArray[np.float32], VadState]:
        """The same for consecutive windows (N, 512) at once: probabilities (N,), and the state after them."""
        ...


def frozen(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """A flat, read-only float32 copy."""
    copy = np.array(values, dtype=np.float32).reshape(-1)
    copy.flags.writeable = False
    return copy
