"""Mixing of channels to mono: films as films are mixed, and nothing lost that is inverted in one channel."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_erc.events import Samples

BLOCK_S = 0.02
DECAY = 0.98
"""Share of the past that remains after a block: the correlation is measured over about a second."""

INVERTED = -0.5
"""Correlation of two channels from which on one of them is inverted; it is taken as it is from 0 on again."""

CENTRE, FRONT, SURROUND, LOW_FREQUENCY = 1.0, 0.7071, 0.5, 0.0
"""ITU-R BS.775, table 2: the gains of 3/2 sound in mono. Dialogue is in the centre and keeps its level."""

PHANTOM = 0.7071
"""Gain of all channels where there is no centre: a voice between the front channels keeps its level then."""

FILM_GAINS = {
    "FC": CENTRE,
    **dict.fromkeys(("FL", "FR", "FLC", "FRC", "WL", "WR"), FRONT),
    **dict.fromkeys(("BL", "BR", "BC", "SL", "SR"), SURROUND),
    **dict.fromkeys(("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR", "TSL", "TSR"), SURROUND),
    **dict.fromkeys(("LFE", "LFE2"), LOW_FREQUENCY),
}
"""libav's name of a loudspeaker -> its gain."""


def film_gains(layout: Sequence[str]) -> tuple[float, ...] | None:
    """Return the gains with which more than two channels are mixed; None where all are alike.

    Channels without a place are alike, however many there are: they may be a microphone for each person, and
    to take six of them for a film would silence the fourth.

    Args:
        layout: libav's name of each channel's loudspeaker.
    """
    if len(layout) <= 2 or not {"FL", "FR"} <= set(layout) <= set(FILM_GAINS):
        return None
    level = CENTRE if "FC" in layout else PHANTOM
    return tuple(level * FILM_GAINS[name] for name in layout)


class Mixer:
    """A streaming mixer of channels.

    Where the first two channels carry the same signal in opposite phase (a miswired cable, a "surround"
    effect), the second is inverted: their plain mean would be silence. The sign of a block follows from the
    blocks before it, so nothing is delayed, and the output does not depend on the chunking, bit for bit. More
    than two channels without gains are never inverted.

    Args:
        rate_hz: sample rate.
        channels: the number of channels.
        gains: of each channel, see `film_gains`; None gives the mean.
    """

    def __init__(self, rate_hz: int, channels: int, gains: Sequence[float] | None = None) -> None:
        self._gains = [np.float32(gain) for gain in gains or (1.0,) * channels]
        self._divisor = np.float32(channels if gains is None else 1)
        self._watches_pair = channels == 2 or gains is not None
        self._block = max(1, round(rate_hz * BLOCK_S))
        self._part: list[NDArray[np.float32]] = []  # of the current block
        self._missing = self._block  # samples until it is complete
        self._cross = self._power = 0.0
        self._sign = np.float32(1)

    def push(self, samples: NDArray[np.float32]) -> Samples:
        """Mix the next samples, (N, C), finite, to (N,)."""
        mixed = samples[:, 0] * self._gains[0]
        for channel, gain in enumerate(self._gains[2:], 2):  # np.mean's order of summation may change with N
            if gain:
                mixed += samples[:, channel] * gain
        if len(self._gains) > 1:
            self._add_second(mixed, samples)
        return np.asarray(mixed / self._divisor)

    def _add_second(self, mixed: Samples, samples: NDArray[np.float32]) -> None:
        """Add the second channel, inverted where it must be, block by block."""
        gain, at = self._gains[1], 0
        if not self._watches_pair:
            mixed += samples[:, 1] * gain
            return
        while at < len(samples):
            part = samples[at : at + self._missing, :2]
            mixed[at : at + len(part)] += part[:, 1] * (gain * self._sign)
            at += len(part)
            self._part.append(part)
            self._missing -= len(part)
            if not self._missing:
                self._measure(np.concatenate(self._part).astype(np.float64))
                self._part, self._missing = [], self._block

    def _measure(self, block: NDArray[np.float64]) -> None:
        """Decide the sign of the blocks after this one, (block, 2)."""
        left, right = block[:, 0], block[:, 1]
        self._cross = DECAY * self._cross + float((left * right).sum())
        self._power = DECAY * self._power + float((block**2).sum()) / 2
        if self._cross < INVERTED * self._power:
            self._sign = np.float32(-1)
        elif self._cross > 0:
            self._sign = np.float32(1)
