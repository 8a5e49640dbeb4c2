"""The queue of frames and inputs that a client has sent and its session has not taken in yet."""

import asyncio
import sys
import time
from typing import TypeAlias

import numpy as np

from stream_erc.config import ServerConfig
from stream_erc.events import Samples
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import Input, TurnAppend, VoiceEnrol
from stream_erc.server.limits import MAX_BACKLOG_MS, Account, Bucket

MAX_INBOX_ITEMS = 1_024
"""Number of frames and inputs that may wait before no more are read."""

MAX_BUFFERED_MS = 10_000
"""Audio, beyond the burst, that may wait before no more is read."""

MAX_BYTES_PER_MS = 48 * 4
"""Size of decoded audio at the highest sample rate: 48 samples of float32.

So at most 3.8 MB wait with the default burst, and the item that is being put.
"""

MESSAGE_BYTES = 1_024
"""Size of an input with names of 100 characters, besides the text of a turn and the clip of a voice."""

MAX_LEAD_MS = 1_000.0
"""Live audio further ahead of the clock than this is held in the inbox until the clock catches up."""

InboxItem: TypeAlias = Samples | Input | None
"""Audio or an input; None ends the session's input."""


class Inbox:
    """A queue of one client's frames and inputs, in order; it releases live audio at the speed of speech.

    Args:
        config: the server's limits.
        account: counts what waits.
    """

    def __init__(self, config: ServerConfig, account: Account) -> None:
        self._account = account
        self._burst_ms = config.burst_ms
        self._max_bytes = (config.burst_ms + MAX_BUFFERED_MS) * MAX_BYTES_PER_MS
        self._bytes, self._room = 0, asyncio.Event()
        self._audio = Bucket.of_live_audio(config.burst_ms, time.monotonic())
        self._waiting: asyncio.Queue[tuple[float, InboxItem]] = asyncio.Queue(MAX_INBOX_ITEMS)  # (due, item)

    def __len__(self) -> int:
        """Return the number of waiting items."""
        return self._waiting.qsize()

    def resume(self, position_ms: float, lasted_s: float, away_s: float) -> None:
        """Allow audio that was spoken since a position to arrive at once, besides the burst.

        Args:
            position_ms: position of the next audio to arrive.
            lasted_s: seconds since the session began, by the wall clock.
            away_s: seconds since it was last saved, which bound the audio that a client can have held back.
        """
        longest_ms = 1000 * away_s + MAX_BACKLOG_MS
        behind_ms = min(1000 * lasted_s - position_ms, longest_ms)
        if behind_ms < -self._burst_ms:  # more audio than time: the wall clock was set back
            behind_ms = longest_ms
        self._audio.grant(max(behind_ms, MAX_LEAD_MS - self._burst_ms))

    def due(self, duration_ms: float) -> float:
        """Return the time at which to hear live audio that arrives now, on the monotonic clock.

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
        return now + max(0.0, self._burst_ms - self._audio.level - MAX_LEAD_MS) / 1000

    async def put(self, item: InboxItem, *, due: float = 0.0, wait: bool) -> None:
        """Append an item; wait while too much waits, here or in the whole server.

        Args:
            item: audio at the client's rate, an input, or the end.
            due: earliest time at which it may be taken in, on the monotonic clock.
            wait: whether to return only after it has been taken in, so that a recording is read no faster.
        """
        size = _size(item)
        while self._bytes and self._bytes + size > self._max_bytes:
            self._room.clear()
            await self._room.wait()
        await self._account.wait_for_room()
        self._bytes += size
        self._account.change(size)
        await self._waiting.put((due, item))
        if wait:
            await self.empty()

    async def empty(self) -> None:
        """Wait until every item has been taken in."""
        await self._waiting.join()

    async def next(self) -> InboxItem:
        """Wait until the first item is due, and return it; call `done` after taking it in."""
        due, item = await self._waiting.get()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        self._bytes -= _size(item)
        self._account.change(-_size(item))
        self._room.set()
        return item

    def done(self) -> None:
        """Mark the item returned by `next` as taken in."""
        self._waiting.task_done()


def _size(item: InboxItem) -> int:
    """Return an item's size in memory."""
    match item:
        case np.ndarray():
            return item.nbytes
        case TurnAppend(text=text):
            return MESSAGE_BYTES + sys.getsizeof(text)
        case VoiceEnrol(clip=clip):
            return MESSAGE_BYTES + sys.getsizeof(clip)
        case _:
            return MESSAGE_BYTES
