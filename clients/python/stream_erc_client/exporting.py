"""A session as a file in one of the server's formats, over a connection of its own."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from typing import Final

from websockets.exceptions import ConnectionClosed, WebSocketException

from stream_erc_client.connector import opening
from stream_erc_client.errors import ConnectionFailed, ExportRefused, ProtocolError
from stream_erc_client.events import Failed, SessionExported
from stream_erc_client.parsing import parse

ANSWER_S: Final = 60.0  # timeout for the file


async def export(
    url: str, resume_token: str, file_format: str, *, token: str | None = None, name: str | None = None
) -> bytes:
    """Return a session's turns so far as a file.

    Args:
        url: of the server's socket.
        resume_token: the session's.
        file_format: one of the formats in `SessionCreated.exports`.
        token: the server's bearer token.
        name: the name of what was heard, for the file.

    Raises:
        ConnectionFailed: no server answers.
        ExportRefused: not in this format, or the server no longer has the session.
    """
    message = {"type": "session.export", "resume_token": resume_token, "format": file_format, "name": name}
    try:
        return await asyncio.wait_for(_ask(url, token, json.dumps(message)), ANSWER_S)
    except binascii.Error as error:
        raise ProtocolError(f"expected a file in base64, got {error}") from error
    except ConnectionClosed as closed:
        raise ExportRefused(f"expected a file, got the end of the connection: {closed}") from closed
    except (OSError, asyncio.TimeoutError, WebSocketException, EOFError) as error:
        raise ConnectionFailed(f"{url}: expected a server, got {str(error) or 'no answer'}") from error


async def _ask(url: str, token: str | None, message: str) -> bytes:
    async with opening(url, token, None) as socket:
        await socket.send(message)
        async for text in socket:
            match parse(text):
                case SessionExported(content=content):
                    return base64.b64decode(content, validate=True)
                case Failed(message=reason):
                    raise ExportRefused(reason)
    raise ExportRefused("expected a file, got the end of the connection")
