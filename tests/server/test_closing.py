"""Why a connection ends: the code, and what the client is told."""

import asyncio
import logging

import pytest

from stream_erc.exceptions import StoreError
from stream_erc.protocol.errors import Refusal
from stream_erc.server.closing import LOST, CloseConnection, CloseReason, Disconnected, close_reason_of


def reason(error: Exception | None) -> CloseReason:
    async def conversation() -> None:
        if error is not None:
            raise error

    return asyncio.run(close_reason_of(conversation(), lambda: "s_1"))


@pytest.mark.parametrize(
    ("error", "code", "told", "connected"),
    [
        (None, 1006, None, False),
        (Disconnected(4000), 4000, None, False),
        (CloseConnection(1012), 1012, None, True),
        (Refusal("idle", "expected audio"), 4408, "idle", True),
        (Refusal("invalid_audio", "expected audio"), 1011, "invalid_audio", True),
        (StoreError("the disk is full"), 1011, "internal", True),
        (KeyError("a bug"), 1011, "internal", True),
    ],
)
def test_an_error_ends_a_connection_with_its_code(
    error: Exception | None, code: int, told: str | None, connected: bool
) -> None:
    nested = [] if error is None else [ExceptionGroup("tasks", [ExceptionGroup("", [error])])]
    for raised in [error, *nested]:
        found = reason(raised)
        assert (found.code, found.connected) == (code, connected)
        assert (None if found.refusal is None else found.refusal.code) == told
    assert reason(None) == LOST


def test_a_client_is_told_nothing_of_a_bug_and_the_operator_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        told = reason(KeyError("the secret"))
    assert "secret" not in str(told.refusal)
    assert "the secret" in caplog.text and caplog.records[0].session == "s_1"  # type: ignore[attr-defined]
