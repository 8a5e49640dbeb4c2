"""A session over the network, on asyncio: it connects, resumes by itself, and gives events.

One task owns the socket (`link`). `send_audio` and the others put what they have into the connection's
buffer, from which that task sends; so a caller that is cancelled has sent all of a message or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from stream_erc_client.audio import WavFile
from stream_erc_client.connection import Connection
from stream_erc_client.errors import (
    AudioError,
    InvalidInput,
    SessionEnded,
    SessionLost,
)
from stream_erc_client.events import Configuration, Event, SessionCreated
from stream_erc_client.inbox import Inbox
from stream_erc_client.link import Link, socket_url
from stream_erc_client.microphone import heard

Pace = Literal["live", "replay"]

PROTOCOL_VERSION: Final = 1
AHEAD_MS: Final = 1000  # audio that may wait to be sent before `send_audio` waits
MAX_EVENTS: Final = 4096  # that wait to be iterated over before the socket is not read any more
CLOSE_S: Final = 10.0  # for the session's end, where the context is left without having waited for it
FAILED_CLOSE_S: Final = 1.0  # the same, where the context is left by an exception


def connect(
    url: str,
    *,
    token: str | None = None,
    audio_encoding: str = "pcm_s16le",
    sample_rate_hz: int = 16_000,
    turns: Literal["heard", "appended"] = "heard",
    model: str | None = None,
    labels: Sequence[str] | None = None,
    language: str | None = None,
    speakers: int | None = None,
    partials: bool = True,
    min_silence_ms: int | None = None,
    pace: Pace = "live",
    retry_for_s: float = 600.0,
    max_buffer_s: float = 120.0,
    silence_timeout_s: float = 25.0,
) -> Session:
    """A session that opens as an async context manager.

    Args:
        url: `ws://`, `wss://`, `http://` or `https://`; `/v1/session` is added where there is no path.
        token: the server's bearer token.
        audio_encoding: `pcm_s16le`, `pcm_f32le`, `mulaw` or `opus` (one packet a call, at 48000 Hz).
        sample_rate_hz: samples a second, 8000 to 48000.
        turns: `heard` in the audio, or `appended` by `append_turn`.
        model: one of the server's; its default where None.
        labels: answer in these labels of the model only.
        language: ISO 639-1.
        speakers: how many there are, where it is known.
        partials: whether turns are told while they are spoken.
        min_silence_ms: the pause that ends a turn.
        pace: `live`, as it is spoken; `replay`, as fast as the server reads it.
        retry_for_s: how long a lost connection is tried again.
        max_buffer_s: how much live audio is kept while there is no connection.
        silence_timeout_s: a server that is silent for so long is taken for gone.

    Raises:
        InvalidInput: not an address, an encoding that there is not.
    """
    update = {
        "protocol": PROTOCOL_VERSION,
        "audio": {"encoding": audio_encoding, "sample_rate_hz": sample_rate_hz},
        "turns": turns,
        "model": model,
        "labels": None if labels is None else list(labels),
        "language": language,
        "speakers": speakers,
        "partials": partials,
        "min_silence_ms": min_silence_ms,
        "pace": pace,
    }
    connection, inbox = Connection(update, audio_encoding, sample_rate_hz), Inbox(MAX_EVENTS)
    link = Link(
        socket_url(url),
        connection,
        inbox,
        token=token,
        retry_for_s=retry_for_s,
        silence_timeout_s=silence_timeout_s,
    )
    return Session(connection, inbox, link, pace=pace, max_buffer_s=max_buffer_s)


class Session:
    """A conversation: `connect` makes it, ``async with`` opens it, ``async for`` gives events.

    All methods raise a `StreamErcClientError` where the session has failed.
    """

    def __init__(
        self, connection: Connection, inbox: Inbox, link: Link, *, pace: Pace, max_buffer_s: float
    ) -> None:
        self._connection, self._inbox, self._link = connection, inbox, link
        self._pace, self._max_buffer_s = pace, max_buffer_s
        self._failure_told = False  # by whatever was called
        self._ended = False  # the iteration
        self._sources: set[asyncio.Task[None]] = set()

    # --- what is known ---

    @property
    def id(self) -> str:
        """The session's name on the server."""
        return self.created.session_id

    @property
    def created(self) -> SessionCreated:
        """What the server has."""
        if self._connection.created is None:
            raise SessionEnded("expected an open session: use `async with connect(...) as session`")
        return self._connection.created

    @property
    def configuration(self) -> Configuration:
        """How the conversation is heard."""
        if self._connection.configuration is None:
            raise SessionEnded("expected an open session: use `async with connect(...) as session`")
        return self._connection.configuration

    @property
    def unacknowledged_ms(self) -> float:
        """How much audio is kept, since the server may ask for it again."""
        return self._connection.buffer.unacknowledged_ms

    # --- opening and leaving ---

    async def __aenter__(self) -> Session:
        """Connect and configure.

        Raises:
            ConnectionFailed: nobody answers, or a server that is full stays so.
            AuthenticationFailed: the token is missing or wrong.
            ConfigurationRefused: the server does not have what was asked for.
        """
        self._link.start()
        try:
            await self._link.ready.wait()
            self._raise_failure()
        except BaseException:
            await self._link.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session where `close` was not called, wait a bounded time for its end, and let go."""
        self._inbox.discard()
        self._close()
        try:
            await self._stop_sources()
        finally:
            await self._link.stop(CLOSE_S if kind is None else FAILED_CLOSE_S)
        if kind is None and not self._failure_told:
            self._raise_failure()

    # --- saying ---

    async def send_audio(self, data: bytes) -> None:
        """Send audio: whole samples, or one opus packet.

        Waits where the socket is slow. Where there is no connection, live audio is kept and it returns at
        once; with `pace="replay"` it waits for the connection.

        Raises:
            InvalidInput: half a sample, or no opus packet.
            SessionLost: no connection, and more than `max_buffer_s` of audio that the server may ask for.
            SessionEnded: after `close`.
        """
        await self._send_audio(data, patient=self._pace != "live")

    async def append_turn(
        self,
        *,
        text: str | None = None,
        speaker: str | None = None,
        audio_start_ms: int | None = None,
        audio_end_ms: int | None = None,
    ) -> int:
        """Say the next turn (`turns="appended"`): a text, or a span of audio, or both.

        Returns:
            The input's id, which an `error` about it carries.
        """
        self._require_going()
        input_id = self._connection.append_turn(text, speaker, audio_start_ms, audio_end_ms)
        self._link.wake()
        return input_id

    async def correct_turn(self, turn: int, speaker: str) -> int:
        """Say who really spoke a turn; it and those after it come again. Gives the input's id."""
        self._require_going()
        input_id = self._connection.correct_turn(turn, speaker)
        self._link.wake()
        return input_id

    async def rename_speaker(self, speaker: str, name: str) -> int:
        """Give a speaker another name; `SpeakerUpdated` tells of it. Gives the input's id."""
        self._require_going()
        input_id = self._connection.rename_speaker(speaker, name)
        self._link.wake()
        return input_id

    async def close(self) -> None:
        """Say that no more comes; the iteration goes on until `SessionClosed`."""
        await self._stop_sources()
        self._close()

    def play(self, path: Path | str, *, pace: Pace | None = None) -> asyncio.Task[None]:
        """Send a WAV file in the background, then close.

        Args:
            path: integer samples at the session's rate; channels are mixed.
            pace: `live` in real time, `replay` as fast as the server reads; the session's where None.

        Raises:
            AudioError: no such file, or not at the session's rate.
        """
        self._require_pcm()
        wav = WavFile(path)
        rate_hz = self._connection.buffer.sample_rate_hz
        if wav.sample_rate_hz != rate_hz:
            wav.close()
            raise AudioError(f"{path}: expected {rate_hz} Hz as the session's, got {wav.sample_rate_hz} Hz")
        return self._start(lambda: self._play(wav, pace or self._pace))

    def listen(self, device: int | str | None = None) -> asyncio.Task[None]:
        """Send what the microphone hears, in the background, until `close`.

        A microphone that does not work ends the session with an AudioError.
        """
        self._require_pcm()
        return self._start(lambda: self._listen(device))

    # --- hearing ---

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event, until `SessionClosed`.

        Raises:
            TotalsMismatch: after `SessionClosed`, where its totals are not those of what was sent and seen.
            StreamErcClientError: the session has failed.
        """
        event = await self._inbox.get()
        if event is None:
            if not self._ended:
                self._ended = True
                self._raise_failure()
            raise StopAsyncIteration
        return event

    # --- inside ---

    async def _send_audio(self, data: bytes, *, patient: bool) -> None:
        self._require_going()
        link, buffer = self._link, self._connection.buffer
        self._connection.append_audio(data)
        link.wake()
        while buffer.unsent_ms > AHEAD_MS and (link.connected or patient) and not link.over.is_set():
            link.moved.clear()
            await link.moved.wait()
        kept_s = buffer.unacknowledged_ms / 1000
        most_s = self._max_buffer_s
        if not link.connected and not patient and kept_s > most_s:
            link.fail(SessionLost(f"expected a connection before {most_s:g} s of audio, got {kept_s:.1f} s"))
        self._raise_failure()

    async def _play(self, wav: WavFile, pace: Pace) -> None:
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        with wav:
            for chunk in wav.chunks():
                sent += len(chunk) // 2
                if pace == "live":
                    await asyncio.sleep(began + sent / wav.sample_rate_hz - loop.time())
                await self._send_audio(chunk, patient=True)
        self._close()

    async def _listen(self, device: int | str | None) -> None:
        async with contextlib.aclosing(heard(device, self._connection.buffer.sample_rate_hz)) as chunks:
            async for chunk in chunks:
                await self._send_audio(chunk, patient=False)

    def _start(self, source: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._watch(source))
        self._sources.add(task)
        task.add_done_callback(self._sources.discard)
        return task

    async def _watch(self, source: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await source()
        except Exception as error:
            self._link.fail(error)

    async def _stop_sources(self) -> None:
        tasks = [task for task in self._sources if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close(self) -> None:
        self._connection.close()
        self._link.wake()

    def _require_going(self) -> None:
        self._raise_failure()
        if not self._link.ready.is_set() or self._link.over.is_set():
            raise SessionEnded("expected an open session, got one that was closed or never opened")

    def _require_pcm(self) -> None:
        self._require_going()
        if self._connection.buffer.encoding != "pcm_s16le":
            raise InvalidInput(f"expected the encoding pcm_s16le, got {self._connection.buffer.encoding}")

    def _raise_failure(self) -> None:
        if self._link.failure is not None:
            self._failure_told = True
            raise self._link.failure
