"""WebSocket conformance: the cases of the Autobahn test suite, run by `kosoku`.

Autobahn expects every message back. So one run has an echo where the session would be, behind the server's
own listener, handshake and limits. Another has sessions, and compares what no answer changes: pongs and close
codes.
"""

import asyncio
import contextlib

import pytest
from fakes import conversation
from kosoku import FailureError, run_fuzzingclient
from serving import Client, converse, serve
from websockets.sync.client import connect

from stream_erc.server.closing import Disconnected

TOO_LONG = [
    *("9.1.4", "9.1.5", "9.1.6", "9.2.4", "9.2.5", "9.2.6"),  # one frame of 4, 8 and 16 MiB
    *(f"9.{kind}.{size}" for kind in (3, 4) for size in range(1, 10)),  # 4 MiB in fragments
]
"""Cases whose message is over `max_message_bytes`: closed with 1009."""

LONG_AT_FIRST = "7.1.6"
"""256 KiB before a session has a place, which are closed with 1009, too."""

CLOSED_WITHIN = "7.1.5"
"""A close frame within a fragmented message: `websockets` answers 1002, where Autobahn wants 1000."""

WITHOUT_ECHO = ["2.*", "3.*", "4.*", "5.*", "7.*", *TOO_LONG]
"""Cases that do not wait for an echo, but for 7.1.1."""

COMPRESSED = ["12.*", "13.*"]
"""Cases of a compression that the server does not offer."""


class Echo:
    """Stands where a `Connection` stands, and returns each message."""

    def __init__(self, shared, socket, *, authorized):
        self._socket = socket
        socket.allow(shared.offer.server.max_message_bytes)

    async def run(self):
        with contextlib.suppress(Disconnected):
            while True:
                await self._socket.send(await self._socket.receive())


def run_cases(url, cases, *, but):
    """Return the result of every case by its name."""

    async def run():
        try:
            return await run_fuzzingclient(url, cases=cases, exclude_cases=but, concurrency=4)
        except FailureError as failures:
            return failures.results

    return {result.case_id: result for result in asyncio.run(run())}


@pytest.fixture(scope="module")
def echoed():
    with pytest.MonkeyPatch.context() as patch, serve() as running:
        patch.setattr("stream_erc.server.server.Connection", Echo)
        return run_cases(running.socket_url, ["*"], but=COMPRESSED)


def test_every_case_passes_or_is_named(echoed):
    assert len(echoed) == 301
    assert {name for name, result in echoed.items() if not result.passed} == {*TOO_LONG, CLOSED_WITHIN}
    assert {echoed[name].remote_close_code for name in TOO_LONG} == {1009}
    assert echoed[CLOSED_WITHIN].remote_close_code == 1002


def test_no_compression_is_agreed_on():
    with serve() as running, connect(running.socket_url) as client:
        assert "Sec-WebSocket-Extensions" in client.request.headers
        assert "Sec-WebSocket-Extensions" not in client.response.headers


def test_live_sessions_answer_alike_and_another_session_is_not_disturbed(echoed):
    talk = conversation([(1.0, 200), (0.8, 900), (1.2, 200)])
    with serve() as running:
        undisturbed = converse(running.socket_url, talk)
        with Client(running.socket_url) as other:
            other.answer("session.update", pace="replay")
            other.send_audio(talk[: len(talk) // 2])
            live = run_cases(running.socket_url, WITHOUT_ECHO, but=["7.1.1", LONG_AT_FIRST])
            other.send_audio(talk[len(talk) // 2 :])
            other.send("session.close")
            assert other.code() == 1000
            assert other.events == undisturbed
    assert len(live) > 100
    for name, result in live.items():
        assert result.remote_close_code == echoed[name].remote_close_code, name
        assert pongs(result) == pongs(echoed[name]), name


def pongs(result):
    return [event for event in result.received if event[0] == "pong"]
