"""The end of a connection: the close code and the error that its client receives."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from stream_erc.exceptions import StoreError
from stream_erc.protocol.errors import Refusal

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Exception)


class Disconnected(Exception):
    """The client has closed the connection, or it was lost.

    Attributes:
        code: the close code, 1006 if the connection was lost.
    """

    def __init__(self, code: int = 1006) -> None:
        super().__init__(code)
        self.code = code


class CloseConnection(Exception):
    """Raised to close the connection with `code`, without an error message."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class CloseReason:
    """The reason for the end of a connection.

    Attributes:
        code: the close code.
        refusal: the error to send before the close, if any.
        connected: whether the client is still connected.
    """

    code: int
    refusal: Refusal | None = None
    connected: bool = True


LOST = CloseReason(1006, connected=False)
"""The end of a connection that was lost without a close frame."""


async def close_reason_of(conversation: Awaitable[None], session_id: Callable[[], str]) -> CloseReason:
    """Await a conversation and return why it ended; log the server's and the store's errors.

    Args:
        conversation: ends with one of the exceptions that end a connection, alone or in a group.
        session_id: returns the id of the session that the connection has at the end.
    """
    closed = LOST
    try:
        await conversation
    except* Disconnected as group:
        closed = CloseReason(_first(group).code, connected=False)
    except* CloseConnection as group:
        closed = CloseReason(_first(group).code)
    except* Refusal as group:
        refusal = _first(group)
        closed = CloseReason(refusal.close_code or 1011, refusal)
    except* StoreError as group:
        log.error("%s", _first(group), extra={"session": session_id()})
        closed = CloseReason(
            1011, Refusal("internal", "expected to store the session, got an error: resume it later")
        )
    except* Exception:
        log.exception("a connection failed", extra={"session": session_id()})
        refusal = Refusal("internal", "expected no error of the server, got one: resume the session")
        closed = CloseReason(1011, refusal)
    return closed


def _first(group: BaseExceptionGroup[E]) -> E:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
