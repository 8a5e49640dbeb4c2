"""Events waiting to be read by the caller; a full inbox stops reading from the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from stream_erc_client.events import Event


class Inbox:
    """A queue that accepts every event and tells its writer when to wait.

    Args:
        size: number of waiting events from which on `room` waits.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: the end
        self._room = asyncio.Event()
        self._room.set()
        self._discarding = False

    def put(self, events: Iterable[Event]) -> None:
        """Add events, even beyond `size`."""
        if self._discarding:
            return
        for event in events:
            self._events.put_nowait(event)
        if self._events.qsize() >= self._size:
            self._room.clear()

    def end(self) -> None:
        """Mark the end: no more events follow."""
        self._events.put_nowait(None)

    def discard(self) -> None:
        """Drop all further events: nobody will read them."""
        self._discarding = True
        self._room.set()

    async def room(self) -> None:
        """Wait until fewer than `size` events are waiting."""
        await self._room.wait()

    async def get(self) -> Event | None:
        """Return the next event; None at the end, on every further call too."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
        if self._events.qsize() < self._size:
            self._room.set()
        return event
