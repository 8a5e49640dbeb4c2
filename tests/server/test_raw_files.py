"""No word of a conversation is in the raw files of a store: at any time, after any end of the server."""

import base64
import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_server import RedisServer
from serving import PATIENCE_S, Client, eventually, program

from stream_erc.exceptions import StoreError
from stream_erc.protocol.save_point import SavePoint
from stream_erc.server.stores.opening import open_store

PROGRAM = """
import asyncio, sys
from fakes import CONFIG
from serving import FakeEngine
from stream_erc.config import Config, ServerConfig
from stream_erc.server import server
from stream_erc.server.stores.opening import open_store
server.SWEEP_INTERVAL_S = 0.2
config = ServerConfig(port=0, drain_s=1.0, retention_s=float(sys.argv[2]))
served = server.Server(Config(session=CONFIG, server=config), {"hash": FakeEngine()}, open_store(sys.argv[1]))
asyncio.run(served.run(print))
"""

TEXTS = ("my quagmire of zephyrs", "nobody knows the ombudsman", "größer als Xanthippe")
NAMES = ("Wilhelmina", "Bartholomew", "Persephone")
SECRETS = [word for text in TEXTS for word in text.split() if len(word) > 6] + list(NAMES)


class Files:
    """A store's files on the disk."""

    def __init__(self, folder: Path, kind: str, redis: RedisServer | None) -> None:
        self.folder, self.kind, self.redis = folder, kind, redis
        self.spec = f"sqlite:{folder / 'sessions.db'}" if redis is None else redis.url

    def found(self, *more: str) -> list[tuple[str, str]]:
        """Return the secrets in the files, as text, in base64 or in hexadecimal digits: (file, secret)."""
        self.write_out()
        found = []
        for path in (path for path in self.folder.rglob("*") if path.is_file()):
            data = path.read_bytes()
            found += [(path.name, word) for word in (*SECRETS, *more) if any(f in data for f in forms(word))]
        return found

    def write_out(self) -> None:
        """Have Redis write all it has to its files, without rewriting its log."""
        if self.redis is not None:
            import redis

            with redis.Redis.from_url(self.redis.url) as client:
                client.save()

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def forms(word: str) -> Iterator[bytes]:
    """Yield how a word may stand in a file."""
    plain = word.encode()
    yield from (plain, word.encode("utf-16-le"), plain.hex().encode())
    for shift in range(3):  # base64 of a longer text
        encoded = base64.b64encode(bytes(shift) + plain)
        yield encoded[(shift * 8 + 5) // 6 : len(encoded) - 4]


@pytest.fixture(params=["sqlite", "redis"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    if request.param == "sqlite":
        yield Files(tmp_path, "sqlite", None)
        return
    with RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield Files(tmp_path, "redis", server)


def talk(url: str) -> Client:
    """Begin a session in which all secrets are said, and go on to where all of them are stored."""
    client = Client(url)
    client.answer("session.update", turns="appended", pace="replay")
    for text, name in zip(TEXTS, NAMES, strict=True):
        client.send("turn.append", text=text, speaker=name)
    client.send("speaker.rename", speaker=NAMES[0], name=f"{NAMES[0]} II")
    client.until("speaker.updated")
    assert [turn["text"] for turn in client.events[:3]] == list(TEXTS)
    return client


def gone(files: Files) -> bool:
    """Return whether no session is in the store."""
    store = open_store(files.spec)
    try:
        return store.sweep(9e9) == 0
    except StoreError:
        return False
    finally:
        store.close()


def test_the_search_finds_what_is_there(files: Files) -> None:
    store = open_store(files.spec)
    owner = store.create("s", b"t" * 32, b"", now=1.0, expires_at=9e9)
    words = base64.b64encode(b"about " + NAMES[2].encode() + b" and others").decode()
    point = SavePoint(f"so {NAMES[0]}".encode(), {0: NAMES[1].encode()}, (0,), [(1, words)])
    store.save("s", owner, point, now=1.0, expires_at=9e9)
    assert {word for _, word in files.found()} == set(NAMES)
    store.close()


@pytest.mark.slow
def test_no_word_is_in_the_raw_files(files: Files) -> None:
    tokens = []
    # While sessions go on, and after one was closed, deleted and lost.
    with program(PROGRAM, files.spec, 600.0) as (process, url):
        closed, deleted, lost = (talk(url) for _ in range(3))
        tokens += [str(client.created["resume_token"]) for client in (closed, deleted, lost)]
        assert files.size() > 3_000 and files.found(*tokens) == []
        closed.send("session.close")
        deleted.send("session.delete")
        assert (closed.code(), deleted.code()) == (1000, 1000)
        lost.vanish()
        assert files.found(*tokens) == []
        # After SIGKILL, in the midst of a session.
        tokens.append(str(talk(url).created["resume_token"]))
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    assert files.found(*tokens) == []
    # After a restart, and SIGTERM in the midst of a session.
    with program(PROGRAM, files.spec, 600.0) as (process, url):
        with Client(url) as again:
            assert again.resume(tokens[2], 0)["type"] == "session.resumed"
            assert again.until("turn.final")["text"] == TEXTS[0]  # it was all there, encrypted
        going = talk(url)
        tokens.append(str(going.created["resume_token"]))
        process.send_signal(signal.SIGTERM)
        assert going.code() == 1012 and process.wait(PATIENCE_S) == 0
    assert files.found(*tokens) == []
    # After a restart of Redis, which reads its files.
    if files.redis is not None:
        files.redis.restart()
        assert files.found(*tokens) == []


@pytest.mark.slow
def test_what_expires_is_swept(files: Files) -> None:
    with program(PROGRAM, files.spec, 1.0) as (process, url):
        client = talk(url)
        client.vanish()
        store = open_store(files.spec)
        key = hashlib.sha256(str(client.created["resume_token"]).encode()).digest()
        assert eventually(lambda: store.read(key, now=0.0) is None)
        store.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert gone(files) and files.found(str(client.created["resume_token"])) == []
