"""The connection of a session: one socket after another, until the session ends or cannot be resumed."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from stream_erc_client.connection import PING, Connection, Phase
from stream_erc_client.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    InvalidInput,
)
from stream_erc_client.events import Disconnected, Event, SessionGoingAway
from stream_erc_client.inbox import Inbox

PATH: Final = "/v1/session"
OPEN_S: Final = 10.0  # timeout for connecting
FIRST_MESSAGE_S: Final = 15.0  # timeout for session.created; a server that asks for a token waits 10 s for it
PING_S: Final = 15.0  # send a ping after sending nothing for this long
SETTLED_S: Final = 10.0  # after a connection of this length, retries start over
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 15.0
TEXT_PAUSE_S: Final = 1 / 80  # servers accept 100 text frames a second
MAX_MESSAGE_BYTES: Final = 4 * 2**20
RETRIED_STATUS: Final = {408, 425, 429, 500, 502, 503, 504}


class Connector:
    """The background task of a session, which connects, sends, receives and reconnects.

    Args:
        url: of the socket.
        connection: the protocol's state: gives the frames to send, takes the messages received.
        inbox: receives the events.
        token: the server's bearer token.
        retry_for_s: how long to retry a lost connection.
        silence_timeout_s: a server that sends nothing for this long counts as lost.

    Attributes:
        connected: whether the session is open on a socket.
        ready: set once the session is open, or has failed.
        over: set once the task has ended.
        moved: set when a frame was sent or the connection changed; whoever waits for it clears it.
        failure: why the session failed, if it did.
    """

    def __init__(
        self,
        url: str,
        connection: Connection,
        inbox: Inbox,
        *,
        token: str | None,
        retry_for_s: float,
        silence_timeout_s: float,
    ) -> None:
        self.url, self.token, self._connection, self._inbox = url, token, connection, inbox
        self._retry_for_s, self._silence_timeout_s = retry_for_s, silence_timeout_s
        self.connected = False
        self.ready, self.over, self.moved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.failure: Exception | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._attempt = 0
        self._lost_at: float | None = None
        self._silent = False  # whether the socket was aborted because the server sent nothing

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Wake the writer: there may be something to send."""
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """End the task with an error; an earlier error stays."""
        if not self.over.is_set():
            self.failure = self.failure or error
        if self._task is not None:
            self._task.cancel()

    async def stop(self, patience_s: float = 0.0) -> None:
        """Wait up to `patience_s` for the task to end, then cancel it and wait."""
        if self._task is None:
            return
        try:
            await asyncio.wait({self._task}, timeout=patience_s)
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                reason = await self._one_socket()
                if self._connection.phase is Phase.ENDED:
                    self.failure = self.failure or self._connection.mismatch
                    return
                await self._pause(reason)
        except Exception as error:  # bugs too: raised here, they would go unnoticed
            self.failure = self.failure or error
        finally:
            self.connected = False
            self.over.set()
            self.ready.set()
            self.moved.set()
            self._inbox.end()

    async def _one_socket(self) -> str:
        """Connect and exchange messages until the session ends or the socket closes; return why it closed."""
        loop = asyncio.get_running_loop()
        try:
            socket = await self._open()
        except _Refused as refused:
            return str(refused)
        opened_at = loop.time()
        try:
            reason = await self._converse(socket)
        finally:
            self.connected = False
            self.moved.set()
            if self._connection.phase is not Phase.ENDED:
                socket.transport.abort()  # no close handshake: the session continues on another socket
            await socket.close()
        if self._connection.progressed or loop.time() - opened_at > SETTLED_S:
            self._attempt, self._lost_at = 0, None
        return reason

    async def _open(self) -> ClientConnection:
        try:
            return await opening(self.url, self.token)
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                raise AuthenticationFailed(f"expected to be admitted, got HTTP {status}") from error
            if status not in RETRIED_STATUS:
                raise ConnectionFailed(f"{self.url}: expected a WebSocket, got HTTP {status}") from error
            raise _Refused(f"HTTP {status}") from error
        except InvalidURI as error:
            raise ConnectionFailed(str(error)) from error
        except (OSError, InvalidHandshake, asyncio.TimeoutError, EOFError) as error:
            reason = str(error) or f"no answer within {OPEN_S:g} s"
            if not self.ready.is_set() and not self._attempt:
                raise ConnectionFailed(f"{self.url}: expected a server, got {reason}") from error
            raise _Refused(reason) from error

    async def _converse(self, socket: ClientConnection) -> str:
        """Read and write until the session ends or the socket closes; return why it closed."""
        self._connection.opened()
        writer = asyncio.create_task(self._write(socket))
        try:
            await self._read(socket)
            return ""
        except ConnectionClosed as closed:
            if self._silent and self._connection.created is None and self.token is None:
                raise AuthenticationFailed(
                    f"expected a message within {FIRST_MESSAGE_S:g} s, got none: it may ask for a token"
                ) from closed
            if closed.rcvd is not None:
                return self._connection.lost(closed.rcvd.code, closed.rcvd.reason)
            cause = "the server stopped responding" if self._silent else closed.__cause__
            return self._connection.lost(None, str(cause or "the connection was lost"))
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> None:
        """Receive messages, as fast as the inbox has room for their events."""
        loop = asyncio.get_running_loop()
        patience_s, self._silent = FIRST_MESSAGE_S, False
        while self._connection.phase is not Phase.ENDED:
            alarm = loop.call_later(patience_s, self._give_up, socket)
            try:
                text = await socket.recv()
            finally:
                alarm.cancel()
            events = self._connection.receive(text)
            self.wake()  # there may be an answer
            self._inbox.put(events)
            if self._connection.phase is Phase.OPEN and not self.connected:
                self.connected, patience_s = True, self._silence_timeout_s
                self.ready.set()
                self.moved.set()
            for event in events:
                if isinstance(event, SessionGoingAway):
                    patience_s = min(patience_s, event.time_left_ms / 1000 + 5.0)
            await self._inbox.room()

    def _give_up(self, socket: ClientConnection) -> None:
        self._silent = True
        socket.transport.abort()

    async def _write(self, socket: ClientConnection) -> None:
        """Send frames, and a ping after sending nothing for a while."""
        # No asyncio.wait_for here and in _read: before Python 3.12 it may swallow a cancellation.
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        try:
            while True:
                self._wake.clear()
                while (frame := self._connection.next_frame()) is not None:
                    await socket.send(frame)
                    sent_at = loop.time()
                    self.moved.set()
                    if isinstance(frame, str):
                        await asyncio.sleep(TEXT_PAUSE_S)
                limits = self._connection.limits
                ping_s = min(PING_S, limits.idle_timeout_ms / 2000) if limits else PING_S
                if loop.time() >= sent_at + ping_s:
                    await socket.send(PING)
                    sent_at = loop.time()
                alarm = loop.call_at(sent_at + ping_s, self.wake)
                try:
                    await self._wake.wait()
                finally:
                    alarm.cancel()
        except ConnectionClosed:
            return  # the reader gets the reason
        except Exception as error:
            self.fail(error)

    async def _pause(self, reason: str) -> None:
        """Wait before the next attempt: not at all before the first, then 0.25, 0.5, 1 ... s.

        Each pause is shortened at random, by up to half, so that a failed server's clients do not all come
        back at once.

        Raises:
            ConnectionFailed: `retry_for_s` has passed.
        """
        now = asyncio.get_running_loop().time()
        self._lost_at = now if self._lost_at is None else self._lost_at
        self._attempt += 1
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._attempt - 2, 10))
        delay_s = 0.0 if self._attempt == 1 else random.uniform(longest_s / 2, longest_s)
        if now + delay_s > self._lost_at + self._retry_for_s:
            raise ConnectionFailed(f"expected a connection within {self._retry_for_s:g} s, got {reason}")
        events: list[Event] = [Disconnected(reason, self._attempt, delay_s)]
        self._inbox.put(events)
        await asyncio.sleep(delay_s)


class _Refused(Exception):
    """The socket could not be opened; a retry may succeed."""


def socket_url(url: str) -> str:
    """Return the socket's address: `ws` for `http`, and the protocol's path if there is none.

    Raises:
        InvalidInput: not an address.
    """
    expected = f"url: expected ws://HOST:PORT or http://HOST:PORT, got {url!r}"
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError as error:  # of the port, of brackets, of the host's length
        raise InvalidInput(f"{expected}: {error}") from error
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not host:
        raise InvalidInput(expected)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") or PATH, parts.query, ""))


def opening(url: str, token: str | None, max_bytes: int | None = MAX_MESSAGE_BYTES) -> open_socket:
    """Return a socket to open: an awaitable and an asynchronous context manager.

    Args:
        url: of the socket.
        token: the server's bearer token.
        max_bytes: the largest message accepted; None for any.
    """
    return open_socket(
        url,
        additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
        user_agent_header="stream-erc-client/0.1.0",
        compression=None,
        proxy=None if _is_local(url) else True,
        open_timeout=OPEN_S,
        ping_interval=None,  # the protocol has its own pings
        close_timeout=2.0,
        max_size=max_bytes,
    )


def _is_local(url: str) -> bool:
    """Return whether the server is on this machine, where no proxy is used."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
