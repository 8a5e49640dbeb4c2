"""Connections of the package `websockets` as a server wants them."""

import asyncio
import contextlib
from typing import Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import Event

from stream_erc.server.closing import Disconnected


class Socket(Protocol):
    """A WebSocket, as a server gives it."""

    peer: str

    async def receive(self) -> str | bytes:
        """The next frame; raises `Disconnected`."""

    async def send(self, text: str) -> None:
        """Send a text frame; raises `Disconnected`."""

    async def close(self, code: int, reason: str) -> None:
        """Close, whether the client is there or not."""


class WebSocket:
    """A client as a `Connection` wants it."""

    def __init__(self, client: ServerConnection) -> None:
        self._client = client
        address = client.remote_address
        self.peer = str(address[0]) if address else "?"

    async def receive(self) -> str | bytes:
        """The next frame; raises `Disconnected`."""
        try:
            return await self._client.recv()
        except ConnectionClosed as closed:
            raise _gone(closed) from None

    async def send(self, text: str) -> None:
        """Send a text frame; raises `Disconnected`."""
        try:
            await self._client.send(text)
        except ConnectionClosed as closed:
            raise _gone(closed) from None

    async def close(self, code: int, reason: str) -> None:
        """Close; what waits to be read is thrown away, since the client's answer comes after it."""
        rest = asyncio.create_task(self._discard())
        try:
            await self._client.close(code, reason)
        finally:
            rest.cancel()

    async def _discard(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._client.recv()


def _gone(closed: ConnectionClosed) -> Disconnected:
    """The code a connection closed with: of who closed first; a client's own one as 4000, whatever it is."""
    first = closed.rcvd if closed.rcvd_then_sent is not False and closed.rcvd else closed.sent
    code = 1006 if first is None else first.code
    return Disconnected(code if first is closed.sent or code < 3000 else 4000)


def limit_pending_handshakes(most: int) -> type[ServerConnection]:
    """A kind of connection of which at most `most` say nothing: where there are more, the oldest one goes."""
    silent: dict[ServerConnection, None] = {}

    class LimitedHandshake(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            silent[self] = None
            if len(silent) > most:
                oldest = next(iter(silent))
                del silent[oldest]
                oldest.transport.abort()

        def process_event(self, event: Event) -> None:
            silent.pop(self, None)
            super().process_event(event)

        def connection_lost(self, exc: Exception | None) -> None:
            silent.pop(self, None)
            super().connection_lost(exc)

    return LimitedHandshake
