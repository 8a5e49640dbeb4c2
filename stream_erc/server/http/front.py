"""The protocol of a new connection: by its first bytes it goes to `websockets` or to the HTTP server."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote_to_bytes

MAX_HEAD_BYTES = 65_536
"""Length limit of the head of a request that may open a WebSocket."""

CLOSE_DELAY_S = 0.1
"""Time in which the HTTP server begins with a request that came just before the end of its client's data."""


class Waiting:
    """The connections that have no request: the oldest of more than `limit` is dropped.

    Args:
        limit: the largest number of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._fronts = limit, dict[Front, None]()

    def add(self, front: "Front") -> None:
        """Add a connection as the newest."""
        self._fronts[front] = None
        if len(self._fronts) > self._limit:
            oldest = next(iter(self._fronts))
            del self._fronts[oldest]
            oldest.abort()

    def remove(self, front: "Front") -> None:
        """Remove a connection that has a request, or has ended."""
        self._fronts.pop(front, None)

    def abort(self) -> None:
        """Drop all of them."""
        for front in list(self._fronts):
            front.abort()


class Front(asyncio.Protocol):
    """A connection until it is a WebSocket or, in front of the HTTP server's protocol, to its end.

    Args:
        path: the path of WebSockets.
        websocket: makes a protocol that opens a WebSocket.
        http: makes a protocol that answers HTTP.
        waiting: holds the connection while it has no request.
        open_timeout_s: time limit for the head of the first request.
        slow_reader_s: time limit for a client to read what it was sent.
    """

    def __init__(
        self,
        path: str,
        websocket: Callable[[], asyncio.Protocol],
        http: Callable[[], asyncio.Protocol],
        waiting: Waiting,
        *,
        open_timeout_s: float,
        slow_reader_s: float,
    ) -> None:
        self._path, self._websocket, self._make_http, self._waiting = path, websocket, http, waiting
        self._open_timeout_s, self._slow_reader_s = open_timeout_s, slow_reader_s
        self._loop = asyncio.get_running_loop()
        self._head = b""
        self._http: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None  # until the first request, or while a client is slow
        self._is_received: Callable[[], bool] | None = None  # of the request that is being answered
        self._ended = False  # whether the client sends no more

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    @contextmanager
    def answering(self, is_received: Callable[[], bool]) -> Iterator[None]:
        """Keep the connection while a request is answered.

        Args:
            is_received: returns whether the client may end its data and still wait for the answer. If not, it
                has left when it does so, and the request is cancelled.
        """
        self._waiting.remove(self)
        self._cancel_timer()
        self._is_received = is_received
        if self._ended:
            self._close_if_left()
        try:
            yield
        finally:
            self._is_received = None
            if not self._transport.is_closing():
                self._waiting.add(self)
                if self._ended:
                    self._loop.call_later(CLOSE_DELAY_S, self._close_if_idle)

    # --- what the event loop calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = self._loop.call_later(self._open_timeout_s, self.abort)
        self._waiting.add(self)

    def data_received(self, data: bytes) -> None:
        """Pass data on, once it is known to whom."""
        if self._http is not None:
            self._http.data_received(data)
            return
        self._head += data
        wanted = _asks_for_websocket(self._head, self._path)
        if wanted is None:
            return
        head, self._head = self._head, b""
        if wanted:
            self._cancel_timer()
            self._waiting.remove(self)
            protocol = self._websocket()
            self._transport.set_protocol(protocol)
        else:
            protocol = self._http = self._make_http()
        protocol.connection_made(self._transport)
        protocol.data_received(head)

    def eof_received(self) -> bool:
        """Keep the connection for an answer that is owed; TLS has no half of a connection to keep."""
        self._ended = True
        if self._transport.get_extra_info("sslcontext") is not None or self._http is None:
            return False
        if self._is_received is None:
            self._loop.call_later(CLOSE_DELAY_S, self._close_if_idle)
            return True
        return self._is_received()

    def pause_writing(self) -> None:
        """Wait for a slow client, but not for long."""
        assert self._http is not None  # nobody else has written
        self._http.pause_writing()
        self._cancel_timer()
        self._timer = self._loop.call_later(self._slow_reader_s, self.abort)

    def resume_writing(self) -> None:
        """Go on with a client that reads."""
        assert self._http is not None
        self._cancel_timer()
        self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the HTTP server, which cancels the request."""
        self._cancel_timer()
        self._waiting.remove(self)
        if self._http is not None:
            self._http.connection_lost(exc)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_if_idle(self) -> None:
        if self._is_received is None:
            self._transport.close()

    def _close_if_left(self) -> None:
        if self._is_received is not None and not self._is_received():
            self._transport.close()


def _asks_for_websocket(head: bytes, path: str) -> bool | None:
    """Return whether a request's first bytes are to be answered as a WebSocket's; None if they are too few.

    Whoever answers reads the request again, by its own rules.
    """
    if not head.startswith(b"GET "[: len(head)]):
        return False
    lines, end, _ = head.partition(b"\r\n\r\n")
    if not end:
        return False if len(head) > MAX_HEAD_BYTES else None
    first, *fields = lines.split(b"\r\n")
    target = first.removeprefix(b"GET ").partition(b" ")[0].partition(b"?")[0]
    return unquote_to_bytes(target) == path.encode() and any(
        name.strip().lower() == b"connection" and b"upgrade" in value.lower()
        for name, _, value in (field.partition(b":") for field in fields)
    )
