"""The outbox: messages in order, numbered, and sent no faster than the client reads."""

import asyncio
import json
import time

import pytest

from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import Failed, Pong, SessionGoingAway
from stream_erc.server.closing import Disconnected
from stream_erc.server.limits import Account, Budget
from stream_erc.server.metrics import Telemetry
from stream_erc.server.outbox import MAX_UNREAD_BYTES, MAX_UNREAD_MESSAGES, Outbox

PONG = Pong(session_id="s", seq=0, id=None)
IDLE = Failed(session_id="s", seq=0, code="idle", message="expected a ping", retryable=True)


class FakeSocket:
    """A client's WebSocket; the client reads or does not, and may have left."""

    peer = "fake"

    def __init__(self, *, reads: bool = True, there: bool = True) -> None:
        self.reads, self.there = reads, there
        self.sent: list[dict[str, object]] = []
        self.closed: tuple[int, str] | None = None

    async def receive(self) -> str | bytes:
        raise Disconnected

    async def send(self, text: str) -> None:
        if not self.there:
            raise Disconnected(1001)
        if not self.reads:
            await asyncio.Event().wait()
        self.sent.append(json.loads(text))

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


def outbox(socket: FakeSocket, slow_reader_s: float = 30.0) -> Outbox:
    return Outbox(socket, Telemetry(lambda: (0, 0), lambda: 0), Account(Budget(2**20, 1)), slow_reader_s)


def test_messages_are_numbered_in_order_to_the_last():
    async def run() -> None:
        socket = FakeSocket()
        box = outbox(socket)
        for n in range(3):
            await box.put(Pong(session_id="s", seq=99, id=str(n)), since=time.monotonic())
        await box.put('{"type": "turn.failed", "session_id": "s", "seq": 99, "event_id": 1}')
        assert box.unread == 4
        await box.end()
        await box.run()
        assert box.unread == 0
        await box.close(1008, "idle", IDLE)
        assert [(m.get("id"), m["seq"]) for m in socket.sent] == [
            ("0", 0),
            ("1", 1),
            ("2", 2),
            (None, 3),
            (None, 4),
        ]
        assert list(socket.sent[3].items())[1:] == [("session_id", "s"), ("seq", 3), ("event_id", 1)]
        assert socket.closed == (1008, "idle")

    asyncio.run(run())


def test_who_adds_waits_where_too_many_are_unread():
    async def run() -> None:
        box = outbox(FakeSocket())
        for _ in range(MAX_UNREAD_MESSAGES):
            await box.put(PONG)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await box.put(PONG)
        writing = asyncio.create_task(box.run())
        await box.put(PONG)
        await box.drained()
        writing.cancel()

    asyncio.run(run())


def test_who_adds_waits_where_too_many_bytes_are_unread():
    async def run() -> None:
        budget = Budget(2**30, 1)
        account = Account(budget)
        box = Outbox(FakeSocket(), Telemetry(lambda: (0, 0), lambda: 0), account, 30.0)
        long = Pong(session_id="s", seq=0, id=100_000 * "\u4e00")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                for _ in range(100):
                    await box.put(long)
        assert MAX_UNREAD_BYTES <= account.held < MAX_UNREAD_BYTES + 201_000
        writing = asyncio.create_task(box.run())
        await box.put(long)
        await box.drained()
        writing.cancel()
        assert account.held == 0

    asyncio.run(run())


def test_a_client_that_reads_nothing_is_told_the_code_all_the_same(monkeypatch):
    monkeypatch.setattr("stream_erc.server.outbox.CLOSE_TIMEOUT_S", 0.05)

    async def run() -> None:
        socket = FakeSocket(reads=False)
        box = outbox(socket, slow_reader_s=0.05)
        await box.put(PONG)
        with pytest.raises(Refusal) as caught:
            await box.run()
        assert caught.value.code == "slow_reader"
        await box.close(4429, "slow_reader", IDLE)
        assert socket.sent == [] and socket.closed == (4429, "slow_reader")

    asyncio.run(run())


def test_a_client_that_is_gone_is_closed_on():
    async def run() -> None:
        socket = FakeSocket(there=False)
        box = outbox(socket)
        await box.put(PONG)
        with pytest.raises(Disconnected) as caught:
            await box.run()
        assert caught.value.code == 1001
        await box.close(1012, "", SessionGoingAway(session_id="s", seq=0, reason="", time_left_ms=0))
        assert socket.closed == (1012, "")

    asyncio.run(run())
