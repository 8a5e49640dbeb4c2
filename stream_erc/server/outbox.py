"""The queue of messages to one client."""

import asyncio
import contextlib
import json
import sys
import time
from typing import TypeAlias

from stream_erc.protocol.encoding import Message, to_json, to_message
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import ServerMessage
from stream_erc.server.closing import Disconnected
from stream_erc.server.limits import Account
from stream_erc.server.metrics import Telemetry
from stream_erc.server.websocket import Socket

MAX_UNREAD_MESSAGES, MAX_UNREAD_BYTES = 256, 2**20
"""Messages waiting to be sent, or their bytes, at which the queue is full; the last one may be longer."""

CLOSE_TIMEOUT_S = 2.0
"""Time limit for the final message, then again for the close handshake."""

Outgoing: TypeAlias = ServerMessage | str
"""A message, or an event that was stored as JSON on an earlier connection."""

_Item: TypeAlias = tuple[str, float | None]


class Outbox:
    """A queue that numbers messages and sends them as JSON, in order; `put` waits while it is full.

    Args:
        socket: the client's WebSocket.
        telemetry: observes the delivery time of messages.
        account: counts what waits.
        slow_reader_s: time limit for sending one message.

    Attributes:
        sent_at: time of the last message sent, on the monotonic clock.
    """

    def __init__(self, socket: Socket, telemetry: Telemetry, account: Account, slow_reader_s: float) -> None:
        self._socket, self._telemetry, self._account = socket, telemetry, account
        self._slow_reader_s = slow_reader_s
        self._waiting: asyncio.Queue[_Item | None] = asyncio.Queue()
        self._bytes, self._room = 0, asyncio.Event()
        self._seq = self._sent = 0
        self.sent_at = time.monotonic()

    @property
    def unread(self) -> int:
        """Number of messages waiting to be sent."""
        return self._waiting.qsize()

    async def put(self, message: Outgoing, since: float | None = None) -> None:
        """Queue a message; `since` is the time of its event, if its delivery is to be measured."""
        while self.unread >= MAX_UNREAD_MESSAGES or self._bytes >= MAX_UNREAD_BYTES:
            self._room.clear()
            await self._room.wait()
        text = self._numbered(message)
        self._count(sys.getsizeof(text))
        self._waiting.put_nowait((text, since))

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
            text, since = item
            try:
                async with asyncio.timeout(self._slow_reader_s):
                    self._sent += 1
                    await self._socket.send(text)
            except TimeoutError:
                limit_s = self._slow_reader_s
                raise Refusal("slow_reader", f"expected messages to be read within {limit_s:g} s") from None
            self.sent_at = time.monotonic()
            self._count(-sys.getsizeof(text))
            self._room.set()
            if since is not None:
                self._telemetry.delivery.observe(self.sent_at - since)
            self._waiting.task_done()

    async def close(self, code: int, reason: str, message: Outgoing | None) -> bool:
        """Send a final message, if any, before those that wait, and close; call it after `run` has ended.

        Returns:
            Whether the client has had all messages, and answered.
        """
        self._seq = self._sent
        with contextlib.suppress(TimeoutError, Disconnected):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if message is not None:
                    await self._socket.send(self._numbered(message))
        with contextlib.suppress(TimeoutError):  # a client that reads nothing still gets the code
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                return await self._socket.close(code, reason)
        return False

    def _count(self, size: int) -> None:
        self._bytes += size
        self._account.change(size)

    def _numbered(self, message: Outgoing) -> str:
        """Return the JSON of the connection's next message, with its number."""
        seq, self._seq = self._seq, self._seq + 1
        if isinstance(message, str):
            stored: Message = json.loads(message)
            return to_json(stored | {"seq": seq})
        return to_json(to_message(message, seq))
