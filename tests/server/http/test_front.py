"""HTTP on the port of the WebSockets: methods, connections that last, halves of connections, limits."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import ClassVar

import pytest
from serving import PATIENCE_S, Client, FakeEngine, Running, eventually, serve

from stream_erc.server.http.front import Front, Waiting, _asks_for_websocket


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve() as running:
        yield running


def address(running: Running) -> tuple[str, int]:
    host, port = running.url.rpartition("/")[2].split(":")
    return host, int(port)


@contextlib.contextmanager
def opened(running: Running) -> Iterator[socket.socket]:
    with socket.create_connection(address(running), PATIENCE_S) as bare:
        yield bare


def to_the_end(bare: socket.socket) -> bytes:
    data = b""
    while piece := bare.recv(65_536):
        data += piece
    return data


@contextlib.contextmanager
def http(running: Running) -> Iterator[HTTPConnection]:
    with contextlib.closing(HTTPConnection(*address(running), timeout=PATIENCE_S)) as connection:
        yield connection


def ask(
    connection: HTTPConnection, method: str, path: str, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read()


# --- methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/v1/models", "/main.js"])
def test_get_and_head_are_answered_alike_on_one_connection(server, path):
    with http(server) as connection:
        status, headers, body = ask(connection, "GET", path)
        own = connection.sock
        assert status == 200 and body and int(headers["Content-Length"]) == len(body)
        status, headers, empty = ask(connection, "HEAD", path)
        assert (status, empty) == (200, b"")
        if path != "/metrics":  # which have changed since
            assert int(headers["Content-Length"]) == len(body)
        assert ask(connection, "GET", "/healthz")[2] == b"ok\n"
        assert connection.sock is own  # it was kept alive


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/main.js", "GET, HEAD"),
        ("PUT", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
        ("POST", "/v1/session", "GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("GET", "/v1/audio/transcriptions", "POST"),
    ],
)
def test_other_methods_are_refused_with_those_that_are_not(server, method, path, allowed):
    with http(server) as connection:
        status, headers, body = ask(connection, method, path)
        assert (status, headers["Allow"]) == (405, allowed)
        assert f"expected {allowed} for {path}, got {method}".encode() in body
        assert ask(connection, "GET", "/healthz")[0] == 200


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_what_is_not_there(server, method):
    with http(server) as connection:
        assert ask(connection, method, "/none")[0] == 404
        assert ask(connection, method, "/v1/none")[0] == 404


# --- connections ----------------------------------------------------------------------------------

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET + b"\r\n", b"200"),
        (GET + b"Content-Length: 3\r\n\r\nabc", b"200"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /v1/session HTTP/1.1\r\nHost: localhost\r\n\r\n", b"426"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET nonsense\r\n\r\n", b"400"),
        (GET + b"no colon\r\n\r\n", b"400"),
    ],
)
def test_who_sends_no_more_gets_the_answer(server, sent, status, caplog):
    with opened(server) as bare:
        bare.sendall(sent)
        bare.shutdown(socket.SHUT_WR)
        assert to_the_end(bare)[9:12] == status
    assert not caplog.records


def test_bytes_behind_a_request_are_the_next_request_or_a_bad_one(server, caplog):
    with opened(server) as bare:
        bare.sendall(GET + b"\r\n" + GET + b"\r\n")
        bare.shutdown(socket.SHUT_WR)
        assert to_the_end(bare).count(b"HTTP/1.1 200 OK") == 2
    with opened(server) as bare:
        bare.sendall(GET + b"\r\n" + b"no more of it\r\n\r\n")
        assert to_the_end(bare)[9:12] == b"400"
    with opened(server) as bare:
        bare.sendall(GET + b"\r\n")
        assert bare.recv(65_536)[9:12] == b"200"
        bare.sendall(b"no more of it\r\n\r\n")
        assert to_the_end(bare)[9:12] == b"400"
    assert not caplog.records


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_head_that_comes_in_pieces(server, pieces):
    with opened(server) as bare:
        data = GET + b"Connection: close\r\n\r\n"
        for at in range(0, len(data), pieces):
            bare.sendall(data[at : at + pieces])
            time.sleep(0.001)
        assert to_the_end(bare).startswith(b"HTTP/1.1 200 OK")


def test_a_head_without_an_end_is_dropped(monkeypatch):
    monkeypatch.setattr("stream_erc.server.server.OPEN_TIMEOUT_S", 0.3)
    with serve() as running:
        for beginning in (b"", b"GET /v1/se", GET, b"POST /v1/audio/transcriptions HTTP/1.1\r\n"):
            with opened(running) as bare:
                bare.sendall(beginning)
                with contextlib.suppress(ConnectionResetError):
                    assert bare.recv(1) == b"", beginning


def test_a_client_that_does_not_read_is_dropped():
    with serve(slow_reader_s=0.3) as running, opened(running) as bare:
        bare.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionError):
            while True:  # asks and never reads, until the server gives up
                bare.sendall((GET.replace(b"healthz", b"")) + b"\r\n")


def test_connections_without_a_request_are_bounded(monkeypatch):
    monkeypatch.setattr("stream_erc.server.server.BASE_CONNECTIONS", 3)
    monkeypatch.setattr("stream_erc.server.server.CONNECTIONS_PER_SESSION", 1)
    with serve(max_sessions=1) as running, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(http(running)) for _ in range(12)]
        for connection in kept:
            assert ask(connection, "GET", "/healthz")[0] == 200
        dropped = 0
        for connection in kept:
            assert connection.sock is not None
            connection.sock.settimeout(0.2)
            try:
                dropped += connection.sock.recv(1) == b""
            except TimeoutError:
                pass
            except ConnectionResetError:
                dropped += 1
        assert dropped == 12 - 4
        with Client(running.socket_url) as client:
            client.settle()


def test_a_connection_that_has_begun_with_http_opens_no_websocket(server):
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with opened(server) as bare:
        bare.sendall(GET + b"\r\n")
        assert bare.recv(65_536).startswith(b"HTTP/1.1 200")
        bare.sendall(b"GET /v1/session HTTP/1.1\r\nHost: localhost\r\n" + upgrade)
        assert bare.recv(65_536).startswith(b"HTTP/1.1 426")


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"G", None),
        (b"GET /v1/session HTTP/1.1\r\nConnection: Upgrade\r\n", None),
        (b"GET /v1/session HTTP/1.1\r\nConnection: Upgrade\r\n\r\n", True),
        (b"GET /v1%2Fsession?a=b HTTP/1.1\r\nconnection:keep-alive, upgrade\r\n\r\n", True),
        (b"GET /v1/session HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET /v1/sessions HTTP/1.1\r\nConnection: Upgrade\r\n\r\n", False),
        (b"POST /v1/session HTTP/1.1\r\n", False),
        (b"\x16\x03\x01", False),
        (b"GET /" + 70_000 * b"a", False),
    ],
)
def test_which_heads_are_for_websockets(head, wanted):
    assert _asks_for_websocket(head, "/v1/session") is wanted


def test_the_oldest_of_too_many_is_dropped():
    class Fake:
        dropped = False

        def abort(self) -> None:
            self.dropped = True

    waiting, fakes = Waiting(2), [Fake() for _ in range(4)]
    for fake in fakes[:2]:
        waiting.add(fake)  # type: ignore[arg-type]
    waiting.remove(fakes[0])  # type: ignore[arg-type]
    for fake in fakes[2:]:
        waiting.add(fake)  # type: ignore[arg-type]
    assert [fake.dropped for fake in fakes] == [False, True, False, False]


# --- names ----------------------------------------------------------------------------------------

PATHS = ("/", "/healthz", "/readyz", "/metrics", "/v1/session", "/v1/models", "/none")


@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_name_of_a_loopback_server_gets_nothing(server, path):
    with http(server) as connection:
        for name in ("evil.example", "localhost.evil.example:80", "192.168.0.7"):
            status, headers, body = ask(connection, "GET", path, Host=name)
            assert status == 403 and b"expected a name of this machine" in body, name
            assert "Access-Control-Allow-Origin" not in headers
        assert ask(connection, "GET", path, Host="localhost")[0] in (200, 404, 426)


def test_a_server_for_others_or_behind_a_proxy_has_any_name(tmp_path):
    (tmp_path / "tokens").write_text("open-sesame\n")
    for options in (
        {"host": "0.0.0.0"},
        {"token_file": str(tmp_path / "tokens")},
        {"allow_origins": ("https://a.example",)},
    ):
        with serve(**options) as running:
            running.url = running.url.replace("localhost", "127.0.0.1")
            with http(running) as connection:
                assert ask(connection, "GET", "/healthz", Host="a.example")[0] == 200


# --- tokens, health -------------------------------------------------------------------------------


def test_with_tokens_the_metrics_ask_for_one_and_health_does_not(tmp_path):
    (tmp_path / "tokens").write_text("open-sesame\n")
    with serve(token_file=str(tmp_path / "tokens"), penalty_s=0.3) as running, http(running) as connection:
        assert ask(connection, "GET", "/healthz")[0] == ask(connection, "GET", "/readyz")[0] == 200
        status, headers, _ = ask(connection, "GET", "/metrics")
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        began = time.monotonic()
        assert ask(connection, "GET", "/metrics", Authorization="Bearer wrong")[0] == 401
        assert time.monotonic() - began >= 0.3
        status, _, body = ask(connection, "GET", "/metrics", Authorization="Bearer open-sesame")
        assert status == 200 and b'stream_erc_refused_total{status="401"} 2.0' in body


def test_tls_serves_both(certificate):
    with serve(tls_certificate=certificate[0], tls_key=certificate[1]) as running:
        trusting = ssl.create_default_context(cafile=certificate[0])
        with (
            socket.create_connection(address(running), PATIENCE_S) as bare,
            trusting.wrap_socket(bare, server_hostname="127.0.0.1") as tls,
        ):
            for _ in range(2):
                tls.sendall(GET + b"\r\n")
                assert tls.recv(65_536).startswith(b"HTTP/1.1 200")
        with Client(running.socket_url, tls=trusting) as client:
            client.settle()


def test_a_stopping_server_closes_connections_that_are_kept():
    with serve({"hash": FakeEngine()}) as running, http(running) as connection:
        assert ask(connection, "GET", "/healthz")[0] == 200
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < PATIENCE_S / 4
        assert eventually(lambda: connection.sock is not None and connection.sock.recv(1) == b"")


# --- the front by itself --------------------------------------------------------------------------


class Transport(asyncio.Transport):
    """A transport that only notes its end."""

    closed = False

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


def test_a_slow_client_that_reads_again_is_not_dropped():
    class Http(asyncio.Protocol):
        told: ClassVar[list[str]] = []

        def pause_writing(self) -> None:
            self.told.append("pause")

        def resume_writing(self) -> None:
            self.told.append("resume")

    async def run() -> bool:
        transport, dropped = Transport(), asyncio.Event()
        transport.abort = dropped.set  # type: ignore[method-assign]
        front = Front("/", asyncio.Protocol, Http, Waiting(9), open_timeout_s=9, slow_reader_s=0.05)
        front.connection_made(transport)
        front.data_received(b"POST / HTTP/1.1\r\n\r\n")
        with front.answering(lambda: False):
            front.pause_writing()
            front.resume_writing()
            await asyncio.sleep(0.2)
            in_time = not dropped.is_set()
            front.pause_writing()
            async with asyncio.timeout(PATIENCE_S):
                await dropped.wait()
            return in_time

    assert asyncio.run(run())
    assert Http.told == ["pause", "resume", "pause"]


@pytest.mark.parametrize("received", [True, False])
def test_a_client_that_has_ended_in_the_midst_of_its_request_has_left(received):
    async def run() -> bool:
        transport, waiting = Transport(), Waiting(9)
        protocols = ("/", asyncio.Protocol, asyncio.Protocol)
        front = Front(*protocols, waiting, open_timeout_s=9, slow_reader_s=9)
        front.connection_made(transport)
        front.data_received(b"POST / HTTP/1.1\r\n\r\n")
        assert front.eof_received()
        with front.answering(lambda: received):
            front._close_if_idle()  # its time comes while the request is answered
            return transport.closed

    assert asyncio.run(run()) is not received
