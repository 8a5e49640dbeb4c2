"""Messages on their way to one client."""

import asyncio
import contextlib
import json
import time
from typing import TypeAlias

from stream_erc.protocol.encoding import Message, to_json, to_message
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import ServerMessage
from stream_erc.server.closing import Disconnected
from stream_erc.server.metrics import Telemetry
from stream_erc.server.websocket import Socket

MAX_UNREAD_MESSAGES = 256
"""Messages that may wait to be sent before the session waits."""

FAREWELL_S = 2.0
"""How long a client's ear is waited for at the end, twice: for the reason, and for the close."""

Outgoing: TypeAlias = ServerMessage | str
"""A message, or an event that was stored as JSON on an earlier connection."""

_Item: TypeAlias = tuple[Outgoing, float | None]


class Outbox:
    """Numbers messages and sends them as JSON, in order; `put` waits while too many are unsent.

    Args:
        socket: to the client.
        telemetry: told how long messages were on their way.
        slow_reader_s: how long a client may take nothing.

    Attributes:
        sent_at: when something was sent last, on the monotonic clock.
    """

    def __init__(self, socket: Socket, telemetry: Telemetry, slow_reader_s: float) -> None:
        self._socket, self._telemetry, self._slow_reader_s = socket, telemetry, slow_reader_s
        self._waiting: asyncio.Queue[_Item | None] = asyncio.Queue(MAX_UNREAD_MESSAGES)
        self._seq = 0
        self.sent_at = time.monotonic()

    @property
    def unread(self) -> int:
        """Messages that wait to be sent."""
        return self._waiting.qsize()

    async def put(self, message: Outgoing, since: float | None = None) -> None:
        """Send a message; `since` when there was something to tell, if that is to be measured."""
        await self._waiting.put((message, since))

    async def end(self) -> None:
        """Nothing comes after what was put."""
        await self._waiting.put(None)

    async def drained(self) -> None:
        """Wait until everything was sent."""
        await self._waiting.join()

    async def run(self) -> None:
        """Send what is put, until `end`.

        Raises:
            Refusal: ``slow_reader``.
            Disconnected: the client is not there.
        """
        while (item := await self._waiting.get()) is not None:
            message, since = item
            try:
                async with asyncio.timeout(self._slow_reader_s):
                    await self._socket.send(self._numbered(message))
            except TimeoutError:
                waited = self._slow_reader_s
                raise Refusal("slow_reader", f"expected messages to be read within {waited:g} s") from None
            self.sent_at = time.monotonic()
            if since is not None:
                self._telemetry.delivery.observe(self.sent_at - since)
            self._waiting.task_done()

    async def farewell(self, code: int, reason: str, message: Outgoing | None) -> None:
        """Say why, if there is something to say, and close; for when `run` has ended."""
        with contextlib.suppress(TimeoutError, Disconnected):
            async with asyncio.timeout(FAREWELL_S):
                if message is not None:
                    await self._socket.send(self._numbered(message))
        with contextlib.suppress(TimeoutError):  # a client that reads nothing gets the code all the same
            async with asyncio.timeout(FAREWELL_S):
                await self._socket.close(code, reason)

    def _numbered(self, message: Outgoing) -> str:
        seq, self._seq = self._seq, self._seq + 1
        if isinstance(message, str):
            stored: Message = json.loads(message)
            return to_json(stored | {"seq": seq})
        return to_json(to_message(message, seq))
