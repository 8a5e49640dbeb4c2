"""Resuming and taking over: no event lost or repeated, and never two connections that write one session."""

import contextlib
import threading
from pathlib import Path

import pytest
from fakes import conversation
from serving import Client, FakeEngine, Running, converse, eventually, serve
from websockets.exceptions import ConnectionClosed

from stream_erc.server import claim, connection
from stream_erc.server.limits import MAX_BACKLOG_MS
from stream_erc.server.stores.sqlite import MemoryStore, SqliteStore

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900)])
HALF = len(TALK) * 5 // 8  # samples; within the third turn


@pytest.fixture(scope="module")
def undisturbed() -> list[dict[str, object]]:
    with serve() as running:
        return converse(running.socket_url, TALK)


def begin(running: Running, samples: int = HALF) -> Client:
    """Begin a session, up to two finished turns and a third in progress."""
    client = Client(running.socket_url)
    client.answer("session.update", pace="replay")
    client.send_audio(TALK[:samples])
    while len(client.events) < 2:
        client.receive()
    return client


def go_on(running: Running, lost: Client, known: int) -> Client:
    """Resume the session of `lost`, which received `known` events, and run it to its end."""
    client = Client(running.socket_url)
    resumed = client.resume(lost.created["resume_token"], known)
    assert resumed["type"] == "session.resumed", resumed
    assert resumed["session_id"] == lost.created["session_id"]
    client.send_audio(TALK[int(str(resumed["audio_ms"])) * 16 :])
    client.send("session.close")
    assert client.code() == 1000
    client.close()
    return client


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_lost_connection_on_the_same_server(undisturbed, known):
    with serve() as running:
        lost = begin(running)
        lost.vanish()
        assert lost.events[:known] + go_on(running, lost, known).events == undisturbed


def test_a_server_that_was_restarted(tmp_path, undisturbed):
    with serve(store=SqliteStore(tmp_path / "sessions.sqlite")) as running:
        lost = begin(running)
        lost.vanish()
    with serve(store=SqliteStore(tmp_path / "sessions.sqlite")) as running:
        assert lost.events[:2] + go_on(running, lost, 2).events == undisturbed


def test_another_server_on_the_same_store(tmp_path, undisturbed):
    first, second = (SqliteStore(tmp_path / "sessions.sqlite") for _ in range(2))
    with serve(store=first) as here, serve(store=second) as there:
        lost = begin(here)
        lost.vanish()
        assert lost.events[:1] + go_on(there, lost, 1).events == undisturbed


def test_names_and_corrections_come_back(undisturbed):
    with serve() as running:
        lost = begin(running)
        lost.send("speaker.rename", speaker="speaker_1", name="Anna", input_id=1)
        lost.until("speaker.updated")
        lost.vanish()
        again = go_on(running, lost, 3)
    assert [e["event_id"] for e in again.events] == [4, 5, 6]
    assert [e["speaker"] for e in again.events[:2]] == ["Anna", "speaker_2"]
    assert again.events[-1]["speakers"] == ["Anna", "speaker_2"]


def test_a_session_that_had_not_begun_can_be_configured_again():
    with serve() as running:
        with Client(running.socket_url) as lost:
            lost.answer("session.update", turns="appended", partials=False)
            lost.vanish()
        with Client(running.socket_url) as again:
            resumed = again.resume(lost.created["resume_token"], 0)
            assert resumed["configuration"]["turns"] == "appended"
            assert again.answer("session.update")["configuration"]["turns"] == "heard"


def test_a_closed_session_tells_its_end_again(undisturbed):
    with serve() as running:
        with Client(running.socket_url) as client:
            client.answer("session.update", pace="replay")
            client.send_audio(TALK)
            client.send("session.close", keep=True)
            assert client.code() == 1000
        with Client(running.socket_url) as again:
            assert again.resume(client.created["resume_token"], 4)["event_id"] == 5
            assert again.code() == 1000
            assert again.events == undisturbed[4:]
        with Client(running.socket_url) as late:  # its end was received, and nobody asked to keep it longer
            late.resume(client.created["resume_token"], 4)
            refused(late)


def refused(client: Client, code: str = "resume_refused", close: int = 4404) -> None:
    assert client.code() == close
    assert (client.seen[-1]["type"], client.seen[-1]["code"]) == ("error", code)
    assert client.seen[-1]["retryable"] is False


def test_a_token_that_opens_nothing():
    with serve() as running:
        for token in ("unknown", "x" * 4096, "\U0001f511", "\0"):
            with Client(running.socket_url) as client:
                client.send("session.resume", resume_token=token, last_event_id=0)
                refused(client)
        with Client(running.socket_url) as client:
            client.send("session.resume", resume_token=client.created["session_id"], last_event_id=0)
            refused(client)


def test_a_token_opens_its_session_for_as_long_as_was_said_and_no_longer(tmp_path):
    store = SqliteStore(tmp_path / "sessions.sqlite")
    with serve(store=store, retention_s=600.0) as running:
        lost = begin(running)
        lost.vanish()
        with store._transaction() as run:  # time passes
            (left,) = run("SELECT expires_at - saved_at FROM sessions").fetchone()
            run("UPDATE sessions SET expires_at = expires_at - ?", left)
        assert 600.0 <= left <= 900.0
        with Client(running.socket_url) as client:
            client.send("session.resume", resume_token=lost.created["resume_token"], last_event_id=0)
            refused(client)


def test_a_quiet_connection_keeps_its_session(tmp_path):
    store = SqliteStore(tmp_path / "sessions.sqlite")

    def expires_at() -> float:
        with store._transaction() as run:
            return float(run("SELECT expires_at FROM sessions").fetchone()[0])

    with serve(store=store, retention_s=1.5, heartbeat_s=0.2) as running:
        client = begin(running)
        for _ in range(2):
            before = expires_at()
            assert eventually(lambda before=before: expires_at() > before)
        client.vanish()


def test_events_that_nobody_told():
    with serve() as running:
        lost = begin(running)
        lost.vanish()
        with Client(running.socket_url) as client:
            resumed = client.resume(lost.created["resume_token"], 99)
            assert (resumed["type"], resumed["event_id"]) == ("session.resumed", 2)  # where the store has it
        assert go_on(running, lost, 2).events[-1]["turns"] == 4


def test_a_model_that_is_gone(tmp_path):
    two = {"hash": FakeEngine(), "other": FakeEngine()}
    with serve(two, store=SqliteStore(tmp_path / "sessions.sqlite")) as running:
        with Client(running.socket_url) as lost:
            lost.answer("session.update", model="other", pace="replay")
            lost.send_audio(TALK)
            lost.until("turn.final")
    with serve(store=SqliteStore(tmp_path / "sessions.sqlite")) as running:
        with Client(running.socket_url) as client:
            client.send("session.resume", resume_token=lost.created["resume_token"], last_event_id=0)
            refused(client)
            assert "other" in str(client.seen[-1]["message"])
    with serve(two, store=SqliteStore(tmp_path / "sessions.sqlite")) as running:  # it is back
        assert go_on(running, lost, 1).events[-1]["turns"] == 4


@pytest.mark.parametrize(
    "first",
    [("session.update", {}), ("speaker.rename", {"speaker": "a", "name": "b"})],
)
def test_resuming_comes_first_or_not_at_all(first):
    with serve() as running:
        lost = begin(running)
        lost.vanish()
        with Client(running.socket_url) as client:
            client.send(first[0], **first[1])
            client.send("session.resume", resume_token=lost.created["resume_token"], last_event_id=0)
            while client.receive().get("code") != "out_of_order":
                pass
        assert go_on(running, lost, 2).events[-1]["turns"] == 4


# --- taking over ----------------------------------------------------------------------------------


def test_a_second_connection_takes_the_session_over(undisturbed):
    with serve() as running:
        first = begin(running)
        second = Client(running.socket_url)
        resumed = second.resume(first.created["resume_token"], 2)
        assert resumed["type"] == "session.resumed"
        refused(first, "taken_over", 4409)
        second.send_audio(TALK[int(str(resumed["audio_ms"])) * 16 :])
        second.send("session.close")
        assert second.code() == 1000
        assert first.events[:2] + second.events == undisturbed
        second.close()


def test_on_another_server_the_next_save_finds_out(tmp_path, undisturbed):
    stores = [SqliteStore(tmp_path / "sessions.sqlite") for _ in range(2)]
    with serve(store=stores[0]) as here, serve(store=stores[1]) as there:
        first = begin(here)
        second = Client(there.socket_url)
        resumed = second.resume(first.created["resume_token"], 2)
        with contextlib.suppress(ConnectionClosed):
            first.send_audio(TALK[HALF:])  # a turn ends in it: it has to be saved
        refused(first, "taken_over", 4409)
        assert len(first.events) == 2  # only events that the other connection knows
        second.send_audio(TALK[int(str(resumed["audio_ms"])) * 16 :])
        second.send("session.close")
        assert second.code() == 1000
        assert first.events + second.events == undisturbed
        second.close()


def test_of_many_at_once_one_has_the_session_and_the_places_are_counted_rightly(undisturbed):
    with serve(max_sessions=8) as running:
        first = begin(running)
        first.vanish()
        clients = [Client(running.socket_url) for _ in range(6)]
        ready = threading.Barrier(6)
        answers: list[object] = []

        def resume(client: Client) -> None:
            ready.wait()
            answers.append(client.resume(first.created["resume_token"], 2))

        threads = [threading.Thread(target=resume, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 6
        service = running.server._shared
        assert service is not None
        last = go_on(running, first, 2)  # the seventh connection, which closes any that is left
        for client in clients:
            refused(client, "taken_over", 4409)
            client.close()
        assert first.events[:2] + last.events == undisturbed
        assert eventually(lambda: service.connections == {})


def test_what_was_sent_but_not_acknowledged_may_come_at_once(monkeypatch):
    """On a server that was slow for long, live audio that was held back is not too fast."""
    monkeypatch.setattr(connection, "_now", lambda: "2026-01-01T00:00:00Z")  # long ago
    with serve(burst_ms=2_000) as running:
        with Client(running.socket_url) as lost:
            lost.send_audio(TALK[:16_000])
            lost.settle()
            lost.vanish()
        with Client(running.socket_url) as again:
            resumed = again.resume(lost.created["resume_token"], 0)
            assert resumed["configuration"]["pace"] == "live"
            for _ in range(4):
                again.send_audio(TALK)  # 20 s
            again.settle()
            assert "error" not in {m["type"] for m in again.seen}
            frames = int(MAX_BACKLOG_MS / 10_000) + 4
            with contextlib.suppress(ConnectionClosed):
                for _ in range(frames):
                    again.socket.send(bytes(2 * 160_000))
            assert again.code() == 1008
            assert again.seen[-1]["code"] == "audio_too_fast" and again.seen[-1]["retryable"]


def test_resuming_gains_no_time():
    """Over all its connections, a live session may run ahead of the clock by the burst alone."""
    with serve(burst_ms=4_000) as running:
        client = Client(running.socket_url)
        for _ in range(3):
            with contextlib.suppress(ConnectionClosed):
                client.send_audio(TALK)  # 5 s
                client.settle()
            token = client.created["resume_token"]
            client.vanish()
            client = Client(running.socket_url)
            resumed = client.resume(token, 0)
            client.created["resume_token"] = token
        assert resumed["audio_ms"] < 9_000
        client.close()


def test_a_resumption_that_is_refused_leaves_the_connection_that_is_there():
    with serve() as running, Client(running.socket_url) as client:
        client.answer("session.update", turns="appended")
        token = client.created["resume_token"]
        with Client(running.socket_url) as other:
            assert other.resume(token + "x", 0)["code"] == "resume_refused"
            assert other.code() == 4404
        client.send("turn.append", text="hello", speaker="Ann")
        assert client.until("turn.final")["text"] == "hello"
        assert eventually(lambda: len(running.server._shared.connections) == 1)


def test_missed_events_come_page_by_page(monkeypatch):
    monkeypatch.setattr(claim, "EVENTS_PER_READ", 2)
    with serve() as running, Client(running.socket_url) as client:
        client.answer("session.update", turns="appended")
        for number in range(5):
            client.send("turn.append", text=str(number), speaker="Ann")
        while len(client.events) < 5:
            client.receive()
        for known in (0, 1, 4, 5):
            with Client(running.socket_url) as again:
                again.resume(client.created["resume_token"], known)
                again.settle()
                assert again.events == client.events[known:]


def test_a_store_that_is_gone_closes_with_a_code_that_says_resume():
    store = MemoryStore()
    with serve(store=store) as running, Client(running.socket_url) as client:
        client.answer("session.update", pace="replay")
        store.close()
        client.send_audio(TALK)
        assert client.code() == 1011
        assert client.seen[-1]["code"] == "internal" and client.seen[-1]["retryable"]
        assert client.events == []  # an event that is not stored is not sent


def test_a_session_that_the_store_has_lost(tmp_path: Path):
    store = SqliteStore(tmp_path / "sessions.sqlite")
    with serve(store=store) as running, Client(running.socket_url) as client:
        client.answer("session.update", pace="replay")
        with store._transaction() as run:
            run("DELETE FROM sessions")
        client.send_audio(TALK)
        refused(client)
