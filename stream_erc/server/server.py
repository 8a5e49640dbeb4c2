"""The WebSocket server: who may connect, the page and the metrics beside it, and an orderly end."""

import asyncio
import contextlib
import logging
import mimetypes
import resource
import signal
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

import stream_erc
from stream_erc.config import Config, ServerConfig
from stream_erc.exceptions import ConfigError, StoreError
from stream_erc.inference.engine import Engine
from stream_erc.inference.workers import ThreadWorker
from stream_erc.protocol.negotiation import Offer
from stream_erc.server.address import in_url, unusable
from stream_erc.server.connection import Connection
from stream_erc.server.metrics import CONTENT_TYPE
from stream_erc.server.origins import Origins
from stream_erc.server.shared import SharedState
from stream_erc.server.stores.base import SessionStore
from stream_erc.server.websocket import WebSocket, limit_pending_handshakes

log = logging.getLogger(__name__)

PATH = "/v1/session"
STORE_THREADS = 4
SWEEP_S = 60.0
STEP_S = 1.0
"""A wall clock that gained so much on the monotonic one between two sweeps was stepped."""

PING_S = 20.0
"""How often the WebSocket's own ping is sent, so that nothing between takes a connection for dead. No answer
is asked for in time: from a client that is not read from, it would not be seen."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
OPEN_S = CLOSE_S = 5.0
"""How long a client may take to ask for a WebSocket, and to answer a close."""

LEAVE_S = 10.0
"""How long connections may take to end after they were drained: a farewell and a close, or an open."""

BASE_CONNECTIONS, CONNECTIONS_PER_SESSION = 128, 4
"""Connections that may be there, with a session or without: so many, and so many for each session. As many
more may be there that have not asked for anything yet: more than come in at once, which are up to 100."""

SPARE_FILES = 64
"""Of those that a process may have open: for models, the store, and who asks for a page."""

POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; worker-src 'self' blob:; "
    "img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".flac": "audio/flac", ".wav": "audio/wav"}


class Server:
    """Serves sessions until it is told to stop.

    Args:
        config: of the sessions and the server.
        engines: model name -> engine; the first is the default.
        store: keeps the sessions; closed at the end.
        web: a folder with the page, None for none.

    Raises:
        ConfigError: a token file or a certificate that cannot be used.
    """

    def __init__(
        self, config: Config, engines: Mapping[str, Engine], store: SessionStore, web: Path | None = None
    ) -> None:
        self._config, self._store, self._web = config.server, store, web
        self._offer = Offer(engines, config.session, config.server)
        self._tokens = _tokens(config.server)
        self._tls = _tls(config.server)
        self._origins = Origins(config.server)
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._service: SharedState | None = None
        self._clients: set[asyncio.Task[None]] = set()  # of who asked for a WebSocket and is there still
        self._most = 0  # such connections

    def stop(self) -> None:
        """Begin to stop; from any thread. It may be called again, and after the end."""
        self._stopping.set()
        if self._loop is not None and self._service is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._service.leaving.set)

    def _signalled(self) -> None:
        """Begin to stop; a second signal does what it does to any program."""
        assert self._loop is not None
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)
        self.stop()

    async def run(self, ready: Callable[[str], None] = lambda url: None) -> None:
        """Listen until `stop`, or SIGTERM or SIGINT in the main thread; then drain. A second signal kills.

        Args:
            ready: told the URL of the page when connections are taken.

        Raises:
            InputError: the address cannot be listened at.
        """
        self._loop, self._most = asyncio.get_running_loop(), _most_clients(self._config.max_sessions)
        workers = {
            name: ThreadWorker(engine, threads=self._config.threads)
            for name, engine in self._offer.engines.items()
        }
        threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        version = f"stream-erc {metadata.version('stream-erc')}"
        service = SharedState(self._offer, workers, self._store, threads, self._tokens, version)
        self._service = service
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._loop.add_signal_handler(number, self._signalled)
        if self._stopping.is_set():
            service.leaving.set()
        try:
            await self._listen(service, ready)
        finally:
            for worker in workers.values():
                await asyncio.to_thread(worker.close)
            threads.shutdown()
            self._store.close()

    async def _listen(self, service: SharedState, ready: Callable[[str], None]) -> None:
        """Listen until the server is told to stop and its clients have gone: until then HTTP is answered."""
        assert self._loop is not None
        listening = serve_websockets(
            self._connected,
            self._config.host,
            self._config.port,
            process_request=self._answer,
            compression=None,
            max_size=self._config.max_message_bytes,
            max_queue=4,
            open_timeout=OPEN_S + self._config.penalty_s,
            close_timeout=CLOSE_S,
            ping_interval=PING_S,
            ping_timeout=None,
            server_header=None,
            ssl=self._tls,
            logger=logging.getLogger("stream_erc.websockets"),
            create_connection=limit_pending_handshakes(self._most),
        )
        try:
            server = await listening
        except OSError as error:
            raise unusable(self._config.host, self._config.port, error) from error
        sweeping = asyncio.create_task(self._sweep(service))
        port = server.sockets[0].getsockname()[1]
        ready(f"{'https' if self._tls else 'http'}://{in_url(self._config.host)}:{port}")
        await service.leaving.wait()
        log.info("stopping", extra={"sessions": len(service.connections)})
        end = self._loop.time() + self._config.drain_s + LEAVE_S  # whoever is left then can resume
        if self._clients:
            await asyncio.wait(self._clients, timeout=end - self._loop.time())
        server.close(close_connections=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await server.wait_closed()
        sweeping.cancel()

    async def _sweep(self, service: SharedState) -> None:
        """Delete what has expired, and nothing that is in use.

        Where the wall clock was stepped, all that is in use looks old: it is renewed, and other processes
        with the same store have until the next time to do so.
        """
        offset = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.time()
            before, offset = offset, now - time.monotonic()
            try:
                await service.renew(now + service.lifetime_s)
                if offset - before < STEP_S:
                    await service.stored(partial(self._store.sweep, now))
            except StoreError as error:
                log.warning("%s", error)

    # --- WebSocket --------------------------------------------------------------------------------

    async def _connected(self, client: ServerConnection) -> None:
        assert self._service is not None and client.request is not None
        authorized = self._service.admits(_bearer(_joined(client.request.headers)))
        await Connection(self._service, WebSocket(client), authorized=authorized).run()

    # --- HTTP -------------------------------------------------------------------------------------

    async def _answer(self, client: ServerConnection, request: Request) -> Response | None:
        """The answer to a request that is not for a WebSocket; None lets it become one."""
        assert self._service is not None
        path = unquote(request.path.partition("?")[0])
        if path == PATH:
            return await self._opening(WebSocket(client).peer, request)
        if path == "/healthz":
            return _response(HTTPStatus.OK, b"ok\n")
        if path == "/readyz":
            return await self._readiness(self._service)
        if path == "/metrics":
            return _response(HTTPStatus.OK, self._service.telemetry.text(), CONTENT_TYPE)
        return self._file(path)

    async def _opening(self, peer: str, request: Request) -> Response | None:
        """The answer to who asks for a WebSocket; None opens it."""
        assert self._service is not None
        headers = _joined(request.headers)
        if "upgrade" not in headers.get("connection", "").lower():
            return _response(HTTPStatus.UPGRADE_REQUIRED, b"expected a WebSocket: see docs/protocol.md\n")
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        refused = self._refused(headers)
        if refused is None:
            return None
        self._service.telemetry.refused.labels(refused[0].value).inc()
        if refused[0] is HTTPStatus.UNAUTHORIZED:
            log.warning("wrong token", extra={"peer": peer})
            with contextlib.suppress(TimeoutError):  # who guesses is to guess slowly
                async with asyncio.timeout(self._config.penalty_s):
                    await self._service.leaving.wait()
        return _response(*refused)

    def _refused(self, headers: Mapping[str, str]) -> tuple[HTTPStatus, bytes] | None:
        """Why a WebSocket is not to be opened, if there is a reason."""
        assert self._service is not None
        origin, known = headers.get("origin"), self._service.admits(_bearer(headers))
        if origin is not None and not self._origins.allow(origin, headers.get("host", "")):
            return HTTPStatus.FORBIDDEN, b"expected a page of this server, or an allowed Origin\n"
        if self._service.leaving.is_set():
            return HTTPStatus.SERVICE_UNAVAILABLE, b"the server stops\n"
        if len(self._clients) > self._most and not known:
            return HTTPStatus.SERVICE_UNAVAILABLE, b"expected fewer connections, got one more\n"
        if "authorization" in headers and self._tokens and not known:
            return HTTPStatus.UNAUTHORIZED, b"expected a bearer token that this server knows\n"
        return None

    async def _readiness(self, service: SharedState) -> Response:
        """Whether a session could begin now."""
        if service.leaving.is_set():
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, b"draining\n")
        if service.full:
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, b"full\n")
        try:
            await service.stored(self._store.ready)
        except StoreError as error:
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
        return _response(HTTPStatus.OK, b"ready\n")

    def _file(self, path: str) -> Response:
        """A file of the page."""
        missing = _response(HTTPStatus.NOT_FOUND, b"expected /, /v1/session, /healthz, /readyz or /metrics\n")
        if self._web is None or "/." in path:
            return missing
        root = self._web.resolve()
        try:
            file = (root / (path.lstrip("/") or "index.html")).resolve()
            body = file.read_bytes() if file.is_relative_to(root) else None
        except (OSError, ValueError):  # not there, a folder; a name that no file can have
            return missing
        if body is None:
            return missing
        kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return _response(HTTPStatus.OK, body, kind)


def _most_clients(sessions: int) -> int:
    """How many connections there may be, after the process asked for the files that they need."""
    clients = CONNECTIONS_PER_SESSION * sessions + BASE_CONNECTIONS
    files, (soft, hard) = 2 * clients + SPARE_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return clients
    soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
    with contextlib.suppress(ValueError, OSError):  # a system may allow less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fit = max(1, min(clients, (soft - SPARE_FILES) // 2))
    if fit < sessions:
        log.warning("expected %d open files to be allowed, got %d: see ulimit -n", files, soft)
    return fit


def check_access(config: ServerConfig) -> None:
    """See that the tokens and the certificate can be used, before anything is loaded.

    Raises:
        ConfigError: they cannot.
    """
    _tokens(config)
    _tls(config)


def web_folder() -> Path | None:
    """The page: where the package was installed, or in the checkout."""
    package = Path(stream_erc.__file__).resolve().parent
    places = (package / "web", package.parent / "clients" / "web")
    return next((place for place in places if (place / "index.html").is_file()), None)


def _response(status: HTTPStatus, body: bytes, kind: str = "text/plain") -> Response:
    text = kind.startswith("text/") and "charset" not in kind
    headers = Headers(
        {
            "Content-Type": f"{kind}; charset=utf-8" if text else kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)


def _joined(headers: Headers) -> Mapping[str, str]:
    """Headers by their names in lower case, each that comes again in one."""
    return {name: ", ".join(headers.get_all(name)) for name in headers}


def _bearer(headers: Mapping[str, str]) -> str:
    """The token of the header Authorization, "" where there is none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _tokens(config: ServerConfig) -> frozenset[str]:
    """The bearer tokens that are taken."""
    if config.token_file is None:
        return frozenset()
    try:
        text = Path(config.token_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"server.token_file: expected a text file of tokens, got {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"server.token_file: expected at least one token in {config.token_file}, got none")
    return frozenset(lines)


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    if config.tls_certificate is None:
        if config.tls_key is not None:
            raise ConfigError("server.tls_key: expected server.tls_certificate with it, got none")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"server.tls_certificate: expected a PEM file, got {error}") from error
    return context
