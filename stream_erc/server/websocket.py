"""WebSockets as the server uses them, by the package `websockets`."""

import asyncio
import contextlib
from typing import Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stream_erc.server.closing import Disconnected

FIRST_MESSAGE_BYTES = 65_536
"""Largest message of a client that has no place yet: a token and a session to resume fit."""

MAX_UNREAD_FRAMES = 0
"""Frames that may wait before no more is read.

So a connection holds one of the largest messages, and what one read brings besides: 256 KiB.
"""


class Socket(Protocol):
    """A client's WebSocket, as a connection uses it."""

    peer: str

    def allow(self, max_bytes: int) -> None:
        """Accept messages of up to `max_bytes` from now on."""

    async def receive(self) -> str | bytes:
        """Return the next frame.

        Raises:
            Disconnected: the client has left.
        """

    async def send(self, text: str) -> None:
        """Send a text frame.

        Raises:
            Disconnected: the client has left.
        """

    async def ping(self) -> asyncio.Future[float]:
        """Ask whether the client is there; its answer comes behind all that it sent before.

        Raises:
            Disconnected: the client has left.
        """

    async def close(self, code: int, reason: str) -> bool:
        """Close the connection, even if the client has left; return whether the client answered.

        Its answer says that it has had all that was sent before.
        """


class BoundedConnection(ServerConnection):
    """A connection that reads nothing from a client that does not read.

    The answers to its pings would otherwise pile up, beyond the limit of what may wait to be written.
    """

    _closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self.recv_messages.resume = self._read_again

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, and read on until then: with data unread, the system would drop what was written, too."""
        self._closing = True
        if not self.recv_messages.paused:
            self.transport.resume_reading()
        await super().close(code, reason)

    def pause_writing(self) -> None:
        """Read no more: the client has too much to read."""
        super().pause_writing()
        if not self._closing:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        super().resume_writing()
        if not self.recv_messages.paused:
            self.transport.resume_reading()

    def _read_again(self) -> None:
        if self._closing or not self.paused:
            self.transport.resume_reading()


class WebSocket:
    """A `Socket` over a connection of `websockets`."""

    def __init__(self, client: ServerConnection) -> None:
        self._client = client
        address = client.remote_address
        self.peer = str(address[0]) if address else "?"
        self.allow(FIRST_MESSAGE_BYTES)

    def allow(self, max_bytes: int) -> None:
        """Accept messages of up to `max_bytes` from now on."""
        self._client.protocol.max_message_size = max_bytes

    async def receive(self) -> str | bytes:
        """Return the next frame.

        Raises:
            Disconnected: the client has left.
        """
        try:
            return await self._client.recv()
        except ConnectionClosed as closed:
            raise _disconnected(closed) from None

    async def send(self, text: str) -> None:
        """Send a text frame.

        Raises:
            Disconnected: the client has left.
        """
        try:
            await self._client.send(text)
        except ConnectionClosed as closed:
            raise _disconnected(closed) from None

    async def ping(self) -> asyncio.Future[float]:
        """Ask whether the client is there; its answer comes behind all that it sent before.

        Raises:
            Disconnected: the client has left.
        """
        try:
            return asyncio.ensure_future(await self._client.ping())
        except ConnectionClosed as closed:
            raise _disconnected(closed) from None

    async def close(self, code: int, reason: str) -> bool:
        """Close the connection; discard unread frames, since the client's close frame comes after them."""
        discarding = asyncio.create_task(self._discard())
        try:
            await self._client.close(code, reason)
        finally:
            discarding.cancel()
        return self._client.protocol.close_rcvd is not None

    async def _discard(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._client.recv()


def _disconnected(closed: ConnectionClosed) -> Disconnected:
    """Return the exception with the close code of whoever closed first.

    A client's own code of 3000 or above becomes 4000.
    """
    first = closed.rcvd if closed.rcvd_then_sent is not False and closed.rcvd else closed.sent
    code = 1006 if first is None else first.code
    return Disconnected(code if first is closed.sent or code < 3000 else 4000)
