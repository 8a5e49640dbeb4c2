"""Admission of new connections: authentication, and what a full server still does."""

import asyncio

from stream_erc.protocol.encoding import parse
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import FromClient, SessionAuthenticate, SessionExport, SessionResume
from stream_erc.server.claim import Claim
from stream_erc.server.closing import CloseConnection
from stream_erc.server.shared import SharedState
from stream_erc.server.websocket import Socket

AUTHENTICATION_TIMEOUT_S = 10.0
"""Time limit for ``session.authenticate``."""

RESUME_TIMEOUT_S = 2.0
"""Time limit for ``session.resume`` or ``session.export`` on a full server."""


class Admission:
    """The admission of a client that has connected, by its first messages.

    Its methods raise `Disconnected` if the client leaves, and `CloseConnection` if the server stops.

    Args:
        shared: what the server's connections share.
        socket: the client's WebSocket.
    """

    def __init__(self, shared: SharedState, socket: Socket) -> None:
        self._shared, self._socket = shared, socket

    async def authenticate(self) -> None:
        """Wait for a valid token.

        Raises:
            Refusal: ``authentication``.
        """
        message = await self._first_message(AUTHENTICATION_TIMEOUT_S)
        if not isinstance(message, SessionAuthenticate) or not self._shared.admits(message.token):
            raise Refusal(
                "authentication", "expected a token in the header Authorization or session.authenticate"
            )

    async def wait_for_stored_session(self, full: Refusal) -> SessionResume | SessionExport:
        """Wait for ``session.resume`` of a session that still counts as connected, if only by a dead socket.

        The resumed session takes over that place, so that a full server need not refuse it.
        ``session.export`` takes no place.

        Args:
            full: the refusal of any other client.

        Raises:
            Refusal: `full`, or ``resume_refused``.
        """
        message = await self._first_message(RESUME_TIMEOUT_S)
        if isinstance(message, SessionAuthenticate):  # the token was also in the header
            message = await self._first_message(RESUME_TIMEOUT_S)
        if isinstance(message, SessionResume):
            saved = await Claim.look_up(self._shared, message.resume_token)
            if saved.session_id in self._shared.connections:
                return message
        if isinstance(message, SessionExport):
            await Claim.look_up(self._shared, message.resume_token)
            return message
        raise full

    async def _first_message(self, timeout_s: float) -> FromClient | None:
        """Return the client's next message; None if it is invalid or does not arrive in time."""
        receiving = asyncio.ensure_future(self._socket.receive())
        stopping = asyncio.ensure_future(self._shared.stopping.wait())
        try:
            await asyncio.wait({receiving, stopping}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                raise CloseConnection(1012)
            frame = receiving.result() if receiving.done() else None
            return parse(frame) if isinstance(frame, str) else None
        except Refusal:
            return None
        finally:
            receiving.cancel()
            stopping.cancel()
