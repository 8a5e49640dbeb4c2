"""The outline of the audio: the lowest and highest sample of each block, in bounded memory."""

import numpy as np
from numpy.typing import NDArray

BLOCK_MS = 20
KEPT_MS = 4 * 3_600_000  # 1.4 MB; older audio is no longer drawn

Peaks = NDArray[np.int8]


class Outline:
    """The waveform's data, as far back as it is drawn.

    Args:
        sample_rate_hz: of the audio.
        kept_ms: duration to keep; older blocks are dropped.
    """

    def __init__(self, sample_rate_hz: int = 16_000, kept_ms: int = KEPT_MS) -> None:
        self._rate_hz = sample_rate_hz
        self._block = sample_rate_hz * BLOCK_MS // 1_000
        self._capacity = kept_ms // BLOCK_MS
        self._peaks = np.zeros((min(4_096, 2 * self._capacity), 2), np.int8)
        self._rest = np.zeros(0, np.int16)
        self._first = self._count = 0  # dropped blocks, kept blocks
        self._samples = 0

    @property
    def end_ms(self) -> int:
        """Duration of all audio so far."""
        return self._samples * 1_000 // self._rate_hz

    @property
    def level(self) -> float:
        """The peak of the last fifth of a second, 0 to 1."""
        last = self._peaks[max(0, self._count - 200 // BLOCK_MS) : self._count]
        return float(np.abs(last.astype(np.int16)).max(initial=0)) / 127

    def push(self, pcm: bytes) -> None:
        """Add audio: mono, 16 bits, little-endian, whole samples."""
        samples = np.concatenate((self._rest, np.frombuffer(pcm, "<i2")))
        self._samples += len(pcm) // 2
        whole = len(samples) // self._block
        blocks = samples[: whole * self._block].reshape(-1, self._block)
        self._rest = samples[whole * self._block :].astype(np.int16)
        if whole:
            self._append(np.stack((blocks.min(1) >> 8, blocks.max(1) >> 8), 1).astype(np.int8))

    def peaks(self, start_ms: float, end_ms: float, columns: int) -> Peaks:
        """Return the outline of a span of time.

        Returns:
            The lowest and highest value of each column, (columns, 2); zeros where there is no audio.
        """
        edges = np.linspace(start_ms / BLOCK_MS, end_ms / BLOCK_MS, columns + 1) - self._first
        first = np.clip(np.floor(edges[:-1]), 0, self._count).astype(int)
        last = np.clip(np.maximum(np.floor(edges[1:]), np.floor(edges[:-1]) + 1), 0, self._count).astype(int)
        found = np.zeros((columns, 2), np.int8)
        heard = last > first
        if heard.any():
            kept, first, last = self._peaks[: self._count], first[heard], last[heard]
            # reduceat takes alternating starts and ends, none beyond the last block, which is added below.
            at = np.stack((first, np.minimum(last, self._count - 1)), 1).reshape(-1)
            low, high = np.minimum.reduceat(kept[:, 0], at)[::2], np.maximum.reduceat(kept[:, 1], at)[::2]
            to_end = last == self._count
            low[to_end], high[to_end] = (
                np.minimum(low[to_end], kept[-1, 0]),
                np.maximum(high[to_end], kept[-1, 1]),
            )
            found[heard] = np.stack((low, high), 1)
        return found

    def _append(self, blocks: Peaks) -> None:
        needed = self._count + len(blocks)
        if needed > len(self._peaks):
            if needed > self._capacity:  # keep the newest blocks, with room to spare so that copying is rare
                drop = min(self._count, needed - self._capacity + self._capacity // 8)
                self._peaks[: self._count - drop] = self._peaks[drop : self._count].copy()
                self._first, self._count = self._first + drop, self._count - drop
                needed -= drop
            if needed > len(self._peaks):
                grown = np.zeros((max(needed, 2 * len(self._peaks)), 2), np.int8)
                grown[: self._count] = self._peaks[: self._count]
                self._peaks = grown
        self._peaks[self._count : needed] = blocks
        self._count = needed
