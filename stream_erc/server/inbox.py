"""What a client has sent and the session has not taken in yet."""

import asyncio
import time
from typing import TypeAlias

import numpy as np

from stream_erc.config import ServerConfig
from stream_erc.events import Samples
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import SpeakerRename, TurnAppend, TurnCorrect
from stream_erc.server.limits import HELD_BACK_MS, Bucket

LENGTH = 1_024
"""Frames and inputs that may wait before no more are read."""

BEYOND_MS = 10_000
"""Audio that may wait beyond the burst that is allowed before no more is read."""

BYTES_A_MS = 48 * 4
"""What decoded audio takes at most."""

AHEAD_MS = 1_000.0
"""Live audio that runs further ahead of the clock waits, unheard, until the clock has come up."""

InboxItem: TypeAlias = Samples | TurnAppend | TurnCorrect | SpeakerRename | None
"""What waits to be taken in; None is the end."""


class Inbox:
    """One client's frames and inputs, in order, live audio no faster than it is spoken.

    Args:
        config: how fast they may come.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._burst_ms = config.burst_ms
        self._most = (config.burst_ms + BEYOND_MS) * BYTES_A_MS
        self._bytes, self._room = 0, asyncio.Event()
        self._audio = Bucket.of_live_audio(config.burst_ms, time.monotonic())
        self._waiting: asyncio.Queue[tuple[float, InboxItem]] = asyncio.Queue(LENGTH)  # since when it is due

    def __len__(self) -> int:
        """How much waits."""
        return self._waiting.qsize()

    def resume(self, position_ms: float, lasted_s: float, away_s: float) -> None:
        """Take audio again from a position on: what was spoken since may come at once, and the burst.

        Args:
            position_ms: of the audio that comes next.
            lasted_s: since the session began.
            away_s: since it was saved last; what can have been held back does not go further back.
        """
        behind_ms = min(1000 * lasted_s - position_ms, 1000 * away_s + HELD_BACK_MS)
        self._audio.grant(max(behind_ms, AHEAD_MS - self._burst_ms))

    def due(self, duration_ms: float) -> float:
        """When live audio that comes now is to be heard, on the monotonic clock.

        Raises:
            Refusal: ``audio_too_fast``.
        """
        now = time.monotonic()
        if not self._audio.take(duration_ms, now):
            raise Refusal(
                "audio_too_fast",
                f"expected live audio at most {self._burst_ms} ms ahead of the clock, got more: "
                'ask for pace "replay" to send a recording',
            )
        return now + max(0.0, self._burst_ms - self._audio.level - AHEAD_MS) / 1000

    async def put(self, item: InboxItem, *, due: float = 0.0, wait: bool) -> None:
        """Something joins the line.

        Args:
            item: audio at the client's rate, an input, or the end.
            due: when it may be taken in.
            wait: return only when it was, as where audio comes as fast as it is read.
        """
        size = _size(item)
        while self._bytes and self._bytes + size > self._most:
            self._room.clear()
            await self._room.wait()
        self._bytes += size
        await self._waiting.put((due, item))
        if wait:
            await self.empty()

    async def empty(self) -> None:
        """Wait until everything was taken in."""
        await self._waiting.join()

    async def next(self) -> InboxItem:
        """The first in line, when it is due; then `done` has to be called."""
        due, item = await self._waiting.get()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        self._bytes -= _size(item)
        self._room.set()
        return item

    def done(self) -> None:
        """What came with `next` was taken in."""
        self._waiting.task_done()


def _size(item: InboxItem) -> int:
    """Bytes in memory, about."""
    if isinstance(item, np.ndarray):
        return item.nbytes
    return 4 * len(item.text or "") if isinstance(item, TurnAppend) else 0
