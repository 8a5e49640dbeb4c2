"""WebSockets as the server uses them, by the package `websockets`."""

import asyncio
import contextlib
from typing import Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stream_erc.server.closing import Disconnected


class Socket(Protocol):
    """A client's WebSocket, as a connection uses it."""

    peer: str

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


class WebSocket:
    """A `Socket` over a connection of `websockets`."""

    def __init__(self, client: ServerConnection) -> None:
        self._client = client
        address = client.remote_address
        self.peer = str(address[0]) if address else "?"

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
