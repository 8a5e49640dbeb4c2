"""Sessions that end are deleted: from the store, and from the raw files beneath it."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from fakes import conversation
from serving import Client, Running, eventually, serve

from stream_erc.server.stores.sqlite import SqliteStore
from stream_erc.server.websocket import WebSocket

TALK = conversation([(1.0, 200), (0.8, 900)])


def rows(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "sessions.sqlite")) as connection:
        return sum(
            connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
            for table in ("sessions", "steps", "events")
        )


def talk(client: Client) -> None:
    client.answer("session.update", pace="replay")
    client.send_audio(TALK)
    for _ in range(2):
        client.until("turn.final")


def resumable(running: Running, client: Client) -> bool:
    with Client(running.socket_url) as again:
        return again.resume(client.created["resume_token"], 0)["type"] == "session.resumed"


@pytest.fixture
def running(tmp_path: Path):
    with serve(store=SqliteStore(tmp_path / "sessions.sqlite")) as server:
        yield server


def test_a_session_is_deleted_once_its_client_has_its_end(running, tmp_path) -> None:
    with Client(running.socket_url) as client:
        talk(client)
        assert rows(tmp_path) > 0
        client.send("session.close")
        assert client.code() == 1000
    assert eventually(lambda: rows(tmp_path) == 0)
    assert not resumable(running, client)


def test_a_session_whose_end_may_be_lost_is_kept(running, monkeypatch) -> None:
    close = WebSocket.close

    async def unanswered(socket: WebSocket, code: int, reason: str) -> bool:
        await close(socket, code, reason)
        return False

    monkeypatch.setattr(WebSocket, "close", unanswered)
    with Client(running.socket_url) as client:
        talk(client)
        client.send("session.close")
        assert client.code() == 1000
    assert resumable(running, client)


def test_a_client_deletes_its_session(running, tmp_path) -> None:
    with Client(running.socket_url) as client:
        talk(client)
        client.send("session.delete")
        client.send("session.update", partials=False)  # nothing comes after it
        assert client.code() == 1000
        assert client.seen[-1]["type"] == "session.deleted"
    assert eventually(lambda: rows(tmp_path) == 0)
    assert not resumable(running, client)


def test_a_lost_session_is_resumed_to_be_deleted(running, tmp_path) -> None:
    lost = Client(running.socket_url)
    talk(lost)
    lost.vanish()
    with Client(running.socket_url) as client:
        assert client.resume(lost.created["resume_token"], 2)["type"] == "session.resumed"
        client.send("session.delete")
        assert client.code() == 1000
    assert eventually(lambda: rows(tmp_path) == 0)


def test_what_expired_is_swept_when_a_server_starts_and_its_log_is_emptied(tmp_path) -> None:
    path = tmp_path / "sessions.sqlite"
    old = SqliteStore(path)
    old.create("s_1", b"1" * 32, b"a header of long ago", now=0.0, expires_at=1.0)
    log = path.with_name("sessions.sqlite-wal")
    assert log.stat().st_size > 0
    with serve(store=SqliteStore(path)):
        assert eventually(lambda: rows(tmp_path) == 0 and log.stat().st_size == 0)
        assert b"a header of long ago" not in path.read_bytes()
    old.close()
