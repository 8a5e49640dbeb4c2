"""Access to the server, its HTTP pages and metrics, and its stop."""

import asyncio
import contextlib
import json
import os
import queue
import re
import resource
import signal
import socket
import sqlite3
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from fakes import CONFIG, conversation, silence
from paths import ROOT
from prometheus_client.parser import text_string_to_metric_families
from serving import PATIENCE_S, Client, FakeEngine, Running, converse, eventually, program, serve, start
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.frames import Frame, Opcode

from stream_erc.audio import to_pcm16
from stream_erc.cli.diagnostics import json_logs
from stream_erc.cli.main import main
from stream_erc.config import Config, ServerConfig
from stream_erc.exceptions import CheckpointError, ConfigError, InputError
from stream_erc.server import connection
from stream_erc.server import server as server_module
from stream_erc.server.http.app import _policy
from stream_erc.server.server import OPEN_TIMEOUT_S, Server
from stream_erc.server.stores.opening import open_store
from stream_erc.server.stores.sqlite import MemoryStore, SqliteStore

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900)])


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve() as running:
        yield running


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    file = tmp_path / "tokens"
    file.write_text("open-sesame\nanother\n")
    return str(file)


def get(url: str, path: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Get a page; return its status, headers and body."""
    request = urllib.request.Request(url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def metrics(running: Running) -> dict[tuple[str, ...], float]:
    """Return the metrics as (name, label values ...) -> value."""
    file = running.server._config.token_file
    headers = {} if file is None else {"Authorization": f"Bearer {Path(file).read_text().split()[0]}"}
    text = get(running.url, "/metrics", **headers)[2].decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# --- a conversation -------------------------------------------------------------------------------


def test_a_conversation_from_the_first_message_to_the_last(server):
    with Client(server.socket_url) as client:
        created = client.created
        assert created["type"] == "session.created" and created["protocol"] == 1 and created["seq"] == 0
        assert created["models"] == [{"name": "hash", "labels": ["neutral", "joy", "anger"]}]
        assert created["encodings"] == ["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus"]
        assert created["limits"]["max_frame_ms"] == 10_000 and len(created["resume_token"]) >= 43
        updated = client.answer("session.update", pace="replay", partials=False, speakers=2)
        assert updated["type"] == "session.updated" and updated["configuration"]["speakers"] == 2
        client.send_audio(TALK)
        client.send("session.close")
        assert client.code() == 1000
    assert [m["seq"] for m in client.seen] == list(range(len(client.seen)))
    assert {m["session_id"] for m in client.seen} == {created["session_id"]}
    finals = [e for e in client.events if e["type"] == "turn.final"]
    assert [e["event_id"] for e in client.events] == [1, 2, 3, 4, 5]
    assert [e["turn"] for e in finals] == [0, 1, 2, 3]
    assert [e["speaker"] for e in finals] == ["speaker_1", "speaker_2", "speaker_1", "speaker_2"]
    totals = client.events[-1]
    assert (totals["type"], totals["turns"], totals["failed_turns"]) == ("session.closed", 4, 0)
    assert totals["audio_ms"] == round(len(TALK) / 16)


def test_a_client_that_is_muted_in_the_midst_of_a_turn_gets_the_turn(server, quick_to_notice):
    with Client(server.socket_url) as client:
        client.answer("session.update", partials=False)
        client.send_audio(TALK[:16_000])  # half a second of silence, half a second of the first turn
        final = client.until("turn.final")
        assert (final["audio_start_ms"], final["audio_end_ms"]) == (480, 992)
        client.send_audio(TALK[16_000:])
        client.send("session.close")
        assert client.code() == 1000
    finals = [e for e in client.events if e["type"] == "turn.final"]
    assert [e["turn"] for e in finals] == [0, 1, 2, 3, 4]  # the rest of the first turn is one of its own
    assert client.events[-1]["audio_ms"] == round(len(TALK) / 16)


SHORT = conversation([(0.6, 200), (0.4, 900)])
CUT = 12_800  # in the midst of its first turn


@pytest.fixture
def quick_to_notice(monkeypatch):
    monkeypatch.setattr(connection, "WATCH_INTERVAL_S", 0.1)
    monkeypatch.setattr(connection, "MUTED_S", 0.3)


def finals(client: Client) -> list[tuple[object, ...]]:
    """Return what the client's turns say, whenever they came."""
    said = ("turn", "speaker", "audio_start_ms", "audio_end_ms", "text", "emotion")
    return [tuple(str(e[name]) for name in said) for e in client.events if e["type"] == "turn.final"]


def said_on(client: Client, resumed: dict[str, object]) -> None:
    """Send the rest of the talk, from the position that the server names, and end the session."""
    client.send_audio(SHORT[16 * int(str(resumed["audio_ms"])) :])
    client.send("session.close")
    assert client.code() == 1000


def test_a_turn_that_was_ended_by_the_clock_is_the_same_after_a_resumption(server, quick_to_notice):
    told = []
    for lost in (False, True):
        with Client(server.socket_url) as client:
            client.answer("session.update", partials=False)
            client.send_audio(SHORT[:CUT])
            client.until("turn.final")
            if not lost:
                said_on(client, {"audio_ms": CUT // 16})
                told.append(finals(client))
                continue
            client.vanish()
        with Client(server.socket_url) as again:
            resumed = again.resume(client.created["resume_token"], client.events[-1]["event_id"])
            assert resumed["type"] == "session.resumed"
            said_on(again, resumed)
            told.append(finals(client) + finals(again))
    assert len(told[0]) == 3 and told[0] == told[1]


def test_a_client_on_a_dead_network_is_no_muted_one(server, quick_to_notice):
    """It answers no ping: its audio may be on its way, and comes when it has resumed."""
    with Client(server.socket_url) as client:
        client.answer("session.update", partials=False)
        protocol, pinged = client.socket.protocol, threading.Event()
        receive = protocol.recv_frame

        def recv_frame(frame: Frame) -> None:
            if frame.opcode is Opcode.PING:
                pinged.set()
            else:
                receive(frame)

        protocol.recv_frame = recv_frame
        client.send_audio(SHORT[:CUT])
        assert pinged.wait(PATIENCE_S)
        with pytest.raises(TimeoutError):
            while True:
                assert client.receive(5 * connection.WATCH_INTERVAL_S)["type"] != "turn.final"
        client.vanish()
    with Client(server.socket_url) as again:
        last = client.events[-1]["event_id"] if client.events else 0
        said_on(again, again.resume(client.created["resume_token"], last))
    with Client(server.socket_url) as whole:
        whole.answer("session.update", partials=False)
        said_on(whole, {"audio_ms": 0})
    assert len(finals(whole)) == 2 and finals(again) == finals(whole)


@pytest.mark.parametrize(
    ("host", "sockets"),
    [
        ("erc.example:8765", " ws://erc.example:8765 wss://erc.example:8765"),
        ("[::1]:8765", " ws://[::1]:8765 wss://[::1]:8765"),
        ("a; script-src *", ""),
        ("a b", ""),
        ("*", ""),
        ("", ""),
    ],
)
def test_a_policy_names_no_place_but_the_server(host, sockets):
    assert f"connect-src 'self'{sockets}; frame" in _policy(host)


class Clock:
    """A module `time` with a wall clock that can be stepped."""

    step_s = 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)

    def time(self) -> float:
        return time.time() + self.step_s


class CountingStore(MemoryStore):
    """A store that counts its sweeps."""

    sweeps = 0

    def sweep(self, now: float) -> int:
        deleted = super().sweep(now)
        self.sweeps += 1
        return deleted


@pytest.mark.parametrize("step_s", [7_200.0, -7_200.0])
def test_a_wall_clock_that_is_stepped_costs_nobody_the_session(monkeypatch, step_s):
    clock, store = Clock(), CountingStore()
    monkeypatch.setattr("stream_erc.server.server.SWEEP_INTERVAL_S", 0.05)
    for module in ("claim", "connection", "stores.clock"):
        monkeypatch.setattr(f"stream_erc.server.{module}.time", clock)
    with serve(store=store) as running, Client(running.socket_url) as client:
        client.send("session.update", turns="appended")
        client.until("session.updated")
        with Client(running.socket_url) as lost:
            lost.send("session.update")
            lost.until("session.updated")
        assert eventually(lambda: metrics(running)["stream_erc_sessions",] == 1)
        clock.step_s = step_s
        swept = store.sweeps
        assert eventually(lambda: store.sweeps > swept + 1)
        client.send("turn.append", text="hello", speaker="Anna")
        assert client.until("turn.final")["text"] == "hello"
        with Client(running.socket_url) as again:
            assert again.resume(client.created["resume_token"], 1)["type"] == "session.resumed"
        with Client(running.socket_url) as again:
            assert again.resume(lost.created["resume_token"], 0)["type"] == "session.resumed"
            again.send_audio(TALK[:32_000])  # what it held back meanwhile
            again.settle()


@pytest.mark.parametrize("step_s", [7_200.0, -7_200.0])
def test_a_server_that_starts_after_a_step_of_the_wall_clock_refuses_nobody(tmp_path, monkeypatch, step_s):
    clock = Clock()
    for module in ("claim", "connection", "stores.clock"):
        monkeypatch.setattr(f"stream_erc.server.{module}.time", clock)
    with serve(store=SqliteStore(tmp_path / "sessions.db")) as running, Client(running.socket_url) as lost:
        lost.send("session.update")
        lost.until("session.updated")
        lost.send_audio(TALK[:8_000])
        lost.settle()
    clock.step_s = step_s
    with (
        serve(store=SqliteStore(tmp_path / "sessions.db")) as running,
        Client(running.socket_url) as again,
    ):
        assert again.resume(lost.created["resume_token"], 0)["type"] == "session.resumed"
        again.send_audio(TALK[:48_000])  # what it held back meanwhile
        again.settle()


# --- who may connect ------------------------------------------------------------------------------


def test_a_token_in_the_header_or_as_the_first_message(tokens):
    with serve(token_file=tokens) as running:
        with Client(running.socket_url, token="another") as client:
            assert client.created["type"] == "session.created"
        with Client(running.socket_url, greeted=False) as client:
            client.send("session.authenticate", token="open-sesame")
            assert client.receive()["type"] == "session.created"


def test_until_it_is_authenticated_a_client_is_told_nothing(tokens):
    with serve(token_file=tokens, max_sessions=1) as running:
        quiet = [Client(running.socket_url, greeted=False) for _ in range(3)]
        with Client(running.socket_url, token="open-sesame") as client:  # refused clients take no place
            client.settle()
            for other in quiet:
                with pytest.raises(TimeoutError):
                    other.receive(timeout_s=0.05)
        for other in quiet:
            other.vanish()


@pytest.mark.parametrize(
    "said",
    [
        json.dumps({"type": "session.authenticate", "token": "open-sesam"}),
        json.dumps({"type": "session.authenticate", "token": "\u00fc\U0001f511"}),
        json.dumps({"type": "session.update"}),
        json.dumps({"type": "session.resume", "resume_token": "open-sesame", "last_event_id": 0}),
        "open-sesame",
        b"\0\0" * 160,
    ],
    ids=["wrong", "foreign letters", "update", "resume", "not JSON", "audio"],
)
def test_a_client_without_the_token_is_closed(tokens, said):
    with serve(token_file=tokens) as running, Client(running.socket_url, greeted=False) as client:
        client.socket.send(said)
        assert client.code() == 1008
        (error,) = client.seen
        assert (error["type"], error["code"], error["retryable"]) == ("error", "authentication", False)
        assert metrics(running)["stream_erc_errors_total", "authentication"] == 1


def test_a_client_that_says_nothing_is_closed(tokens, monkeypatch):
    monkeypatch.setattr("stream_erc.server.admission.AUTHENTICATION_TIMEOUT_S", 0.2)
    with serve(token_file=tokens) as running, Client(running.socket_url, greeted=False) as client:
        assert client.code() == 1008
        assert client.seen[-1]["code"] == "authentication"


@pytest.mark.parametrize("given", ["Bearer wrong", "Bearer", "Basic open-sesame", "Bearer \u00ff\u00fe", ""])
def test_a_wrong_header_is_answered_before_there_is_a_socket(tokens, given):
    with serve(token_file=tokens) as running:
        assert asked(running.url, "Host: localhost", f"Authorization: {given}") == b"401"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://{host}", True),
        ("https://{host}", True),
        ("http://HOST.example", True),
        ("https://good.example:8443", True),
        ("https://good.example", False),
        ("http://evil.example", False),
        ("null", False),
        ("http://[", False),
        ("http://{host}.evil.example", False),
        ("file://{host}", False),
    ],
)
def test_pages_of_other_servers_are_refused(origin, allowed):
    with serve(allow_origins=("https://good.example:8443", "http://HOST.example")) as running:
        given = origin and origin.format(host=running.url.removeprefix("http://"))
        if allowed:
            with Client(running.socket_url, origin=given) as client:
                assert client.created["type"] == "session.created"
        else:
            with pytest.raises(InvalidStatus, match="403"):
                Client(running.socket_url, origin=given)


def asked(url: str, *headers: str) -> bytes:
    """Request a WebSocket with these headers; return the status of the answer."""
    host, port = url.removeprefix("http://").split(":")
    lines = ["GET /v1/session HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers, "", ""]
    with socket.create_connection((host, int(port)), PATIENCE_S) as bare:
        bare.sendall("\r\n".join(lines).encode("latin-1"))
        return bare.recv(4096)[9:12]


REBOUND = [
    ("localhost", True), ("Window.localhost", True), ("127.0.0.1", True), ("127.1.2.3", True),
    ("[::1]", True), ("localhost.", True), ("evil.example", False), ("localhost.evil.example", False),
    ("evillocalhost", False), ("127.0.0.1.evil.example", False), ("192.168.0.7", False), ("[::2]", False),
    ("evil.example#@localhost", False), ("[", False),
]  # fmt: skip
"""Hosts under which a page may, or may not, reach a loopback server without tokens."""


@pytest.mark.parametrize(("name", "allowed"), REBOUND)
def test_a_name_that_was_made_to_lead_here_is_not_the_servers_own(server, name, allowed):
    for host in (name, name + ":" + server.url.rpartition(":")[2]):
        status = asked(server.url, f"Host: {host}", f"Origin: http://{host}")
        assert status == (b"101" if allowed else b"403"), host


def test_who_asks_for_a_token_or_serves_others_has_its_own_page_under_any_name(tokens):
    for options in ({"token_file": tokens}, {"host": "0.0.0.0"}, {"allow_origins": ("http://a.example",)}):
        with serve(**options) as running:
            url = running.url.replace("localhost", "127.0.0.1")
            assert asked(url, "Host: a.example", "Origin: http://a.example") == b"101"


def test_headers_that_come_twice(tokens):
    with serve(token_file=tokens) as running:
        known = "Authorization: Bearer open-sesame"
        assert asked(running.url, "Host: a", "Connection: keep-alive", known) == b"101"
        assert asked(running.url, "Host: a", known, known) == b"401"
        assert asked(running.url, "Host: a", "Host: b", "Origin: http://a", known) == b"403"
        assert asked(running.url, "Host: a", "Origin: http://a", "Origin: http://a", known) == b"403"


def test_a_star_allows_every_page():
    with serve(allow_origins=("*",)) as running, Client(running.socket_url, origin="null") as client:
        assert client.created["type"] == "session.created"


def test_a_full_server_refuses_until_a_place_is_free():
    with serve(max_sessions=2) as running:
        first, second = Client(running.socket_url), Client(running.socket_url)
        with Client(running.socket_url, greeted=False) as third:
            assert third.code() == 1013
            assert third.seen[-1]["code"] == "server_full" and third.seen[-1]["retryable"]
        assert get(running.url, "/readyz")[::2] == (503, b"full\n")
        first.vanish()
        assert eventually(lambda: get(running.url, "/readyz")[0] == 200)
        with Client(running.socket_url) as fourth:
            assert fourth.answer("ping")["type"] == "pong"
        assert second.answer("ping")["type"] == "pong"
        second.close()


def test_many_at_once_take_no_more_places_than_there_are():
    with serve(max_sessions=3) as running:
        clients: list[Client] = []
        threads = [
            threading.Thread(target=lambda: clients.append(Client(running.socket_url))) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert (
            sorted(str(client.created["type"]) for client in clients)
            == ["error"] * 9 + ["session.created"] * 3
        )
        for client in clients:
            client.close()


def few_clients(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Limit a server with one session to `most` connections."""
    monkeypatch.setattr("stream_erc.server.server.BASE_CONNECTIONS", most - 1)
    monkeypatch.setattr("stream_erc.server.server.CONNECTIONS_PER_SESSION", 1)


def test_connections_without_a_session_are_bounded(tokens, monkeypatch):
    few_clients(monkeypatch, 3)
    with serve(token_file=tokens, max_sessions=1) as running:
        quiet = [Client(running.socket_url, greeted=False) for _ in range(3)]
        assert asked(running.url, "Host: localhost") == b"503"
        assert get(running.url, "/healthz")[0] == get(running.url, "/readyz")[0] == 200
        with Client(running.socket_url, token="open-sesame") as client:  # a client with a token is admitted
            client.settle()
            assert asked(running.url, "Host: localhost", "Authorization: Bearer wrong") == b"503"
        quiet.pop().vanish()
        assert eventually(lambda: asked(running.url, "Host: localhost") == b"101")
        for other in quiet:
            other.vanish()


def test_who_says_nothing_at_all_makes_room(monkeypatch):
    few_clients(monkeypatch, 3)
    with serve(max_sessions=1) as running:
        host, port = running.url.removeprefix("http://").split(":")
        silent = [socket.create_connection((host, int(port)), PATIENCE_S) for _ in range(20)]
        began = time.monotonic()
        assert silent[0].recv(1) == b"" and time.monotonic() - began < OPEN_TIMEOUT_S
        assert get(running.url, "/healthz")[0] == 200
        with Client(running.socket_url) as client:
            client.settle()
        for other in silent:
            other.close()


@pytest.mark.parametrize(
    ("limit", "sessions", "clients", "files"),
    [
        ((1_024, 4_096), 64, 384, 1_024),
        ((1_024, 4_096), 256, 1_152, 2_368),
        ((256, 256), 64, 96, 256),
        ((16, 16), 64, 1, 16),
        ((256, resource.RLIM_INFINITY), 64, 384, 832),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 64, 384, resource.RLIM_INFINITY),
    ],
)
def test_a_server_asks_for_the_files_that_it_needs_and_makes_do(monkeypatch, limit, sessions, clients, files):
    given = [limit]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: given[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, wanted: given.append(wanted))
    assert server_module._max_clients(sessions) == clients
    assert given[-1] == (files, limit[1])


def test_refusals_are_counted_told_and_a_wrong_token_is_slow(tokens, capsys):
    with json_logs(), serve(token_file=tokens, penalty_s=0.5) as running:
        began = time.monotonic()
        assert asked(running.url, "Host: localhost", "Authorization: Bearer guessed") == b"401"
        assert time.monotonic() - began >= 0.5
        assert asked(running.url, "Host: localhost", "Origin: http://evil.example") == b"403"
        seen = metrics(running)
        assert [seen["stream_erc_refused_total", status] for status in ("401", "403")] == [1, 1]
    log = capsys.readouterr().err
    (told,) = [line for line in map(json.loads, log.splitlines()) if line["event"] == "wrong token"]
    assert (told["level"], told["peer"]) == ("warning", "127.0.0.1") and "guessed" not in log


def test_a_server_that_stops_lets_nobody_wait_for_a_penalty(tokens):
    running = start(token_file=tokens, penalty_s=PATIENCE_S)
    answers: queue.Queue[bytes] = queue.Queue()
    threading.Thread(
        target=lambda: answers.put(asked(running.url, "Host: localhost", "Authorization: Bearer wrong"))
    ).start()
    assert eventually(lambda: metrics(running).get(("stream_erc_refused_total", "401")) == 1)
    running.stop()
    assert answers.get(timeout=PATIENCE_S) == b"401"


# --- TLS ------------------------------------------------------------------------------------------


def test_tls(certificate):
    with serve(tls_certificate=certificate[0], tls_key=certificate[1]) as running:
        assert running.url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=certificate[0])
        with Client(running.socket_url, tls=trusting) as client:
            assert client.answer("ping", id="a")["id"] == "a"
        with urllib.request.urlopen(f"{running.url}/healthz", context=trusting) as answer:
            assert answer.read() == b"ok\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            Client(running.socket_url, tls=ssl.create_default_context())
        with pytest.raises(InvalidMessage):
            Client(running.socket_url.replace("wss", "ws"))


@pytest.mark.parametrize("key", [(), ("rsa:2048",)])
def test_files_are_read_again_and_nobody_is_disconnected(tmp_path, caplog, make_certificate, key):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, kind in ((old, ()), (new, key)):
        folder.mkdir()
        make_certificate(folder, *kind)
    tokens = tmp_path / "tokens"
    tokens.write_text("first\n")
    served = {"tls_certificate": str(old / "certificate.pem"), "tls_key": str(old / "key.pem")}
    with serve(token_file=str(tokens), **served) as running:

        def reload() -> None:
            running.server._loop.call_soon_threadsafe(running.server.reload)

        def admits(token: str, folder: Path) -> bool:
            trusting = ssl.create_default_context(cafile=folder / "certificate.pem")
            with contextlib.suppress(ssl.SSLError, InvalidStatus):
                with Client(running.socket_url, token=token, tls=trusting):
                    return True
            return False

        (old / "trusted").mkdir()
        trusted = old / "trusted" / "certificate.pem"
        trusted.write_bytes((old / "certificate.pem").read_bytes())
        trusting = ssl.create_default_context(cafile=trusted)
        with Client(running.socket_url, token="first", tls=trusting) as client:
            # A file that cannot be used changes nothing.
            tokens.write_text("second\n")
            (old / "certificate.pem").write_text("no certificate")
            reload()
            assert eventually(lambda: "the files were not read again" in caplog.text)
            assert admits("first", trusted.parent) and not admits("second", trusted.parent)
            # Both are read, for those who connect from now on.
            for name in ("certificate.pem", "key.pem"):
                (old / name).write_bytes((new / name).read_bytes())
            reload()
            assert eventually(lambda: admits("second", new))
            assert not admits("first", new) and not admits("second", trusted.parent)
            client.settle()


def test_what_cannot_be_served_with_is_told_before_anything_listens(tmp_path, certificate):
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for options, told in [
        ({"token_file": str(tmp_path / "none")}, "server.token_file: expected a text file of tokens"),
        ({"token_file": str(empty)}, "server.token_file: expected at least one token"),
        ({"tls_certificate": str(empty)}, "server.tls_certificate: expected a PEM file"),
        ({"tls_key": certificate[1]}, "server.tls_key: expected server.tls_certificate with it"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(told)):
            Server(Config(server=ServerConfig(**options)), {"hash": FakeEngine()}, MemoryStore())


TAKEN = (
    "expected an address to listen at, got 127.0.0.1:{}: address already in use; "
    "choose another with --port or --host"
)


def test_an_address_that_is_taken(server):
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(InputError, match=re.escape(TAKEN.format(port))):
        start(port=port)


@pytest.fixture
def loading(monkeypatch) -> list[Config]:
    """Return the configurations whose engines the program would load; it ends instead of loading them."""
    loaded: list[Config] = []

    def engines(config: Config, *, warm: bool = True) -> dict[str, FakeEngine]:
        loaded.append(config)
        raise InputError("no models today")

    monkeypatch.setattr("stream_erc.cli.main._engines", engines)
    return loaded


def test_serve_says_that_it_loads(loading, capsys):
    assert main(["serve", "--port", "0", "--store", "memory"]) == 2
    assert capsys.readouterr().err == "stream-erc: loading the models ...\nstream-erc: no models today\n"
    assert len(loading) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "{taken}"], TAKEN),
        (["--host", "203.0.113.1"], "got 203.0.113.1:8765: cannot assign requested address"),
        (["--port", "0", "--token-file", "/none"], "server.token_file: expected a text file of tokens"),
        (["--port", "0", "--tls-key", "/none"], "server.tls_key: expected server.tls_certificate with it"),
        (["--port", "0", "--store", "paper"], "got 'paper'"),
        (["--port", "0", "--max-sessions", "1000001"], "server.max_sessions: expected 1 to 1000000"),
    ],
)
def test_serve_loads_nothing_before_it_knows_that_it_can_serve(server, loading, capsys, words, told):
    taken = server.url.rpartition(":")[2]
    assert main(["serve", *(word.format(taken=taken) for word in words)]) == 2
    assert told.format(taken) in capsys.readouterr().err
    assert not loading


# --- the pages ------------------------------------------------------------------------------------


def test_health_and_readiness(tmp_path):
    store = SqliteStore(tmp_path / "sessions.sqlite")
    with serve(store=store, drain_s=PATIENCE_S) as running:
        assert get(running.url, "/healthz")[::2] == (200, b"ok\n")
        assert get(running.url, "/readyz")[::2] == (200, b"ready\n")
        store.close()
        status, _, why = get(running.url, "/readyz")
        assert (status, why) == (503, b"the store of sessions cannot be used\n")  # no path: anybody may ask
        assert get(running.url, "/healthz")[0] == 200  # it is alive: a restart would not help
        with Client(running.socket_url, greeted=False) as client:
            assert client.code() == 1011
            assert client.seen[-1]["code"] == "internal" and client.seen[-1]["retryable"]


def test_the_page_and_its_files(server):
    status, headers, body = get(server.url)
    assert status == 200 and b"<html" in body
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    place = server.url.removeprefix("http://")
    policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("connect-src") == f"'self' ws://{place} wss://{place}"
    own = {name for name, places in policy.items() if places == "'self'"}
    assert own == {"script-src", "style-src", "img-src"} and policy["default-src"] == "'none'"
    assert {places for name, places in policy.items() if name not in own} == {"'none'"}
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert get(server.url, "/index.html?x=/../")[2] == body
    for path, kind in [
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/sample.flac", "audio/flac"),
    ]:
        status, headers, body = get(server.url, path)
        assert (status, headers["Content-Type"], len(body) > 0) == (200, kind, True), path


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py", "/%2e%2e/%2e%2e/pyproject.toml", "/..%2f..%2fpyproject.toml", "//etc/passwd",
        "/%2fetc%2fpasswd", "/.hidden", "/folder/.git/config", "/%00", "/index.html%00", "/folder", "/secret",
        "/none", "/" + "x" * 5000, "/%ff%fe", "//[", "/..", "/link/server.py", "/index.html/index.html",
    ],
)  # fmt: skip
def test_nothing_outside_the_page_is_shown(tmp_path, path):
    web = tmp_path / "web"
    (web / "folder" / ".git").mkdir(parents=True)
    for name in ("index.html", ".hidden", "folder/.git/config"):
        (web / name).write_text("seen")
    (tmp_path / "secret").write_text("seen")
    (web / "link").symlink_to(ROOT / "stream_erc")
    with serve(web=web) as running:
        host, port = running.url.removeprefix("http://").split(":")
        connection = HTTPConnection(host, int(port), timeout=PATIENCE_S)
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, b"seen" in answer.read()) == (404, False)
        connection.close()


def test_a_socket_is_for_websockets_alone(server):
    assert get(server.url, "/v1/session")[0] == 426
    with pytest.raises(InvalidStatus, match="404"):
        Client(server.socket_url.replace("/v1/session", "/v2/session"))


# --- what an operator sees ------------------------------------------------------------------------


def test_metrics_tell_how_it_goes_and_not_what_was_said():
    with serve({"hash": FakeEngine(analysis_s=0.02)}) as running:
        before = metrics(running)
        assert before["stream_erc_sessions",] == 0
        assert {("stream_erc_queue_depth", q) for q in ("analyses", "classifications", "outgoing")} <= set(
            before
        )
        with Client(running.socket_url) as client:
            assert metrics(running)["stream_erc_sessions",] == 1
            client.send("session.update", pace="replay")
            client.send_audio(TALK)
            client.socket.send("not JSON")
            client.send("session.close")
            assert client.code() == 1000
        assert eventually(lambda: metrics(running).get(("stream_erc_connections_ended_total", "1000")) == 1)
        after = metrics(running)
        assert after["stream_erc_sessions",] == 0
        assert after["stream_erc_sessions_opened_total", "new"] == 1
        assert after["stream_erc_turns_total", "final"] == 4
        assert after["stream_erc_errors_total", "invalid_message"] == 1
        assert after["stream_erc_audio_seconds_total",] == pytest.approx(len(TALK) / 16_000)
        for stage in ("endpointing", "asr", "features", "emotion", "total"):
            assert after["stream_erc_stage_seconds_count", stage] == 4, stage
        assert after["stream_erc_stage_seconds_sum", "total"] >= 4 * 0.2  # endpointing waits for 200 ms
        assert after["stream_erc_delivery_seconds_count",] == 5
        assert after["stream_erc_save_seconds_count",] >= 5
        assert after["stream_erc_queue_depth", "analyses"] == 0
        said = {e["text"] for e in client.events if "text" in e}
        text = get(running.url, "/metrics")[2].decode()
        assert not [word for word in said if word in text]


def test_events_that_come_again_are_counted_once():
    with serve() as running:
        with Client(running.socket_url) as client:
            client.send("session.update", turns="appended")
            client.send("turn.append", text="hello", speaker="Anna")
            client.until("turn.final")
            client.vanish()
        with Client(running.socket_url) as again:
            again.resume(client.created["resume_token"], 0)
            assert again.until("turn.final")["event_id"] == 1
        assert metrics(running)["stream_erc_turns_total", "final"] == 1
        assert metrics(running)["stream_erc_sessions_opened_total", "resumed"] == 1


def test_the_log_holds_no_word_no_audio_and_no_token(tokens, capsys):
    with json_logs(), serve(token_file=tokens) as running:
        with Client(running.socket_url, token="open-sesame") as client:
            client.send("session.update", turns="appended")
            client.send("turn.append", text="a secret word", speaker="Mata Hari")
            client.send("speaker.rename", speaker="Mata Hari", name="Margaretha")
            client.send("turn.append", text="\ud83e\udd2b" * 20_001)
            client.until("speaker.updated")
            client.vanish()
        with Client(running.socket_url, greeted=False) as other:
            other.send("session.authenticate", token="open-sesame")
            other.receive()
            other.resume(client.created["resume_token"], 0)
            other.send("session.close")
            assert other.code() == 1000
        with Client(running.socket_url, token="open-sesame") as heard:
            heard.send("session.update", pace="replay")
            heard.send_audio(TALK)
            heard.send("session.close")
            assert heard.code() == 1000
    log = capsys.readouterr().err
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["event"] for line in lines if "session" in line["event"]][:2] == [
        "session begun",
        "session resumed",
    ]
    assert {"connection ended", "stopping"} <= {line["event"] for line in lines}
    tokens_given = [client.created["resume_token"], other.seen[0]["resume_token"], "open-sesame"]
    said = ["secret", "Mata", "Margaretha", *(str(e["text"]) for e in heard.events if "text" in e)]
    assert [word for word in [*tokens_given, *said] if str(word) in log] == []


def test_neither_audio_nor_words_are_readable_where_they_are_stored(tmp_path):
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.1, len(TALK)).astype(np.float32)
    audio = np.clip(np.where(TALK != 0, TALK + noise, noise / 1000), -1, 1).astype(np.float32)
    with serve(store=SqliteStore(tmp_path / "sessions.sqlite")) as running:
        with Client(running.socket_url) as client:
            client.send("session.update", pace="replay")
            client.send_audio(audio[:-1_600])
            for _ in range(4):
                client.until("turn.final")
            client.send_audio(audio[-1_600:])
            client.settle()
            stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
            client.send("session.close")
            assert client.code() == 1000
        stored += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"SQLite format" in stored and b"s_" in stored
    assert b"heard " not in stored and b"speaker_1" not in stored
    pcm = np.frombuffer(to_pcm16(audio), "<i2")
    floats = (pcm.astype(np.float32) / np.float32(32_768)).astype("<f4")
    loud = np.flatnonzero(np.abs(pcm) > 100)
    for at in loud[:: len(loud) // 400]:
        assert pcm[at : at + 8].tobytes() not in stored, at
        assert floats[at : at + 4].tobytes() not in stored, at


# --- stopping -------------------------------------------------------------------------------------


def test_a_stopped_server_tells_keeps_and_another_one_goes_on(tmp_path):
    whole = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900)])
    path = f"sqlite:{tmp_path / 'sessions.sqlite'}"
    with serve() as running:
        undisturbed = converse(running.socket_url, whole, partials=False)
    with serve({"hash": FakeEngine(analysis_s=0.3)}, store=open_store(path), drain_s=PATIENCE_S) as running:
        client = Client(running.socket_url)
        client.answer("session.update", pace="replay", partials=False)
        client.send_audio(whole[: len(whole) * 2 // 3])
        client.settle()
        running.server.stop()
        going = client.until("session.going_away")
        assert going["time_left_ms"] == 1000 * PATIENCE_S
        assert client.code() == 1012
        running.thread.join(PATIENCE_S)
        with pytest.raises(OSError, match="refused"):
            get(running.url, "/healthz")
    known = max((int(str(e["event_id"])) for e in client.events), default=0)
    assert known == 2  # pending turns were finished before the close
    with serve(store=open_store(path)) as running, Client(running.socket_url) as again:
        resumed = again.resume(client.created["resume_token"], known)
        assert resumed["type"] == "session.resumed" and resumed["event_id"] == known
        again.send_audio(whole[int(str(resumed["audio_ms"])) * 16 :])
        again.send("session.close")
        assert again.code() == 1000
        assert client.events + again.events == undisturbed


def test_while_clients_are_drained_http_is_answered():
    running = start({"hash": FakeEngine(analysis_s=0.5)}, drain_s=PATIENCE_S)
    with Client(running.socket_url) as client:
        client.send("session.update", pace="replay", partials=False)
        client.send_audio(TALK)
        client.settle()
        running.server.stop()
        client.until("session.going_away")
        assert get(running.url, "/readyz")[::2] == (503, b"draining\n")
        assert get(running.url, "/healthz")[0] == 200
        assert asked(running.url, "Host: localhost") == b"503"
        assert metrics(running)["stream_erc_refused_total", "503"] == 1
        assert client.code() == 1012
        assert len([e for e in client.events if e["type"] == "turn.final"]) == 4
    running.thread.join(PATIENCE_S)
    assert not running.thread.is_alive()


def test_stopping_waits_for_nobody_for_long():
    running = start({"hash": FakeEngine(analysis_s=0.05)}, drain_s=0.1)
    host, port = running.url.removeprefix("http://").split(":")
    silent = socket.create_connection((host, int(port)))  # says nothing, not even a request
    deaf = Client(running.socket_url)
    deaf.socket.socket.shutdown(socket.SHUT_WR)  # never answers a close
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < PATIENCE_S / 2
    running.server.stop()  # again, after the end: no effect
    silent.close()
    deaf.vanish()


PROGRAM = """
import asyncio, sys
from fakes import CONFIG
from serving import FakeEngine
from stream_erc.config import Config, ServerConfig
from stream_erc.server.server import Server
from stream_erc.server.stores.opening import open_store
server = ServerConfig(port=0, drain_s=float(sys.argv[2]))
engines = {"hash": FakeEngine(analysis_s=float(sys.argv[3]))}
asyncio.run(Server(Config(session=CONFIG, server=server), engines, open_store(sys.argv[1])).run(print))
"""


def test_a_signal_drains_and_after_it_signals_are_as_in_any_program():
    server = Server(
        Config(session=CONFIG, server=ServerConfig(port=0, drain_s=PATIENCE_S)),
        {"hash": FakeEngine(analysis_s=0.2)},  # type: ignore[dict-item]
        MemoryStore(),
    )
    urls: queue.Queue[str] = queue.Queue()
    clients, handlers, reloads = [], [], []
    server.reload = lambda: reloads.append(server)  # type: ignore[method-assign]

    def converse_and_stop() -> None:
        client = Client(urls.get(timeout=PATIENCE_S).replace("http", "ws") + "/v1/session")
        clients.append(client)
        client.answer("session.update", pace="replay", partials=False)
        client.send_audio(TALK)
        os.kill(os.getpid(), signal.SIGHUP)
        client.settle()
        os.kill(os.getpid(), signal.SIGTERM)
        client.until("session.going_away")
        handlers.extend(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT))
        clients.append(client.code())

    thread = threading.Thread(target=converse_and_stop)
    thread.start()
    asyncio.run(server.run(urls.put))  # the signal comes to the main thread
    thread.join(PATIENCE_S)
    client, code = clients
    assert code == 1012 and len(client.events) == 4  # pending turns were finished
    assert handlers == [signal.SIG_DFL, signal.default_int_handler]
    assert reloads == [server]


@pytest.mark.slow
def test_a_second_sigterm_ends_at_once_and_nothing_is_damaged(tmp_path):
    with program(PROGRAM, f"sqlite:{tmp_path / 'sessions.sqlite'}", 4 * PATIENCE_S, 4 * PATIENCE_S) as (
        process,
        url,
    ):
        client = Client(url)
        client.answer("session.update", pace="replay", partials=False)
        client.send_audio(TALK)
        client.settle()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        client.until("session.going_away")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == -signal.SIGTERM
        assert time.monotonic() - began < PATIENCE_S
        client.vanish()
    with contextlib.closing(sqlite3.connect(tmp_path / "sessions.sqlite")) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with (
        serve(store=SqliteStore(tmp_path / "sessions.sqlite")) as running,
        Client(running.socket_url) as again,
    ):
        assert again.resume(client.created["resume_token"], 0)["type"] == "session.resumed"


def test_silence_and_the_end_of_a_stopped_session_come_again():
    """A client whose last message was lost resumes a closed session, and receives its last events."""
    with serve() as running:
        with Client(running.socket_url) as client:
            client.send("session.update", pace="replay")
            client.send_audio(silence(0.5))
            client.send("session.close", keep=True)
            assert client.code() == 1000
        with Client(running.socket_url) as again:
            resumed = again.resume(client.created["resume_token"], 0)
            assert resumed["type"] == "session.resumed" and resumed["event_id"] == 1
            assert again.code() == 1000
            assert again.events == client.events


def test_sessions_are_accepted_while_the_models_load_and_wait_for_them() -> None:
    loaded = threading.Event()

    class Cold(FakeEngine):
        def warm_up(self) -> None:
            loaded.wait(PATIENCE_S)

    with serve({"hash": Cold()}) as running:
        assert get(running.url, "/readyz")[::2] == (503, b"loading the models\n")
        assert get(running.url, "/healthz")[0] == 200
        with Client(running.socket_url) as client:
            client.send_audio(conversation([(0.8, 440)]))
            client.send("session.close")
            client.until("speech.started")
            loaded.set()
            assert client.until("turn.final")["turn"] == 0
        assert eventually(lambda: get(running.url, "/readyz")[0] == 200)


@pytest.mark.parametrize("error", [CheckpointError("got no encoder"), ImportError("no encoder")])
def test_a_server_whose_models_cannot_be_loaded_ends_with_the_reason(error: Exception) -> None:
    broken = threading.Event()

    class Broken(FakeEngine):
        def warm_up(self) -> None:
            broken.wait(PATIENCE_S)
            raise error

    async def run() -> None:
        server = Server(Config(server=ServerConfig(port=0, drain_s=0.1)), {"hash": Broken()}, MemoryStore())
        await server.run(lambda url: broken.set())

    with pytest.raises(type(error), match=str(error)):
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
