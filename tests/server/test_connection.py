"""A connection's limits, its end, and its cleanup."""

import asyncio
import contextlib
import gc
import socket
import threading
import time
import weakref

import numpy as np
import pytest
from fakes import conversation, silence
from serving import PATIENCE_S, Client, FakeEngine, Running, converse, eventually, serve
from websockets.exceptions import ConnectionClosed

from stream_erc.config import ServerConfig
from stream_erc.core.session import Session
from stream_erc.protocol import live_session as live
from stream_erc.protocol.messages import TurnAppend
from stream_erc.server import connection, inbox, refusals
from stream_erc.server.limits import Account, Budget

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900)])


def closed(client: Client, close: int, code: str | None) -> None:
    """Check that the connection ends with this close code and, unless it is None, this error."""
    assert client.code() == close, client.seen[-1]
    if code is not None:
        assert (client.seen[-1]["type"], client.seen[-1]["code"]) == ("error", code)


# --- limits ---------------------------------------------------------------------------------------


def test_a_message_that_is_too_large():
    with serve(max_message_bytes=10_000) as running:
        for frame in (b"\0" * 10_002, " " * 10_001):
            with Client(running.socket_url) as client:
                client.socket.send(frame)
                closed(client, 1009, None)
                assert [m["type"] for m in client.seen] == ["session.created"]


def test_a_frame_that_is_too_long_is_refused_and_the_session_goes_on():
    with serve(max_frame_ms=500) as running, Client(running.socket_url) as client:
        client.send("session.update", pace="replay")
        client.socket.send(bytes(2 * 8_001))
        error = client.until("error")
        assert error["code"] == "invalid_audio" and "500 ms" in str(error["message"])
        client.send_audio(TALK)
        client.send("session.close")
        closed(client, 1000, None)
        assert client.events[-1]["audio_ms"] == round(len(TALK) / 16)


def test_a_session_whose_events_take_too_much_room_can_still_be_closed(monkeypatch):
    monkeypatch.setattr(live, "MAX_EVENTS_BYTES", 500)
    with serve() as running:
        with Client(running.socket_url) as client:
            client.answer("session.update", turns="appended")
            client.send("turn.append", text="so " * 200, speaker="Ann")
            client.until("turn.final")
        with Client(running.socket_url) as again:  # a resumed session is just as full
            again.resume(client.created["resume_token"], 1)
            again.send("turn.append", text="and so on", speaker="Ann")
            assert again.until("error")["code"] == "session_full"
            again.send("session.close")
            closed(again, 1000, None)
            assert again.events[-1]["turns"] == 1


def test_what_waits_to_be_heard_is_bounded():
    async def fill() -> None:
        waiting = inbox.Inbox(ServerConfig(burst_ms=1), Account(Budget(2**30, 1)))
        frame = np.zeros(48_000, np.float32)  # a second
        for _ in range(10):
            await waiting.put(frame, wait=False)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await waiting.put(frame, wait=False)
        blocked = asyncio.create_task(waiting.put(TurnAppend(text="x" * 100), wait=False))
        await asyncio.sleep(0.01)
        assert not blocked.done()
        await waiting.next()
        await blocked

    asyncio.run(fill())


def test_an_input_that_was_refused_has_begun_nothing():
    with serve() as running, Client(running.socket_url) as client:
        client.answer("session.update", turns="appended")
        client.send("turn.append", text="one", speaker="Ann", input_id=2)
        assert client.until("error")["code"] == "invalid_input_id"
        assert client.answer("session.update", turns="appended", partials=False)["type"] == "session.updated"
        client.send("turn.append", text="one", speaker="Ann", input_id=1)
        client.send("session.update")
        assert client.until("error")["code"] == "out_of_order"


def test_inputs_that_are_refused_count_as_errors():
    with serve() as running, Client(running.socket_url) as client:
        client.answer("session.update", turns="appended")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(refusals.MAX_CONSECUTIVE_ERRORS):
                client.send("turn.append", text="one", speaker="Ann", input_id=2)
        closed(client, 1008, "too_many_errors")


def test_a_client_is_told_that_turns_come_late(monkeypatch):
    monkeypatch.setattr(connection, "LATE_WARNING_S", 0.1)
    engine = FakeEngine(analysis_s=1.0)
    with serve({"hash": engine}, heartbeat_s=0.2) as running, Client(running.socket_url) as client:
        client.send("session.update", partials=False)
        client.send_audio(TALK)
        warning = client.until("warning")
        assert warning["code"] == "behind" and "late" in str(warning["message"])
        assert client.until("turn.final")["turn"] == 0


def test_live_audio_that_is_faster_than_it_can_be_spoken():
    with serve(burst_ms=2_000) as running:
        with Client(running.socket_url) as client:
            with contextlib.suppress(ConnectionClosed):
                client.send_audio(silence(60))
            closed(client, 1008, "audio_too_fast")
            assert client.seen[-1]["retryable"]
        with Client(running.socket_url) as client:
            client.send("session.update", pace="replay")
            client.send_audio(silence(60))
            client.send("session.close")
            closed(client, 1000, None)
            assert client.events[-1]["audio_ms"] == 60_000


def test_live_audio_that_the_network_held_back_is_not_too_fast():
    with serve(burst_ms=200) as running, Client(running.socket_url) as client:
        client.send_audio(silence(0.1))
        time.sleep(1.0)
        client.send_audio(silence(1.0))
        client.settle()
        assert "error" not in {m["type"] for m in client.seen}


def test_too_many_messages():
    with serve(messages_per_s=2.0) as running, Client(running.socket_url) as client:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):
                client.send("ping")
        closed(client, 1008, "too_many_messages")
        assert len([m for m in client.seen if m["type"] == "pong"]) >= 20


def test_texts_that_come_faster_than_anybody_writes_are_read_later(monkeypatch):
    monkeypatch.setattr(connection, "TEXTS_AT_ONCE", 2_000)
    monkeypatch.setattr(connection, "TEXTS_PER_S", 1_000)
    with serve() as running, Client(running.socket_url) as client:
        client.send("session.update", turns="appended")
        client.until("session.updated")
        began = time.monotonic()
        client.send("turn.append", text="At once.", speaker="A")
        client.until("turn.final")
        for _ in range(4):
            client.send("turn.append", text=1_000 * "a", speaker="A")
        for _ in range(4):
            client.until("turn.final")
        assert time.monotonic() - began > 2.0
        assert "error" not in {m["type"] for m in client.seen}


def test_twenty_mistakes_in_a_row():
    with serve() as running, Client(running.socket_url) as client:
        for _ in range(19):
            assert client.answer("nonsense")["code"] == "invalid_message"
        assert client.answer("ping")["type"] == "pong"  # a usable message ends a row of errors
        for _ in range(19):
            assert client.answer("nonsense")["code"] == "invalid_message"
        client.send("nonsense")
        closed(client, 1008, "too_many_errors")


def test_a_refused_input_is_told_in_one_line_and_counted():
    with serve() as running, Client(running.socket_url) as client:
        client.send("speaker.rename", speaker="some\nbody", name="Anna", input_id=1)
        error = client.until("error")
        assert (error["code"], error["input_id"]) == ("invalid_speaker", 1)
        assert "\n" not in str(error["message"])
        service = running.server._shared
        assert service is not None
        text = service.telemetry.text().decode()
        assert 'stream_erc_errors_total{code="invalid_speaker"} 1.0' in text


# --- silence --------------------------------------------------------------------------------------


def test_a_silent_client_gets_heartbeats_and_is_closed_in_the_end():
    with serve(idle_timeout_s=1.0, heartbeat_s=0.2) as running:
        with Client(running.socket_url) as client:
            client.send_audio(TALK[:8_000])
            closed(client, 4408, "idle")
            beats = [m for m in client.seen if m["type"] == "heartbeat"]
            assert beats and all(m["audio_ms"] == 500 for m in beats)
        with Client(running.socket_url) as again:
            assert again.resume(client.created["resume_token"], 0)["type"] == "session.resumed"


def test_a_ping_is_a_sign_of_life():
    with serve(idle_timeout_s=3.0) as running, Client(running.socket_url) as client:
        end = time.monotonic() + 4.5
        while time.monotonic() < end:
            assert client.answer("ping", id="x")["id"] == "x"
            time.sleep(0.2)


def test_a_client_that_waits_for_a_busy_server_is_not_silent():
    """A server that does not read, because audio is waiting, does not count the client as idle."""
    with serve({"hash": FakeEngine(analysis_s=0.2)}, idle_timeout_s=1.0, threads=1) as running:
        with Client(running.socket_url) as client:
            client.send("session.update", pace="replay", partials=False)
            client.send_audio(conversation([(0.3, 200), (0.3, 900)] * 10, gap=0.3))
            client.send("session.close")
            closed(client, 1000, None)
            assert client.events[-1]["turns"] == 20


# --- a slow reader --------------------------------------------------------------------------------


def test_a_client_that_reads_nothing_is_closed_loses_nothing_and_harms_nobody(monkeypatch):
    monkeypatch.setattr(connection, "TEXTS_PER_S", 2**30)
    turns, text = 800, "word " * 3_900
    with serve(slow_reader_s=1.0, messages_per_s=1000.0) as running:
        undisturbed = converse(running.socket_url, TALK)
        slow = Client(running.socket_url, receive_buffer=4096)
        slow.answer("session.update", turns="appended")

        def send() -> None:
            with contextlib.suppress(ConnectionClosed):
                for number in range(turns):
                    slow.send("turn.append", text=text, speaker="Anna", input_id=number + 1)

        sender = threading.Thread(target=send)
        sender.start()
        service = running.server._shared
        assert service is not None
        assert converse(running.socket_url, TALK) == undisturbed
        assert eventually(lambda: not service.connections)
        closed(slow, 4429, "slow_reader")
        sender.join(PATIENCE_S)
        known, before = len(slow.events), slow.events
        assert known < turns
        token = slow.created["resume_token"]
        slow.close()
        with Client(running.socket_url) as again:
            resumed = again.resume(token, known)
            for number in range(int(str(resumed["input_id"])), turns):
                again.send("turn.append", text=text, speaker="Anna", input_id=number + 1)
                while len(again.events) + known < number - 100:
                    again.receive()
            again.send("session.close")
            closed(again, 1000, None)
        events = before + again.events
        assert [e["event_id"] for e in events] == list(range(1, turns + 2))
        assert [e["turn"] for e in events[:-1]] == list(range(turns))


# --- nothing is left ------------------------------------------------------------------------------


def state(running: Running) -> tuple[int, int, int, int]:
    """Count connections, tasks, sessions attached to a worker, and sessions in memory."""
    service, loop = running.server._shared, running.server._loop
    assert service is not None and loop is not None
    counted: list[int] = []
    done = threading.Event()

    def count() -> None:
        gc.collect()
        counted.append(len(asyncio.all_tasks(loop)))
        done.set()

    loop.call_soon_threadsafe(count)
    assert done.wait(PATIENCE_S)
    lanes = sum(len(worker._clients) for worker in service.workers.values())
    alive = sum(type(thing) is Session for thing in gc.get_objects())
    return len(service.connections), counted[0], lanes, alive


def count_threads() -> int:
    """Count threads, without those of the store and the loop, which start on demand."""
    return sum(not thread.name.startswith(("store", "asyncio")) for thread in threading.enumerate())


def normally(running: Running) -> None:
    converse(running.socket_url, TALK)


def gone(running: Running) -> None:
    client = Client(running.socket_url)
    client.send("session.update", pace="replay")
    client.send_audio(TALK)
    client.settle()
    client.vanish()


def reconfigured(running: Running) -> None:
    with Client(running.socket_url) as client:
        for pace in ("live", "replay") * 3:
            client.answer("session.update", pace=pace)


def refused(running: Running) -> None:
    with Client(running.socket_url) as client:
        client.send("session.resume", resume_token="unknown", last_event_id=0)
        assert client.code() == 4404


def resumed(running: Running) -> None:
    with Client(running.socket_url) as lost:
        lost.send("session.update", pace="replay")
        lost.send_audio(TALK)
        lost.until("turn.final")
    with Client(running.socket_url) as client:
        client.resume(lost.created["resume_token"], 1)


def taken_over(running: Running) -> None:
    with Client(running.socket_url) as first, Client(running.socket_url) as second:
        second.resume(first.created["resume_token"], 0)
        assert first.code() == 4409


def said_nothing(running: Running) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as bare:
        with Client(running.socket_url) as other:  # served meanwhile
            assert other.answer("ping")["type"] == "pong"
        bare.sendall(b"GET /v1/ses")


@pytest.fixture
def frozen_heap():
    """Leave what the process holds already out of the garbage collections, which are slow otherwise."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize(
    "conversing", [normally, gone, reconfigured, refused, resumed, taken_over, said_nothing]
)
def test_nothing_is_left_of_a_connection(conversing):
    with serve() as running:
        normally(running)
        assert eventually(lambda: state(running)[0] == 0 and state(running)[2] == 0)
        _, tasks, _, alive = before = state(running)
        threads = count_threads()
        for _ in range(3):
            conversing(running)
        assert eventually(lambda: state(running) == (0, tasks, 0, alive)), (before, state(running))
        assert eventually(lambda: count_threads() <= threads)


def test_a_stopped_server_leaves_no_thread():
    before = set(threading.enumerate())
    with serve() as running:
        gone(running)
        server = weakref.ref(running.server)
        assert set(threading.enumerate()) - before
    assert set(threading.enumerate()) <= before
    assert server() is not None


# --- several at once ------------------------------------------------------------------------------


def test_many_sessions_at_once_are_as_if_each_were_alone():
    rng = np.random.default_rng(5)
    turns = [
        [(float(rng.uniform(0.3, 1)), float(rng.choice([200, 900]))) for _ in range(4)] for _ in range(8)
    ]
    talks = [conversation(four) for four in turns]
    with serve() as running:
        alone = [converse(running.socket_url, talk) for talk in talks]
        together: dict[int, object] = {}

        def one(k: int) -> None:
            together[k] = converse(running.socket_url, talks[k])

        threads = [threading.Thread(target=one, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [together[k] for k in range(8)] == alone


def test_a_client_that_does_not_read_is_not_read_from_until_it_does() -> None:
    ping = b"\x89\xfd" + bytes(4) + 125 * b"x"
    with serve() as running, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = running.url.removeprefix("http://").split(":")
        deaf.connect((host, int(port)))
        deaf.sendall(
            b"GET /v1/session HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        service = running.server._shared
        assert service is not None and eventually(lambda: len(service.connections) == 1)
        (held,) = service.connections.values()
        transport = held._socket._client.transport  # type: ignore[attr-defined]
        deaf.settimeout(1.0)
        with pytest.raises(TimeoutError):
            for _ in range(1_000):  # 26 MB; the system's buffers take some
                deaf.sendall(200 * ping)
        assert transport.get_write_buffer_size() < 2**20
        assert not transport.is_reading()
        deaf.settimeout(PATIENCE_S)
        while not transport.is_reading():  # once it reads, it is read from again
            assert deaf.recv(2**20)


def test_a_message_before_a_place_is_small(tmp_path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("open-sesame\n")
    with serve(token_file=tokens) as running, Client(running.socket_url, greeted=False) as client:
        client.socket.send(70_000 * "x")
        assert client.code() == 1009
    with serve(token_file=tokens) as running, Client(running.socket_url, greeted=False) as client:
        client.send("session.authenticate", token="open-sesame")
        assert client.until("session.created")
        client.socket.send(70_000 * "x")
        assert client.until("error")["code"] == "invalid_message"


def test_what_waits_for_audio_is_refused_where_the_server_has_no_room(monkeypatch) -> None:
    monkeypatch.setattr("stream_erc.server.shared.MAX_WAITING_BYTES", 200_000)
    with (
        serve(max_sessions=4) as running,
        Client(running.socket_url) as other,
        Client(running.socket_url) as much,
    ):
        for client in (much, other):
            client.answer("session.update", turns="appended")
            client.send(
                "turn.append", text="ahead", speaker="A", audio_start_ms=10**6, audio_end_ms=10**6 + 9
            )
            client.settle()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(30):
                much.send("turn.append", text=19_000 * "x", speaker="A")
        closed(much, 1008, "too_many_messages")
        other.send("turn.append", text="within its share", speaker="A")
        other.settle()
    service = running.server._shared
    assert service is not None and eventually(lambda: service.budget.used == 0)
