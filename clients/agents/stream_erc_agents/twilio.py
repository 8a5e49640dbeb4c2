"""A bridge from Twilio Media Streams: phone calls in, expressed emotions out.

Twilio opens a WebSocket for each call whose markup says ``<Stream url="wss://...">``. The bridge passes the
audio on to the server as it is, mu-law at 8 kHz, and calls a handler with the server's events::

    async def handler(call, track, event):
        if isinstance(event, TurnFinal):
            print(call.call_sid, track, event.text, event.emotion.label)

    async with serve(Server("ws://127.0.0.1:8765"), handler, port=8766):
        await asyncio.Future()

A stream of both tracks is one conversation of two channels, aligned by their timestamps. Each track is one
speaker, named like it: no diarization is needed, and people may speak at the same time.

Twilio connects by TLS on port 443 and signs its requests (``X-Twilio-Signature``): both are left to a proxy
in front. By default the bridge accepts connections from this machine only.
"""

import base64
import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from stream_erc_agents.feed import Feed, Server
from stream_erc_agents.media_streams import (
    RATE_HZ,
    BadMessage,
    Connected,
    Dtmf,
    Mark,
    Media,
    Refused,
    Sequence,
    Sequenced,
    Started,
    Stopped,
    Tracks,
    parse,
)
from stream_erc_client import Event
from websockets.asyncio.server import Server as SocketServer
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.exceptions import ConnectionClosed

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[["Call", str | None, Event | Mark | Dtmf], Awaitable[None] | None]
"""Called with the call, the track (None for what is of none) and the event; may be a coroutine function."""

MAX_MESSAGE_BYTES = 2**16
MAX_REFUSALS_TOLD = 5

LAST_TURNS_S = 60.0
"""Time limit for the last turns after a call: nobody waits for it, and a busy server may be late."""


class Call:
    """A phone call.

    Attributes:
        stream_sid, call_sid: Twilio's ids of the stream and the call.
        tracks: ``inbound`` is what the caller says, ``outbound`` what the caller hears.
        parameters: the custom parameters of the call's markup.
        refused: number of invalid messages.
    """

    def __init__(self, socket: ServerConnection, server: Server, handler: Handler) -> None:
        self._socket, self._server, self._handler = socket, server, handler
        self.stream_sid = self.call_sid = ""
        self.tracks: tuple[str, ...] = ()
        self.parameters: dict[str, str] = {}
        self.refused = 0
        self._sequence = Sequence()
        self._audio: Tracks | None = None
        self._feed: Feed | None = None

    @property
    def lost(self) -> int:
        """Number of lost messages; their audio is replaced by silence."""
        return self._sequence.lost

    async def play(self, audio: bytes) -> None:
        """Play audio to the caller: mu-law at 8 kHz. Works only in a bidirectional stream."""
        await self._send({"event": "media", "media": {"payload": base64.b64encode(audio).decode()}})

    async def mark(self, name: str) -> None:
        """Ask Twilio to send a `Mark` once the audio sent so far has been played."""
        await self._send({"event": "mark", "mark": {"name": name}})

    async def clear(self) -> None:
        """Drop the audio that was sent and has not been played."""
        await self._send({"event": "clear"})

    async def listen(self) -> None:
        """Process the call's messages to its end; refuse invalid ones and continue."""
        try:
            async for text in self._socket:
                received = self._parsed(text)
                for message in self._sequence.receive(received) if received else ():
                    if isinstance(message, Stopped):
                        return
                    await self._take(message)
        except ConnectionClosed:
            log.info("call %s: the connection was lost", self.call_sid)
        finally:
            if self._feed is not None and self._audio is not None:
                self._feed.send_audio(self._audio.finish())
                await self._feed.close(LAST_TURNS_S)

    def _parsed(self, text: str | bytes) -> Sequenced | None:
        try:
            message = parse(text)
        except BadMessage as error:
            self._refuse(str(error))
            return None if error.sequence is None else Refused(error.sequence)
        return None if isinstance(message, Connected) else message

    async def _take(self, message: Sequenced) -> None:
        match message:
            case Started() if self._feed is None:
                self._start(message)
            case Media() if self._feed and self._audio and message.track in self.tracks:
                self._feed.send_audio(self._audio.receive(message))
            case Mark() | Dtmf() if self._feed:
                await self._notify(message)
            case Refused():
                pass
            case _:
                self._refuse(f"expected one start first, then its tracks only, got {message!r:.80}")

    def _start(self, message: Started) -> None:
        self.stream_sid, self.call_sid = message.stream_sid, message.call_sid
        self.tracks, self.parameters = message.tracks, dict(message.parameters)
        self._audio = Tracks(message.tracks)
        self._feed = Feed(
            self._server,
            encoding="mulaw",
            sample_rate_hz=RATE_HZ,
            channels=message.tracks,
            turns="heard",
            on_event=self._tell,
        )

    def _tell(self, event: Event) -> Awaitable[None] | None:
        channel = getattr(event, "channel", None)
        return self._handler(self, None if channel is None else self.tracks[channel], event)

    async def _notify(self, message: Mark | Dtmf) -> None:
        try:
            result = self._handler(self, None, message)
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception("call %s: the handler failed", self.call_sid)

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        level = logging.WARNING if self.refused <= MAX_REFUSALS_TOLD else logging.DEBUG
        log.log(level, "call %s: refused a message: %s", self.call_sid or "without a start", reason)

    async def _send(self, message: dict[str, object]) -> None:
        try:
            await self._socket.send(json.dumps({**message, "streamSid": self.stream_sid}))
        except ConnectionClosed:
            log.info("call %s: ended before a message was sent", self.call_sid)


@asynccontextmanager
async def serve(
    server: Server, handler: Handler, *, host: str = "127.0.0.1", port: int = 8766
) -> AsyncIterator[SocketServer]:
    """Run the bridge while the context is open, and yield the WebSocket server; leaving it ends the calls.

    Args:
        server: the stream_erc server.
        handler: called with each call's events.
        host: the address to listen on for Twilio, or for the proxy in front.
        port: the port; 0 picks a free one.
    """

    async def answer(socket: ServerConnection) -> None:
        await Call(socket, server, handler).listen()

    async with serve_sockets(answer, host, port, max_size=MAX_MESSAGE_BYTES, compression=None) as listening:
        yield listening
