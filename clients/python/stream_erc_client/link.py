"""Keeps a session connected: one socket after the other, until the session ends or cannot be gone on with."""

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
OPEN_S: Final = 10.0  # to connect
FIRST_WORD_S: Final = 15.0  # for the server to begin; one that asks for a token may wait ten for it
PING_S: Final = 15.0  # the longest silence of our own
SETTLED_S: Final = 10.0  # a connection that lived so long was a good one: pauses begin anew
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 15.0
TEXT_PAUSE_S: Final = 1 / 80  # servers take 100 text frames a second
MAX_MESSAGE_BYTES: Final = 4 * 2**20
RETRIED_STATUS: Final = {408, 425, 429, 500, 502, 503, 504}


class Link:
    """What runs in the background of a session.

    Args:
        url: of the socket.
        connection: what is to be sent, and who understands what comes.
        inbox: takes the events.
        token: the server's bearer token.
        retry_for_s: how long a lost connection is tried again.
        silence_timeout_s: a server that is silent for so long is taken for gone.

    Attributes:
        connected: whether the session is open on a socket.
        ready: set once the session is open, or has failed.
        over: set once nothing goes on any more.
        moved: set when something was sent, or the connection came or went; who waits for it clears it.
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
        self._url, self._connection, self._inbox, self._token = url, connection, inbox, token
        self._retry_for_s, self._silence_timeout_s = retry_for_s, silence_timeout_s
        self.connected = False
        self.ready, self.over, self.moved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.failure: Exception | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._attempt = 0
        self._lost_at: float | None = None
        self._silent = False  # the socket was given up

    def start(self) -> None:
        """Connect, in a task."""
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """End it, with an error unless there was one before."""
        if not self.over.is_set():
            self.failure = self.failure or error
        if self._task is not None:
            self._task.cancel()

    async def stop(self, patience_s: float = 0.0) -> None:
        """End it, where it does not end by itself within `patience_s`, and wait for that."""
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
        except Exception as error:  # a mistake of ours, too: nobody would see it here
            self.failure = self.failure or error
        finally:
            self.connected = False
            self.over.set()
            self.ready.set()
            self.moved.set()
            self._inbox.end()

    async def _one_socket(self) -> str:
        """Connect, and converse until the session ends or the socket is gone: why it is gone."""
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
                socket.transport.abort()  # nothing is owed to it: the session goes on elsewhere
            await socket.close()
        if self._connection.progressed or loop.time() - opened_at > SETTLED_S:
            self._attempt, self._lost_at = 0, None
        return reason

    async def _open(self) -> ClientConnection:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        try:
            return await open_socket(
                self._url,
                additional_headers=headers,
                user_agent_header="stream-erc-client/0.1.0",
                compression=None,
                proxy=None if _is_local(self._url) else True,
                open_timeout=OPEN_S,
                ping_interval=None,  # the protocol has its own signs of life
                close_timeout=2.0,
                max_size=MAX_MESSAGE_BYTES,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                raise AuthenticationFailed(f"expected to be let in, got HTTP {status}") from error
            if status not in RETRIED_STATUS:
                raise ConnectionFailed(f"{self._url}: expected a WebSocket, got HTTP {status}") from error
            raise _Refused(f"HTTP {status}") from error
        except InvalidURI as error:
            raise ConnectionFailed(str(error)) from error
        except (OSError, InvalidHandshake, asyncio.TimeoutError, EOFError) as error:
            reason = str(error) or f"no answer within {OPEN_S:g} s"
            if not self.ready.is_set() and not self._attempt:
                raise ConnectionFailed(f"{self._url}: expected a server, got {reason}") from error
            raise _Refused(reason) from error

    async def _converse(self, socket: ClientConnection) -> str:
        """Read and write until the session ends or the socket is gone: why it is gone."""
        self._connection.opened()
        writer = asyncio.create_task(self._write(socket))
        try:
            await self._read(socket)
            return ""
        except ConnectionClosed as closed:
            if self._silent and self._connection.created is None and self._token is None:
                raise AuthenticationFailed(
                    f"expected the server's word within {FIRST_WORD_S:g} s, got none: it may ask for a token"
                ) from closed
            if closed.rcvd is not None:
                return self._connection.lost(closed.rcvd.code, closed.rcvd.reason)
            cause = "the server fell silent" if self._silent else closed.__cause__
            return self._connection.lost(None, str(cause or "the connection was cut"))
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> None:
        """Take what comes, as fast as the inbox has room."""
        loop = asyncio.get_running_loop()
        patience_s, self._silent = FIRST_WORD_S, False
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
        """Send what there is to send, and a ping where there is nothing for long."""
        # No asyncio.wait_for here and in _read: before Python 3.12 it may swallow a cancellation.
        loop = asyncio.get_running_loop()
        said_at = loop.time()
        try:
            while True:
                self._wake.clear()
                while (frame := self._connection.next_frame()) is not None:
                    await socket.send(frame)
                    said_at = loop.time()
                    self.moved.set()
                    if isinstance(frame, str):
                        await asyncio.sleep(TEXT_PAUSE_S)
                limits = self._connection.limits
                ping_s = min(PING_S, limits.idle_timeout_ms / 2000) if limits else PING_S
                if loop.time() >= said_at + ping_s:
                    await socket.send(PING)
                    said_at = loop.time()
                alarm = loop.call_at(said_at + ping_s, self.wake)
                try:
                    await self._wake.wait()
                finally:
                    alarm.cancel()
        except ConnectionClosed:
            return  # the reader learns why
        except Exception as error:
            self.fail(error)

    async def _pause(self, reason: str) -> None:
        """Wait before the next attempt: none at first, then 0.25, 0.5, 1 ... s.

        Each less up to a half, so that the clients of a server that failed do not come back all together.

        Raises:
            ConnectionFailed: it was tried for `retry_for_s`.
        """
        now = asyncio.get_running_loop().time()
        self._lost_at = now if self._lost_at is None else self._lost_at
        self._attempt += 1
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._attempt - 2, 10))
        delay_s = 0.0 if self._attempt == 1 else random.uniform(longest_s / 2, longest_s)
        if now + delay_s > self._lost_at + self._retry_for_s:
            raise ConnectionFailed(f"expected a connection within {self._retry_for_s:g} s, got {reason}")
        told: list[Event] = [Disconnected(reason, self._attempt, delay_s)]
        self._inbox.put(told)
        await asyncio.sleep(delay_s)


class _Refused(Exception):
    """No socket this time; it may be tried again."""


def socket_url(url: str) -> str:
    """The address of the socket: `ws` for `http`, and the protocol's path where there is none.

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


def _is_local(url: str) -> bool:
    """Whether the server is on this machine, where no proxy can be meant."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
