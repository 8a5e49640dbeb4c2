"""The server: it listens, hands connections to WebSockets or to HTTP, and stops in order."""

import asyncio
import contextlib
import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TypeAlias, cast

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
from stream_erc.server.access import Access
from stream_erc.server.address import in_url, unusable
from stream_erc.server.connection import Connection
from stream_erc.server.http.app import SECURITY_HEADERS, HttpServer
from stream_erc.server.http.front import Front, Waiting
from stream_erc.server.known_voices import KnownVoices
from stream_erc.server.limits import places_of
from stream_erc.server.machine import allow_open_files, keep_loaded, return_freed_memory
from stream_erc.server.origins import is_loopback
from stream_erc.server.shared import SharedState
from stream_erc.server.signals import handle_signals, restore_signals
from stream_erc.server.stores.base import SessionStore
from stream_erc.server.websocket import MAX_UNREAD_FRAMES, BoundedConnection, WebSocket

log = logging.getLogger(__name__)

PATH = "/v1/session"
STORE_THREADS = 4
SWEEP_INTERVAL_S = 60.0
TIDY_INTERVAL_S = 2.0
"""Seconds after which the memory of clients that have left is returned to the system."""

PING_INTERVAL_S = 20.0
"""Interval of WebSocket pings, which keep proxies from dropping idle connections.

The answer has no time limit: the server would not see it while it does not read from a client.
"""

OPEN_TIMEOUT_S = CLOSE_TIMEOUT_S = 5.0
"""Time limits for the opening handshake, beside the penalty of a wrong token, and for the closing one."""

SHUTDOWN_TIMEOUT_S = 10.0
"""Time limit for connections to end after draining: a final message and a close, or a handshake."""

BASE_CONNECTIONS, CONNECTIONS_PER_SESSION = 128, 4
"""Connection limit: BASE_CONNECTIONS + CONNECTIONS_PER_SESSION * max_sessions, with or without a session.

As many more connections may be pending before their first request. That exceeds the listen queue of 100.
"""

RESERVED_FILES = 64
"""Open files that are reserved for models, the store and requests for pages."""


MakeWorker: TypeAlias = Callable[[str, Engine, Callable[[Exception], None]], ThreadWorker]


class Server:
    """A server of sessions.

    Args:
        config: configuration of the sessions and the server.
        engines: model name -> engine; the first is the default.
        store: the store of sessions; the server closes it at the end.
        web: the folder of the page, None for no page.
        make_worker: makes the worker of a model's engine, given its name, the engine, and what to call if the
            engine cannot be used; None for threads of this process.

    Raises:
        ConfigError: the token file or the certificate cannot be used.
        VoicesError: the voice file cannot be used.
    """

    def __init__(
        self,
        config: Config,
        engines: Mapping[str, Engine],
        store: SessionStore,
        web: Path | None = None,
        make_worker: MakeWorker | None = None,
    ) -> None:
        self._make_worker = make_worker or partial(_thread_worker, config.server.threads)
        self._config, self._store, self._web = config.server, store, web
        self._offer = Offer(engines, config.session, config.server)
        self._tokens = _tokens(config.server)
        self._voices = KnownVoices(config)
        self._tls = self._certificate = _tls(config.server)
        if self._tls is not None:
            self._tls.sni_callback = self._use_certificate
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shared: SharedState | None = None
        self._access: Access | None = None
        self._failure: Exception | None = None  # of an engine that could not be loaded to its end

    def stop(self) -> None:
        """Begin to stop. It may be called from any thread, again, and after the end."""
        self._stopping.set()
        if self._loop is not None and self._shared is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._shared.stopping.set)

    def reload(self) -> None:
        """Read the tokens and the certificate again, on the event loop; connections stay as they are.

        What cannot be used is logged, and everything stays as it was.
        """
        try:
            tokens, tls = _tokens(self._config), _tls(self._config)
        except ConfigError as error:
            log.error("the files were not read again: %s", error)
            return
        if self._shared is not None:
            self._shared.tokens = tokens
        self._tokens, self._certificate = tokens, tls
        log.info("the tokens and the certificate were read again")

    def _use_certificate(self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Give a handshake the certificate that was read last."""
        assert self._certificate is not None
        handshake.context = self._certificate

    def _fail(self, error: Exception) -> None:
        """Begin to stop because of an error, which `run` raises at the end; from any thread."""
        self._failure = error
        self.stop()

    def _stop_on_signal(self) -> None:
        """Begin to stop, and restore the default action for a second signal."""
        assert self._loop is not None
        restore_signals(self._loop)
        self.stop()

    async def run(self, ready: Callable[[str], None] = lambda url: None) -> None:
        """Listen until `stop` is called, or the main thread gets SIGTERM or SIGINT; then drain.

        A second signal ends the process at once. At SIGHUP, tokens and certificate are read again. What an
        engine left for later is loaded meanwhile.

        Args:
            ready: called with the page's URL when the server accepts connections.

        Raises:
            InputError: the server cannot listen at the address.
            Exception: that of an engine that could not be loaded to its end.
        """
        self._loop = asyncio.get_running_loop()
        workers = {
            name: self._make_worker(name, engine, self._fail) for name, engine in self._offer.engines.items()
        }
        threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        version = f"stream-erc {metadata.version('stream-erc')}"
        places = places_of(
            self._config.max_sessions,
            self._config.max_sessions_per_address,
            transcribes=any(engine.languages for engine in self._offer.engines.values()),
            local=is_loopback(self._config.host),
        )
        log.info("places", extra={"sessions": places.most, "of_one_address": places.most_of_one})
        shared = SharedState(
            self._offer, workers, self._store, threads, self._tokens, self._voices, version, places
        )
        self._shared = shared
        if threading.current_thread() is threading.main_thread():
            handle_signals(self._loop, self._stop_on_signal, self.reload)
        if self._stopping.is_set():
            shared.stopping.set()
        try:
            await self._listen(shared, ready)
        finally:
            for worker in workers.values():
                await asyncio.to_thread(worker.close)
            threads.shutdown()
            self._store.close()
        if self._failure is not None:
            raise self._failure

    async def _listen(self, shared: SharedState, ready: Callable[[str], None]) -> None:
        """Listen until the server stops and its clients have left; it answers HTTP until then."""
        assert self._loop is not None
        max_clients = _max_clients(shared.places.most)
        self._access = access = Access(shared, max_clients)
        http, waiting = HttpServer(shared, access, self._web, PATH), Waiting(max_clients)

        def accept(*arguments: object, **options: object) -> Front:
            websocket = partial(BoundedConnection, *arguments, **options)  # type: ignore[arg-type]
            return Front(
                PATH,
                websocket,
                http.protocol,
                waiting,
                open_timeout_s=OPEN_TIMEOUT_S,
                slow_reader_s=self._config.slow_reader_s,
            )

        listening = serve_websockets(
            self._connected,
            self._config.host,
            self._config.port,
            process_request=self._handshake,
            compression=None,
            max_size=self._config.max_message_bytes,
            max_queue=MAX_UNREAD_FRAMES,
            open_timeout=OPEN_TIMEOUT_S + self._config.penalty_s,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=None,
            server_header=None,
            ssl=self._tls,
            logger=logging.getLogger("stream_erc.websockets"),
            create_connection=cast(type[ServerConnection], accept),
        )
        try:
            server = await listening
        except OSError as error:
            raise unusable(self._config.host, self._config.port, error) from error
        sweeping = asyncio.create_task(self._sweep(shared))
        tidying = asyncio.create_task(_tidy(shared, access))
        port = server.sockets[0].getsockname()[1]
        ready(f"{'https' if self._tls else 'http'}://{in_url(self._config.host)}:{port}")
        await shared.stopping.wait()
        log.info("stopping", extra={"sessions": len(shared.connections), "recordings": shared.recordings})
        # Clients that are still connected at the end can resume.
        end = self._loop.time() + self._config.drain_s + SHUTDOWN_TIMEOUT_S
        if access.clients:
            await asyncio.wait(access.clients, timeout=end - self._loop.time())
        server.close(close_connections=False)
        waiting.abort()
        await http.close(max(0.0, end - self._loop.time()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await server.wait_closed()
        sweeping.cancel()
        tidying.cancel()
        await self._sweep_now(shared)

    async def _sweep(self, shared: SharedState) -> None:
        """Delete expired sessions regularly, but none that is connected."""
        await self._sweep_now(shared)  # what expired while no server ran
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now = shared.clock.now()
            try:
                await shared.renew(now + shared.lifetime_s)
                await shared.call_store(partial(self._store.sweep, now))
            except StoreError as error:
                log.warning("%s", error)

    async def _sweep_now(self, shared: SharedState) -> None:
        """Delete expired sessions."""
        try:
            await shared.call_store(partial(self._store.sweep, shared.clock.now()))
        except StoreError as error:
            log.warning("%s", error)

    # --- WebSocket --------------------------------------------------------------------------------

    async def _connected(self, client: ServerConnection) -> None:
        """Serve a client whose WebSocket is open."""
        assert self._shared is not None and self._access is not None and client.request is not None
        authorized = self._access.admits(_joined(client.request.headers))
        await Connection(self._shared, WebSocket(client), authorized=authorized).run()

    async def _handshake(self, client: ServerConnection, request: Request) -> Response | None:
        """Return the response that refuses a WebSocket; None opens it."""
        assert self._access is not None
        peer = WebSocket(client).peer
        self._access.register(peer)
        headers = _joined(request.headers)
        refused = self._access.host_refusal(headers) or self._access.refusal(headers, needs_token=False)
        if refused is None:
            return None
        await self._access.count(refused, headers, peer)
        response = client.respond(refused.status, refused.text)
        for name, value in SECURITY_HEADERS.items():
            response.headers[name] = value
        return response


def _thread_worker(
    threads: int, name: str, engine: Engine, on_failure: Callable[[Exception], None]
) -> ThreadWorker:
    return ThreadWorker(engine, threads=threads, on_failure=on_failure)


async def _tidy(shared: SharedState, access: Access) -> None:
    """Set aside what the engines loaded, and return memory to the system whenever clients have left."""
    left, loaded = access.left, False
    while True:
        await asyncio.sleep(TIDY_INTERVAL_S)
        if not loaded and all(worker.ready for worker in shared.workers.values()):
            loaded = True
            keep_loaded()
        if access.left != left:
            left = access.left
            await asyncio.to_thread(return_freed_memory)


def _max_clients(sessions: int) -> int:
    """Raise the process's limit of open files as needed, and return the number of connections that fit."""
    clients = CONNECTIONS_PER_SESSION * sessions + BASE_CONNECTIONS
    files = 2 * clients + RESERVED_FILES
    allowed = allow_open_files(files)
    fit = max(1, (allowed - RESERVED_FILES) // 2)
    if fit < sessions:
        log.warning("expected %d open files to be allowed, got %d: see ulimit -n", files, allowed)
    return fit


def check_access(config: Config) -> None:
    """Check the token file, the certificate and the voice file, before any model is loaded.

    Raises:
        ConfigError, VoicesError: one of them cannot be used.
    """
    _tokens(config.server)
    _tls(config.server)
    KnownVoices(config)


def web_folder() -> Path | None:
    """Return the page's folder, in the installed package or in the checkout; None if it is in neither."""
    package = Path(stream_erc.__file__).resolve().parent
    candidates = (package / "web", package.parent / "clients" / "web")
    return next((folder for folder in candidates if (folder / "index.html").is_file()), None)


def _joined(headers: Headers) -> Mapping[str, str]:
    """Return headers by their names in lower case; the values of repeated ones are joined by commas."""
    return {name.lower(): ", ".join(headers.get_all(name)) for name in headers}


def _tokens(config: ServerConfig) -> frozenset[str]:
    """Read the valid bearer tokens."""
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
    """Load the certificate, if the configuration names one."""
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
