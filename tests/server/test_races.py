"""What happens at an unlucky moment: a claim that is overtaken, a store that fails while a session ends."""

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from fakes import conversation
from serving import PATIENCE_S, Client, eventually, serve
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from stream_erc.exceptions import StoreError
from stream_erc.server import server as servers
from stream_erc.server.closing import Disconnected
from stream_erc.server.stores.sqlite import MemoryStore
from stream_erc.server.websocket import WebSocket

TALK = conversation([(1.0, 200), (0.8, 900)])


class Store(MemoryStore):
    """A store that tells the name of each call before and, with its result known, after it."""

    def __init__(self, before: Callable[[str], None], after: Callable[[str], None] = str) -> None:
        super().__init__()
        self._before, self._after = before, after

    def _called(self, name: str, *arguments, **options):
        self._before(name)
        result = getattr(super(), name)(*arguments, **options)
        self._after(name)
        return result

    def claim(self, *arguments, **options):
        return self._called("claim", *arguments, **options)

    def forget(self, *arguments, **options):
        return self._called("forget", *arguments, **options)

    def touch(self, *arguments, **options):
        return self._called("touch", *arguments, **options)

    def sweep(self, *arguments, **options):
        return self._called("sweep", *arguments, **options)


def test_of_two_that_resume_the_later_claim_wins_even_if_it_is_answered_first():
    claims: list[str] = []
    answered = threading.Event()

    def after(name: str) -> None:
        if name == "claim":
            claims.append(name)
            if len(claims) == 1:
                assert answered.wait(PATIENCE_S)

    with serve(store=Store(str, after)) as running:
        with Client(running.socket_url) as lost:
            lost.answer("session.update", turns="appended")
            token = lost.created["resume_token"]
            lost.vanish()
        assert eventually(lambda: not running.server._shared.connections)
        with Client(running.socket_url) as early, Client(running.socket_url) as late:
            early.send("session.resume", resume_token=token, last_event_id=0)
            assert eventually(lambda: bool(claims))
            assert late.resume(token, 0)["type"] == "session.resumed"
            answered.set()
            assert early.until("error")["code"] == "taken_over" and early.code() == 4409
            late.send("session.close")
            assert late.code() == 1000


def test_a_session_that_cannot_be_deleted_ends_all_the_same(caplog):
    def before(name: str) -> None:
        if name == "forget":
            raise StoreError("the disk is gone")

    with serve(store=Store(before)) as running, Client(running.socket_url) as client:
        client.answer("session.update", pace="replay")
        client.send_audio(TALK)
        client.send("session.close")
        assert client.code() == 1000 and client.events[-1]["type"] == "session.closed"
        assert eventually(lambda: "the disk is gone" in caplog.text)
    assert not [record for record in caplog.records if record.exc_info]  # told in a line, and not as a fault


def test_a_session_is_not_renewed_while_it_is_deleted(monkeypatch):
    monkeypatch.setattr("stream_erc.server.connection.WATCH_INTERVAL_S", 0.02)
    monkeypatch.setattr("stream_erc.server.shared.SharedState.renewal_s", 0.0)
    calls: list[str] = []
    renewed = threading.Event()

    def before(name: str) -> None:
        calls.append(name)
        if name == "touch":
            renewed.set()
        if name == "forget":
            threading.Event().wait(0.3)  # time in which several renewals would come

    with serve(store=Store(before)) as running, Client(running.socket_url) as client:
        assert renewed.wait(PATIENCE_S)
        client.send("session.delete")
        assert client.code() == 1000
    assert "touch" not in calls[calls.index("forget") :]


def test_a_sweep_that_fails_is_tried_again(monkeypatch, caplog):
    monkeypatch.setattr(servers, "SWEEP_INTERVAL_S", 0.02)
    swept: list[str] = []

    def before(name: str) -> None:
        if name == "sweep":
            swept.append(name)
            if len(swept) == 2:  # the first is that of the start
                raise StoreError("the store is away")

    with serve(store=Store(before)):
        assert eventually(lambda: len(swept) > 3)
    assert "the store is away" in caplog.text


def test_a_client_that_has_left_is_told_by_each_call():
    left = ConnectionClosedError(Close(4321, "bye"), Close(4321, "bye"), rcvd_then_sent=True)

    class Gone:
        remote_address = None
        protocol = SimpleNamespace()

        async def recv(self):
            raise left

        send = ping = lambda self, *arguments: self.recv()

    socket = WebSocket(Gone())
    assert socket.peer == "?"
    for call in (socket.receive(), socket.send("x"), socket.ping()):
        with pytest.raises(Disconnected) as raised:
            asyncio.run(call)
        assert raised.value.code == 4000
