"""How a connection ends: what stopped it, as a close code and what the client is told."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from stream_erc.exceptions import StoreError
from stream_erc.protocol.errors import Refusal

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Exception)


class Disconnected(Exception):
    """The client is not there any more.

    Attributes:
        code: the close code, 1006 where the connection was lost.
    """

    def __init__(self, code: int = 1006) -> None:
        super().__init__(code)
        self.code = code


class CloseConnection(Exception):
    """The connection is to be closed with `code`, without an error."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class CloseReason:
    """How a connection ends: with which code, and what the client is told if it is still there."""

    code: int
    refusal: Refusal | None = None
    there: bool = True


LOST = CloseReason(1006, there=False)
"""Without a word from anybody."""


async def close_reason_of(conversation: Awaitable[None], session_id: Callable[[], str]) -> CloseReason:
    """Converse to the end; how it ended. Mistakes of our own, and of the store, are logged.

    Args:
        conversation: ends with one of the exceptions that end a connection, perhaps in a group.
        session_id: whose it is at the end.
    """
    closed = LOST
    try:
        await conversation
    except* Disconnected as group:
        closed = CloseReason(_first(group).code, there=False)
    except* CloseConnection as group:
        closed = CloseReason(_first(group).code)
    except* Refusal as group:
        refusal = _first(group)
        closed = CloseReason(refusal.close_code or 1011, refusal)
    except* StoreError as group:
        log.error("%s", _first(group), extra={"session": session_id()})
        closed = CloseReason(
            1011, Refusal("internal", "expected to store the session, could not: resume it later")
        )
    except* Exception:
        log.exception("a connection failed", extra={"session": session_id()})
        refusal = Refusal("internal", "expected no mistake of the server, made one: resume the session")
        closed = CloseReason(1011, refusal)
    return closed


def _first(group: BaseExceptionGroup[E]) -> E:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group without exceptions")
