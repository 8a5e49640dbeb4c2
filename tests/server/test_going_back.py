"""Stores that go back in time, that hang and that vanish: sessions are taken up where the store has them."""

import contextlib
import resource
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from fakes import conversation
from redis_server import RedisServer
from serving import Client, Fields, Running, converse, eventually, serve
from websockets.exceptions import ConnectionClosed

from stream_erc.server.stores.opening import open_store
from stream_erc.server.stores.sqlite import SqliteStore

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900), (0.9, 200)])
TIMES = (0, 2.3, 5.0)  # seconds of audio: before one turn has ended, then two more


@pytest.fixture(scope="module")
def undisturbed() -> list[Fields]:
    with serve() as running:
        return converse(running.socket_url, TALK)


def begin(running: Running) -> Client:
    """Begin a session, up to its first finished turn."""
    client = Client(running.socket_url)
    client.answer("session.update", pace="replay")
    client.send_audio(TALK[: round(16_000 * TIMES[1])])
    while len(client.events) < 1:
        client.receive()
    client.settle()
    return client


def talk_on(client: Client) -> None:
    """Go on to the third finished turn."""
    client.send_audio(TALK[round(16_000 * TIMES[1]) : round(16_000 * TIMES[2])])
    while len(client.events) < 3:
        client.receive()


def finish(running: Running, lost: Client, *, back: int) -> list[Fields]:
    """Resume the session of `lost`, whose store has `back` of its events; give those that come."""
    with Client(running.socket_url) as client:
        resumed = client.resume(lost.created["resume_token"], len(lost.events))
        assert (resumed["type"], resumed["event_id"]) == ("session.resumed", back), resumed
        client.send_audio(TALK[int(str(resumed["audio_ms"])) * 16 :])
        client.send("session.close")
        assert client.code() == 1000
        return client.events


# --- SQLite -----------------------------------------------------------------------------------------


def store_with_backup(folder: Path) -> tuple[SqliteStore, Path, Path]:
    """Open a store; return its path, and a folder for a copy, too."""
    path, backup = folder / "now" / "sessions.db", folder / "backup"
    backup.mkdir()
    return SqliteStore(path), path, backup


def copy(store: SqliteStore, to: Path) -> None:
    """Copy a store's file and log as they are, as a backup of the disk does."""
    assert store._file is not None
    file = store._file.path
    with store._transaction():
        for path in file.parent.glob(f"{file.name}*"):
            shutil.copy(path, to / path.name)


@pytest.mark.parametrize("times", [1, 2])
def test_a_sqlite_file_that_was_set_back_while_the_server_was_down(tmp_path, undisturbed, times):
    store, path, backup = store_with_backup(tmp_path)
    with serve(store=store) as running:
        lost = begin(running)
        copy(store, backup)
        talk_on(lost)
        lost.vanish()
    for _ in range(times):  # the copy is good for more than once
        shutil.rmtree(path.parent)
        shutil.copytree(backup, path.parent)
        with serve(store=SqliteStore(path)) as running:
            assert lost.events[:1] + finish(running, lost, back=1) == undisturbed


def test_a_sqlite_file_that_was_set_back_under_the_server(tmp_path, undisturbed):
    path, backup = tmp_path / "sessions.db", tmp_path / "backup"
    backup.mkdir()
    store = SqliteStore(path)
    with serve(store=store) as running:
        lost = begin(running)
        copy(store, backup)
        copied = SqliteStore(backup / "sessions.db")
        copied.close()  # with its log in it
        talk_on(lost)
        (backup / "sessions.db").rename(path)
        lost.send_audio(TALK[80_000:])
        assert lost.code() == 1011  # told that it is to resume
        assert lost.seen[-1]["code"] == "internal" and lost.seen[-1]["retryable"]
        assert lost.events == undisturbed[:3]
        assert lost.events[:1] + finish(running, lost, back=1) == undisturbed


def test_a_deleted_sqlite_file_costs_nothing(tmp_path, undisturbed):
    path = tmp_path / "sessions.db"
    with serve(store=SqliteStore(path)) as running:
        lost = begin(running)
        for found in tmp_path.iterdir():
            found.unlink()
        talk_on(lost)
        lost.vanish()
    with serve(store=SqliteStore(path)) as running:
        assert lost.events[:3] + finish(running, lost, back=3) == undisturbed


def test_while_nothing_can_be_stored_nothing_is_told(tmp_path, undisturbed):
    store = SqliteStore(tmp_path / "sessions.db")
    with serve(store=store) as running:
        lost = begin(running)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        full = (tmp_path / "sessions.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, limits[1]))  # as on a full disk
        try:
            with contextlib.suppress(ConnectionClosed):
                lost.send_audio(TALK[round(16_000 * TIMES[1]) :])
            assert lost.code() == 1011
            with Client(running.socket_url, greeted=False) as new:
                assert new.code() == 1011
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert len(lost.events) == 1
        assert lost.events + finish(running, lost, back=1) == undisturbed


# --- what the client no longer has ------------------------------------------------------------------


def test_what_the_client_no_longer_has_is_silence():
    with serve() as running:
        lost = begin(running)
        lost.vanish()
        with Client(running.socket_url) as client:
            resumed = client.resume(lost.created["resume_token"], 9)
            client.send("input.skip", audio_ms=3_000, input_id=4)
            client.send("speaker.rename", speaker="nobody", name="x", input_id=5)
            client.send_audio(TALK[48_000:])
            client.send("session.close")
            assert client.code() == 1000
        heard = TALK.copy()
        heard[16 * int(str(resumed["audio_ms"])) : 48_000] = 0
        assert lost.events + client.events == converse(running.socket_url, heard)
        refused = [m for m in client.seen if m["type"] == "error"]
        assert [(m["code"], m["input_id"]) for m in refused] == [("invalid_speaker", 5)]
        acknowledged = [m["input_id"] for m in client.seen if m["type"] == "input.acknowledged"]
        assert acknowledged[-1] == 5


def test_only_what_was_asked_for_is_skipped_and_only_at_once():
    with serve() as running:
        lost = begin(running)
        lost.vanish()
        with Client(running.socket_url) as client:
            resumed = client.resume(lost.created["resume_token"], 1)
            assert client.answer("input.skip", audio_ms=4 * 3_600_000)["code"] == "invalid_audio"
            client.send("input.skip", audio_ms=500)  # before the position: nothing
            client.send_audio(TALK[16 * int(str(resumed["audio_ms"])) :])
            client.send("input.skip", audio_ms=9_000)
            client.send("session.close")
            assert client.code() == 1000
        assert [m["code"] for m in client.seen if m["type"] == "error"][1:] == ["out_of_order"]
        assert client.events[-1]["audio_ms"] == round(len(TALK) / 16)


# --- Redis ------------------------------------------------------------------------------------------


def test_a_replica_that_lagged_and_was_promoted(tmp_path, undisturbed):
    import redis

    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for folder in folders:
        folder.mkdir()
    at = tmp_path / "c" / "redis.sock"  # where servers find the Redis that is in charge
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with RedisServer(folders[0], "--port", str(port)) as first, RedisServer(folders[1]) as second:
        at.symlink_to(folders[0] / "redis.sock")
        with redis.Redis.from_url(first.url) as master, redis.Redis.from_url(second.url) as replica:
            with (
                serve(store=open_store(f"unix://{at}")) as here,
                serve(store=open_store(f"unix://{at}")) as there,
            ):
                replica.replicaof("127.0.0.1", port)
                assert eventually(lambda: replica.info("replication")["master_link_status"] == "up")
                lost = begin(here)
                assert master.wait(1, 10_000) == 1  # the replica has all of it
                replica.replicaof("NO", "ONE")  # the network between the two is cut: it stays behind
                talk_on(lost)
                lost.vanish()
                moved = Client(there.socket_url)  # a claim that the replica never hears of
                assert moved.resume(lost.created["resume_token"], 3)["event_id"] == 3
                first.stop()
                at.unlink()
                at.symlink_to(folders[1] / "redis.sock")
                with contextlib.suppress(Exception):
                    moved.send_audio(TALK[80_000:])
                assert moved.code() == 1011  # not 4409, after which nobody would resume
                assert lost.events[:1] + finish(here, lost, back=1) == undisturbed


def test_a_claim_after_the_store_went_back_wins_over_an_older_one_of_the_same_server(tmp_path, undisturbed):
    """The older one may have had a higher owner number."""
    store, path, backup = store_with_backup(tmp_path)
    with serve(store=store) as running:
        lost = begin(running)
        copy(store, backup)
        SqliteStore(backup / "sessions.db").close()
        token = lost.created["resume_token"]
        others = [Client(running.socket_url) for _ in range(3)]
        for other in others:
            assert other.resume(token, 1)["type"] == "session.resumed"
        (backup / "sessions.db").rename(path)
        assert lost.events[:1] + finish(running, lost, back=1) == undisturbed
        for client in (lost, *others):
            client.vanish()


def test_a_redis_that_hangs_is_told_in_time(tmp_path, undisturbed):
    def ready(running: Running) -> int:
        try:
            with urllib.request.urlopen(f"{running.url}/readyz", timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    with RedisServer(tmp_path) as redis, serve(store=open_store(redis.url)) as running:
        lost, others = begin(running), [begin(running) for _ in range(9)]
        assert ready(running) == 200
        redis.hang()
        took: dict[str, float] = {}

        def timed(name: str, act: object) -> threading.Thread:
            def run() -> None:
                began = time.monotonic()
                act()  # type: ignore[operator]
                took[name] = time.monotonic() - began

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        def told(client: Client) -> None:
            client.send_audio(TALK[36_800:])
            assert client.code() == 1011

        threads = [timed(f"running {k}", lambda c=c: told(c)) for k, c in enumerate((lost, *others))]
        threads.append(timed("ready", lambda: took.update(status=ready(running))))
        threads.append(timed("new", lambda: Client(running.socket_url, greeted=False).code()))
        for thread in threads:
            thread.join(30)
        redis.go_on()
        assert took.pop("status") == 503 and len(took) == 12
        assert took["ready"] < 4 and took["new"] < 6, took  # two seconds, and what the machine adds
        assert max(took.values()) < 12, took  # five
        assert eventually(lambda: ready(running) == 200)
        back = len(lost.events)
        assert lost.events + finish(running, lost, back=back) == undisturbed
