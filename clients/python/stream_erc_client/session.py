"""A session over the network, on asyncio: it connects, resumes by itself, and yields events.

One task owns the socket (`connector`). `send_audio` and the other methods append to the connection's buffer,
from which that task sends; a caller that is cancelled has therefore sent all of a message or nothing.
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
from stream_erc_client.connector import Connector, socket_url
from stream_erc_client.errors import (
    AudioError,
    ExportRefused,
    InvalidInput,
    SessionEnded,
    SessionLost,
)
from stream_erc_client.events import Configuration, Event, SessionCreated, SpeakerSummary
from stream_erc_client.exporting import export
from stream_erc_client.inbox import Inbox
from stream_erc_client.media import MediaFile, open_audio
from stream_erc_client.microphone import record

Pace = Literal["live", "replay"]

PROTOCOL_VERSION: Final = 1
AHEAD_MS: Final = 1000  # unsent audio beyond which `send_audio` waits
MAX_EVENTS: Final = 4096  # unread events beyond which the socket is no longer read
CLOSE_S: Final = 10.0  # timeout for the session's end when the context exits before it
FAILED_CLOSE_S: Final = 1.0  # the same when the context exits with an exception


def connect(
    url: str,
    *,
    token: str | None = None,
    audio_encoding: str = "pcm_s16le",
    sample_rate_hz: int = 16_000,
    channels: int | Sequence[str | None] = 1,
    turns: Literal["heard", "appended"] = "heard",
    model: str | None = None,
    labels: Sequence[str] | None = None,
    language: str | None = None,
    speakers: int | None = None,
    voices: Sequence[str] | Literal["all"] | None = None,
    words: bool = False,
    partials: bool = True,
    min_silence_ms: int | None = None,
    pace: Pace = "live",
    retry_for_s: float = 600.0,
    max_buffer_s: float = 120.0,
    silence_timeout_s: float = 25.0,
) -> Session:
    """Return a session, which opens as an async context manager.

    Args:
        url: `ws://`, `wss://`, `http://` or `https://`; `/v1/session` is added if there is no path.
        token: the server's bearer token.
        audio_encoding: `pcm_s16le`, `pcm_f32le`, `mulaw`, `alaw` or `opus` (one packet a call, at 48000 Hz).
        sample_rate_hz: sample rate of the audio, 8000 to 48000.
        channels: the number of channels, which are heard separately if there are several, their samples
            interleaved; or the speaker of each channel, None for one whose speakers are told by the voice.
        turns: `heard` in the audio, or `appended` by `append_turn`.
        model: one of the server's models; None for its default.
        labels: answer in these labels of the model only.
        language: ISO 639-1 code.
        speakers: number of speakers, if known.
        voices: names of the server's known voices to recognize (`created.voices` lists them), or `all`.
        words: whether final turns tell the time of every word.
        partials: whether to receive turns while they are spoken.
        min_silence_ms: the silence that ends a turn.
        pace: `live`, as it is spoken; `replay`, as fast as the server reads it.
        retry_for_s: how long to retry a lost connection.
        max_buffer_s: maximum of live audio kept while there is no connection.
        silence_timeout_s: a server that sends nothing for this long counts as lost.

    Raises:
        InvalidInput: not an address, an unknown encoding, or no channel.
    """
    names = None if isinstance(channels, int) else list(channels)
    count = channels if isinstance(channels, int) else len(channels)
    audio: dict[str, object] = {"encoding": audio_encoding, "sample_rate_hz": sample_rate_hz}
    if count != 1:
        audio["channels"] = count
    update = {
        "protocol": PROTOCOL_VERSION,
        "audio": audio,
        "turns": turns,
        "model": model,
        "labels": None if labels is None else list(labels),
        "language": language,
        "speakers": speakers,
        "words": words,
        "partials": partials,
        "min_silence_ms": min_silence_ms,
        "pace": pace,
    }
    if names is not None:
        update["channel_names"] = names
    if voices is not None:  # an older server does not know the field
        update["voices"] = voices if isinstance(voices, str) else list(voices)
    connection, inbox = Connection(update, audio_encoding, sample_rate_hz, count), Inbox(MAX_EVENTS)
    connector = Connector(
        socket_url(url),
        connection,
        inbox,
        token=token,
        retry_for_s=retry_for_s,
        silence_timeout_s=silence_timeout_s,
    )
    return Session(connection, inbox, connector, pace=pace, max_buffer_s=max_buffer_s)


class Session:
    """A conversation: `connect` makes it, ``async with`` opens it, ``async for`` yields its events.

    All methods raise a `StreamErcClientError` if the session has failed.
    """

    def __init__(
        self, connection: Connection, inbox: Inbox, connector: Connector, *, pace: Pace, max_buffer_s: float
    ) -> None:
        self._connection, self._inbox, self._connector = connection, inbox, connector
        self._pace, self._max_buffer_s = pace, max_buffer_s
        self._failure_raised = False  # whether any call has raised the failure
        self._ended = False  # whether the iteration has ended
        self._sources: set[asyncio.Task[None]] = set()

    # --- state ---

    @property
    def id(self) -> str:
        """The session's id on the server."""
        return self.created.session_id

    @property
    def created(self) -> SessionCreated:
        """The server's first message, with what it offers."""
        if self._connection.created is None:
            raise SessionEnded("expected an open session: use `async with connect(...) as session`")
        return self._connection.created

    @property
    def configuration(self) -> Configuration:
        """The session's configuration."""
        if self._connection.configuration is None:
            raise SessionEnded("expected an open session: use `async with connect(...) as session`")
        return self._connection.configuration

    @property
    def unacknowledged_ms(self) -> float:
        """Duration of the audio kept because the server may ask for it again."""
        return self._connection.buffer.unacknowledged_ms

    # --- opening and leaving ---

    async def __aenter__(self) -> Session:
        """Connect and configure.

        Raises:
            ConnectionFailed: no server answers, or it stays full.
            AuthenticationFailed: the token is missing or wrong.
            ConfigurationRefused: the server does not support the requested configuration.
        """
        self._connector.start()
        try:
            await self._connector.ready.wait()
            self._raise_failure()
        except BaseException:
            await self._connector.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session if `close` was not called, and wait a limited time for its end."""
        self._inbox.discard()
        self._close()
        try:
            await self._stop_sources()
        finally:
            await self._connector.stop(CLOSE_S if kind is None else FAILED_CLOSE_S)
        if kind is None and not self._failure_raised:
            self._raise_failure()

    # --- input ---

    async def send_audio(self, data: bytes) -> None:
        """Send audio: whole samples of all channels, interleaved, or one opus packet.

        Waits while the socket is slow. Without a connection, live audio is kept and the call returns at once;
        with `pace="replay"` the call waits for the connection.

        Raises:
            InvalidInput: half a sample, or not an opus packet.
            SessionLost: no connection, and more than `max_buffer_s` of unacknowledged audio.
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
        """Append the next turn (`turns="appended"`): a text, or a span of audio, or both.

        Returns:
            The input id, which an `error` about this turn refers to.
        """
        self._require_open()
        input_id = self._connection.append_turn(text, speaker, audio_start_ms, audio_end_ms)
        self._connector.wake()
        return input_id

    async def correct_turn(self, turn: int, speaker: str) -> int:
        """Correct the speaker of a turn and return the input id.

        The turn and those after it come again as `TurnRevised`.
        """
        self._require_open()
        input_id = self._connection.correct_turn(turn, speaker)
        self._connector.wake()
        return input_id

    async def rename_speaker(self, speaker: str, name: str) -> int:
        """Rename a speaker and return the input id; `SpeakerUpdated` confirms the name."""
        self._require_open()
        input_id = self._connection.rename_speaker(speaker, name)
        self._connector.wake()
        return input_id

    async def enrol_voice(
        self, name: str, *, turn: int | None = None, clip: bytes | None = None, keep: bool = False
    ) -> int:
        """Make a voice known by its name and return the input id; `VoiceEnrolled` confirms it.

        Only with the person's consent.

        Args:
            name: the person's name.
            turn: a turn that the person spoke; its speaker gets the name, in all turns.
            clip: or up to 30 s of 16-bit samples, mono at 16 kHz, in which nobody else speaks.
            keep: whether the server keeps the voice for other sessions, if `created.keeps_voices`.

        Raises:
            InvalidInput: a turn and a clip, or neither.
        """
        self._require_open()
        input_id = self._connection.enrol_voice(name, turn, clip, keep)
        self._connector.wake()
        return input_id

    async def close(self, *, keep: bool = False) -> None:
        """End the input; the iteration continues until `SessionClosed`.

        Args:
            keep: whether the server keeps the session until it expires, to be resumed by its token. Otherwise
                it is deleted there as soon as its end has been received.
        """
        await self._stop_sources()
        self._close(keep=keep)

    async def delete(self) -> None:
        """End the session at once and delete it on the server; the iteration ends with `SessionDeleted`."""
        await self._stop_sources()
        self._connection.delete()
        self._connector.wake()

    def play(self, path: Path | str, *, pace: Pace | None = None, keep: bool = False) -> asyncio.Task[None]:
        """Send a recording in the background, then close.

        Args:
            path: a WAV file at the session's rate, or, with the extra `formats`, any audio or video file. Its
                channels are mixed if the session has one channel, and must be as many as the session's
                otherwise.
            pace: `live` in real time, `replay` as fast as the server reads; None for the session's pace.
            keep: as for `close`.

        Raises:
            AudioError: no such file, not at the session's rate, or with another number of channels; the error
                for another format than WAV names the extra if it is missing.
        """
        self._require_pcm()
        buffer = self._connection.buffer
        wav = open_audio(path, buffer.sample_rate_hz)
        if wav.sample_rate_hz != buffer.sample_rate_hz:
            wav.close()
            raise AudioError(
                f"{path}: expected {buffer.sample_rate_hz} Hz like the session, got {wav.sample_rate_hz} Hz"
            )
        if buffer.channels not in (1, wav.channels):
            wav.close()
            raise AudioError(
                f"{path}: expected {buffer.channels} channels like the session, got {wav.channels}"
            )
        return self._start(lambda: self._play(wav, pace or self._pace, keep))

    def listen(self, device: int | str | None = None) -> asyncio.Task[None]:
        """Send the microphone's audio in the background, until `close`.

        A microphone that does not work ends the session with an AudioError.

        Raises:
            InvalidInput: the session has several channels, or an encoding other than pcm_s16le.
        """
        self._require_pcm()
        if self._connection.buffer.channels != 1:
            raise InvalidInput(f"expected a session of 1 channel, got {self._connection.buffer.channels}")
        return self._start(lambda: self._listen(device))

    def summary(self) -> tuple[SpeakerSummary, ...] | None:
        """Return the whole of the conversation by speaker: the server's, once `SessionClosed` has come."""
        return self._connection.summary

    async def export(self, file_format: str, *, name: str | None = None) -> bytes:
        """Return the turns so far as a file; after the end only if the session was closed with `keep`.

        Args:
            file_format: one of `created.exports`: `srt`, `csv`, `textgrid` ...
            name: the name of what was heard, for the file.

        Raises:
            ConnectionFailed: no server answers.
            ExportRefused: not in this format, or the server no longer has the session.
        """
        secret = self.created.resume_token
        if secret is None:
            raise ExportRefused("expected a session that can be resumed, got one without a resume token")
        return await export(self._connector.url, secret, file_format, token=self._connector.token, name=name)

    # --- events ---

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Return the next event, until `SessionClosed`.

        Raises:
            TotalsMismatch: after `SessionClosed`, if its totals differ from what was sent and received.
            StreamErcClientError: the session has failed.
        """
        event = await self._inbox.get()
        if event is None:
            if not self._ended:
                self._ended = True
                self._raise_failure()
            raise StopAsyncIteration
        return event

    # --- internals ---

    async def _send_audio(self, data: bytes, *, patient: bool) -> None:
        self._require_open()
        connector, buffer = self._connector, self._connection.buffer
        over = connector.over
        self._connection.append_audio(data)
        connector.wake()
        while buffer.unsent_ms > AHEAD_MS and (connector.connected or patient) and not over.is_set():
            connector.moved.clear()
            await connector.moved.wait()
        kept_s = buffer.unacknowledged_ms / 1000
        max_s = self._max_buffer_s
        if not connector.connected and not patient and kept_s > max_s:
            message = f"expected a connection before {max_s:g} s of audio, got {kept_s:.1f} s"
            connector.fail(SessionLost(message))
        self._raise_failure()

    async def _play(self, wav: WavFile | MediaFile, pace: Pace, keep: bool) -> None:
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        with wav:
            channels = self._connection.buffer.channels
            for chunk in wav.chunks(separate=channels > 1):
                sent += len(chunk) // (2 * channels)
                if pace == "live":
                    await asyncio.sleep(began + sent / wav.sample_rate_hz - loop.time())
                await self._send_audio(chunk, patient=True)
        self._close(keep=keep)

    async def _listen(self, device: int | str | None) -> None:
        async with contextlib.aclosing(record(device, self._connection.buffer.sample_rate_hz)) as chunks:
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
            self._connector.fail(error)

    async def _stop_sources(self) -> None:
        tasks = [task for task in self._sources if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close(self, *, keep: bool = False) -> None:
        self._connection.close(keep=keep)
        self._connector.wake()

    def _require_open(self) -> None:
        self._raise_failure()
        if not self._connector.ready.is_set() or self._connector.over.is_set():
            raise SessionEnded("expected an open session, got one that was closed or never opened")

    def _require_pcm(self) -> None:
        self._require_open()
        if self._connection.buffer.encoding != "pcm_s16le":
            raise InvalidInput(f"expected the encoding pcm_s16le, got {self._connection.buffer.encoding}")

    def _raise_failure(self) -> None:
        if self._connector.failure is not None:
            self._failure_raised = True
            raise self._connector.failure
