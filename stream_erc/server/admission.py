"""Who may come in: what a client has to say before it has a place."""

import asyncio

from stream_erc.protocol.encoding import parse
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import FromClient, SessionAuthenticate, SessionResume
from stream_erc.server.claim import Claim
from stream_erc.server.closing import CloseConnection
from stream_erc.server.shared import SharedState
from stream_erc.server.websocket import Socket

AUTHENTICATE_S = 10.0
"""How long a client may take to say its token."""

RETURN_S = 2.0
"""How long a full server waits for a client to say that it comes back to its session."""


class Admission:
    """Asks a client that has connected.

    Its methods raise `Disconnected` where the client leaves, and `CloseConnection` where the server stops
    meanwhile.

    Args:
        service: the server.
        socket: the client.
    """

    def __init__(self, service: SharedState, socket: Socket) -> None:
        self._service, self._socket = service, socket

    async def authenticate(self) -> None:
        """Wait for a token.

        Raises:
            Refusal: ``authentication``.
        """
        message = await self._first_message(AUTHENTICATE_S)
        if not isinstance(message, SessionAuthenticate) or not self._service.admits(message.token):
            raise Refusal(
                "authentication", "expected a token in the header Authorization or session.authenticate"
            )

    async def returning(self, full: Refusal) -> SessionResume:
        """Wait for the wish to go on with a session whose connection, dead perhaps, has its place still.

        Raises:
            Refusal: `full`, or ``resume_refused``.
        """
        message = await self._first_message(RETURN_S)
        if isinstance(message, SessionAuthenticate):  # its token was in the header, too
            message = await self._first_message(RETURN_S)
        if isinstance(message, SessionResume):
            saved = await Claim.look(self._service, message.resume_token)
            if saved.session_id in self._service.connections:
                return message
        raise full

    async def _first_message(self, within_s: float) -> FromClient | None:
        """What the client says; None where that is nothing, or no message."""
        receiving = asyncio.ensure_future(self._socket.receive())
        leaving = asyncio.ensure_future(self._service.leaving.wait())
        try:
            await asyncio.wait({receiving, leaving}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                raise CloseConnection(1012)
            frame = receiving.result() if receiving.done() else None
            return parse(frame) if isinstance(frame, str) else None
        except Refusal:
            return None
        finally:
            receiving.cancel()
            leaving.cancel()
