"""The HTTP server: which path is answered how, to whom, and with which headers.

It is aiohttp's server without its framework: one function answers every request. So an upload is asked for
(``100 Continue``) only after its head was accepted.
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from stream_erc.exceptions import StoreError
from stream_erc.server.access import Access, Refused
from stream_erc.server.http.errors import ApiError
from stream_erc.server.http.front import Front
from stream_erc.server.http.models import model_info, model_list
from stream_erc.server.http.page import read_page
from stream_erc.server.http.transcriptions import Transcriptions
from stream_erc.server.metrics import CONTENT_TYPE
from stream_erc.server.shared import ANSWER_S, SharedState

log = logging.getLogger(__name__)

API = "/v1/"
TRANSCRIPTIONS, MODELS = "/v1/audio/transcriptions", "/v1/models"
KEEP_ALIVE_S = 75.0
"""Time for which a connection is kept for a next request."""

CLIENT_LEFT = 499
"""Status under which a transcription is counted whose client left before its end."""

LINGERING_S = 5.0
"""Time for which the rest of a refused upload is read, so that its client sees the answer."""

HOST = re.compile(r"[\w.-]+(:\d+)?|\[[\da-fA-F:.]+\](:\d+)?", re.ASCII)
"""A Host header that may stand in the policy."""

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # the page has one of its own
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Server": "stream-erc",
}

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpServer:
    """Answers HTTP requests; `protocol` makes the protocol of a connection.

    Args:
        shared: what the server's connections share.
        access: who may ask for what.
        web_folder: the folder of the page, None for no page.
        websocket_path: the path that is for WebSockets alone.
    """

    def __init__(
        self, shared: SharedState, access: Access, web_folder: Path | None, websocket_path: str
    ) -> None:
        self._shared, self._access, self._folder = shared, access, web_folder
        self._transcriptions, self._began = Transcriptions(shared), int(time.time())
        logger = logging.getLogger("stream_erc.http")
        logger.addFilter(_is_ours)
        self.protocol = web.Server(
            self._serve,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGERING_S,
            logger=logger,
        )
        self._routes: dict[str, dict[str, Handler]] = {
            "/healthz": {"GET": self._health},
            "/readyz": {"GET": self._readiness},
            "/metrics": {"GET": self._metrics},
            websocket_path: {"GET": self._no_websocket},
            MODELS: {"GET": self._models},
            TRANSCRIPTIONS: {"POST": self._transcribe},
        }

    async def close(self, timeout_s: float) -> None:
        """Close all connections; wait for those that are being answered for `timeout_s` at most."""
        self.protocol.pre_shutdown()
        await self.protocol.shutdown(timeout_s)
        self._transcriptions.close()

    # --- one request ------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, to the last byte."""
        assert request.transport is not None
        front = request.transport.get_protocol()
        assert isinstance(front, Front)
        transcribes = (request.method, request.path) == ("POST", TRANSCRIPTIONS)
        headers, status = joined(request), CLIENT_LEFT
        try:
            with front.answering(lambda: not transcribes and request.content.is_eof()):
                response = await self._answer(request, headers)
                if not response.prepared:
                    response.headers.update(self._answer_headers(request, headers))
                await response.prepare(request)
                await response.write_eof()
                status = response.status
        finally:
            if transcribes:
                self._shared.telemetry.transcriptions.labels(status).inc()
        return response

    async def _answer(self, request: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
        """Return the response to a request, also if it fails."""
        try:
            return await self._checked(request, headers)
        except ApiError as error:
            return _api_error(error)
        except ConnectionError:  # the client has left
            raise
        except Exception:  # the boundary: one request must not end the connection without an answer
            log.exception("a request failed")
            text = "expected no error of the server, got one"
            return _error(request, HTTPStatus.INTERNAL_SERVER_ERROR, text)

    async def _checked(self, request: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
        """Answer a request if it is allowed."""
        refused = self._access.host_refusal(headers)
        if refused is not None:
            return await self._refuse(request, headers, refused)
        path = request.path
        routes = self._routes.get(path)
        if routes is None and path.startswith(f"{MODELS}/"):
            routes = {"GET": self._models}
        if routes is None:
            return self._page(request)
        methods = {**routes, "HEAD": routes["GET"]} if "GET" in routes else routes
        api = path.startswith((TRANSCRIPTIONS, MODELS))
        if api and request.method == "OPTIONS" and "origin" in headers:
            return self._preflight(headers, methods)
        handler = methods.get(request.method)
        if handler is None:
            return _not_allowed(request, methods)
        if api or path == "/metrics":
            access = self._access
            access.register(request.remote or "?")
            refused = access.refusal(headers, needs_token=True) if api else access.operator_refusal(headers)
            if refused is not None:
                return await self._refuse(request, headers, refused)
        return await handler(request)

    async def _refuse(
        self, request: web.BaseRequest, headers: Mapping[str, str], refused: Refused
    ) -> web.StreamResponse:
        await self._access.count(refused, headers, request.remote or "?")
        response = _error(request, refused.status, refused.text)
        if refused.status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _answer_headers(self, request: web.BaseRequest, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of an answer; those of the API let a browser show it to an allowed page."""
        given = SECURITY_HEADERS | {"Content-Security-Policy": _policy(headers.get("host", ""))}
        if request.path.startswith(API):
            given["Vary"] = "Origin"
            if "origin" in headers and self._access.allows_origin(headers):
                given["Access-Control-Allow-Origin"] = headers["origin"]
        return given

    def _preflight(self, headers: Mapping[str, str], methods: Mapping[str, Handler]) -> web.Response:
        """Answer a browser that asks whether a page may send a request."""
        if not self._access.allows_origin(headers):
            raise ApiError(HTTPStatus.FORBIDDEN, "expected a page of this server, or an allowed Origin")
        allowed = {
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "authorization"),
            "Access-Control-Max-Age": "600",
        }
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=allowed)

    # --- what is asked for ------------------------------------------------------------------------

    async def _health(self, request: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def _no_websocket(self, request: web.BaseRequest) -> web.Response:
        return _error(
            request, HTTPStatus.UPGRADE_REQUIRED, "expected a WebSocket: see docs/protocol.md\n", plain=True
        )

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        text = self._shared.telemetry.text()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def _readiness(self, request: web.BaseRequest) -> web.Response:
        """Return 200 if a session could begin and be understood now, 503 with the reason if not."""
        shared = self._shared
        reason = None
        unready = [worker for worker in shared.workers.values() if not worker.ready]
        if shared.stopping.is_set():
            reason = "draining\n"
        elif shared.full:
            reason = "full\n"
        elif unready:
            reason = f"{unready[0].not_ready}\n"
        else:
            try:
                await shared.call_store(shared.store.ready, ANSWER_S)
            except StoreError as error:  # which may name hosts and paths, and anybody may ask
                log.warning("%s", error)
                reason = "the store of sessions cannot be used\n"
        if reason is not None:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=reason)
        return web.Response(text="ready\n")

    async def _models(self, request: web.BaseRequest) -> web.Response:
        name = request.path.removeprefix(MODELS).removeprefix("/")
        engines = self._shared.offer.engines
        told = model_info(engines, name, self._began) if name else model_list(engines, self._began)
        return web.json_response(told)

    async def _transcribe(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._transcriptions.answer(request, self._answer_headers(request, joined(request)))

    def _page(self, request: web.BaseRequest) -> web.Response:
        found = read_page(self._folder, request.path)
        if found is None:
            known = ", ".join(["/", *self._routes])
            return _error(request, HTTPStatus.NOT_FOUND, f"expected one of {known}, got another path\n")
        if request.method not in ("GET", "HEAD"):
            return _not_allowed(request, ("GET", "HEAD"))
        text = found.content_type.startswith("text/")
        content_type = f"{found.content_type}; charset=utf-8" if text else found.content_type
        return web.Response(body=found.body, headers={"Content-Type": content_type})


def joined(request: web.BaseRequest) -> dict[str, str]:
    """Return headers by their names in lower case; the values of repeated ones are joined by commas."""
    headers = request.headers
    return {name.lower(): ", ".join(headers.getall(name)) for name in headers}


def _policy(host: str) -> str:
    """Return what the page may load and connect to: this server alone.

    Args:
        host: the Host header. Not every browser takes its WebSockets for those of ``'self'``.
    """
    sockets = f" ws://{host} wss://{host}" if HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{sockets}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether a log record tells of the server, and not of a client that sent no HTTP."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def _not_allowed(request: web.BaseRequest, methods: Iterable[str]) -> web.Response:
    allowed = ", ".join(methods)
    text = f"expected {allowed} for {request.path}, got {request.method}\n"
    response = _error(request, HTTPStatus.METHOD_NOT_ALLOWED, text)
    response.headers["Allow"] = allowed
    return response


def _error(request: web.BaseRequest, status: HTTPStatus, text: str, *, plain: bool = False) -> web.Response:
    """Return an error: in OpenAI's form for the API, as text otherwise."""
    if plain or not request.path.startswith(API):
        return web.Response(status=status, text=text)
    code = {HTTPStatus.UNAUTHORIZED: "invalid_api_key"}.get(status)
    return _api_error(ApiError(status, text, code=code))


def _api_error(error: ApiError) -> web.Response:
    return web.Response(status=error.status, body=error.body(), content_type="application/json")
