"""The queue of messages to one client."""

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
"""Number of messages waiting to be sent at which the queue is full."""

CLOSE_TIMEOUT_S = 2.0
"""Time limit for the final message, then again for the close handshake."""

Outgoing: TypeAlias = ServerMessage | str
"""A message, or an event that was stored as JSON on an earlier connection."""

_Item: TypeAlias = tuple[Outgoing, float | None]


class Outbox:
    """A queue that numbers messages and sends them as JSON, in order; `put` waits while it is full.

    Args:
        socket: the client's WebSocket.
        telemetry: observes the delivery time of messages.
        slow_reader_s: time limit for sending one message.

    Attributes:
        sent_at: time of the last message sent, on the monotonic clock.
    """

    def __init__(self, socket: Socket, telemetry: Telemetry, slow_reader_s: float) -> None:
        self._socket, self._telemetry, self._slow_reader_s = socket, telemetry, slow_reader_s
        self._waiting: asyncio.Queue[_Item | None] = asyncio.Queue(MAX_UNREAD_MESSAGES)
        self._seq = 0
        self.sent_at = time.monotonic()

    @property
    def unread(self) -> int:
        """Number of messages waiting to be sent."""
        return self._waiting.qsize()

    async def put(self, message: Outgoing, since: float | None = None) -> None:
        """Queue a message; `since` is the time of its event, if its delivery is to be measured."""
        await self._waiting.put((message, since))

    async def end(self) -> None:
        """Make `run` return once every queued message has been sent."""
        await self._waiting.put(None)

    async def drained(self) -> None:
        """Wait until every queued message has been sent."""
        await self._waiting.join()

    async def run(self) -> None:
        """Send queued messages until `end`.

        Raises:
            Refusal: ``slow_reader``.
            Disconnected: the client has left.
        """
        while (item := await self._waiting.get()) is not None:
            message, since = item
            try:
                async with asyncio.timeout(self._slow_reader_s):
                    await self._socket.send(self._numbered(message))
            except TimeoutError:
                limit_s = self._slow_reader_s
                raise Refusal("slow_reader", f"expected messages to be read within {limit_s:g} s") from None
            self.sent_at = time.monotonic()
            if since is not None:
                self._telemetry.delivery.observe(self.sent_at - since)
            self._waiting.task_done()

    async def close(self, code: int, reason: str, message: Outgoing | None) -> bool:
        """Send a final message, if any, and close; call it after `run` has ended.

        Returns:
            Whether the client has had all messages, and answered.
        """
        with contextlib.suppress(TimeoutError, Disconnected):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if message is not None:
                    await self._socket.send(self._numbered(message))
        with contextlib.suppress(TimeoutError):  # a client that reads nothing still gets the code
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                return await self._socket.close(code, reason)
        return False

    def _numbered(self, message: Outgoing) -> str:
        """Return the JSON of the connection's next message, with its number."""
        seq, self._seq = self._seq, self._seq + 1
        if isinstance(message, str):
            stored: Message = json.loads(message)
            return to_json(stored | {"seq": seq})
        return to_json(to_message(message, seq))
