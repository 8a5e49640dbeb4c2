"""Events on their way to who iterates over them: bounded, so that a slow reader slows the server down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from stream_erc_client.events import Event


class Inbox:
    """A queue that takes everything and says when it is full.

    Args:
        size: how many events may wait before `room` waits.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: the end
        self._room = asyncio.Event()
        self._room.set()
        self._discarding = False

    def put(self, events: Iterable[Event]) -> None:
        """Take events, also beyond `size`."""
        if self._discarding:
            return
        for event in events:
            self._events.put_nowait(event)
        if self._events.qsize() >= self._size:
            self._room.clear()

    def end(self) -> None:
        """No more events come."""
        self._events.put_nowait(None)

    def discard(self) -> None:
        """Nobody will read any more: take events and forget them."""
        self._discarding = True
        self._room.set()

    async def room(self) -> None:
        """Wait until there is room."""
        await self._room.wait()

    async def get(self) -> Event | None:
        """The next event; None at the end, again and again."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
        if self._events.qsize() < self._size:
            self._room.set()
        return event
