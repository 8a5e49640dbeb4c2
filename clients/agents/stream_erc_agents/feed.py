"""A feed sends a call's audio and turns to the server, and never makes the call wait.

A call must not depend on the server. A feed therefore accepts audio and turns at once, sends them from a task
of its own, and logs errors: the client package resumes a lost connection, a new session follows a lost one,
and a turn that is not classified in time has no reading.
"""

import asyncio
import inspect
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from stream_erc_agents.speech import to_mono
from stream_erc_client import (
    Disconnected,
    Event,
    Failed,
    Reconnected,
    Session,
    StreamErcClientError,
    TurnFailed,
    TurnFinal,
    connect,
)

log = logging.getLogger(__name__)

Answer: TypeAlias = asyncio.Future[TurnFinal | None]
"""The reading of an appended turn; None if there will be none."""

Listener: TypeAlias = Callable[[Event], Awaitable[None] | None]

MAX_QUEUE_S = 30
"""Limit of queued audio: beyond it, the session is abandoned and a new one begins."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pause before a new session after a lost one: the first, doubled each time, and the longest."""

CLOSE_S = 10.0
"""Time limit for the last turns at the end."""

MAX_TEXT, MAX_NAME = 20_000, 100
"""The protocol's limits, in characters."""

WINDOW_MS = 50
"""A span ends at least this long before the last audio sent: the server reads in windows, and would wait."""

SAMPLE_BYTES = {"pcm_s16le": 2, "mulaw": 1}


@dataclass(frozen=True, slots=True)
class Server:
    """The server's address and the requested configuration; see the client package's `connect`."""

    url: str
    token: str | None = None
    model: str | None = None
    labels: tuple[str, ...] | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class _Append:
    """A turn to append; the span is in samples since the feed began."""

    text: str
    speaker: str | None
    span: tuple[int, int] | None
    answer: Answer


class Feed:
    """One conversation with a server. Create and use it inside a running event loop.

    Args:
        server: the server and the requested configuration.
        encoding: of the audio, ``pcm_s16le`` or ``mulaw``.
        sample_rate_hz: of the audio.
        channels: the speaker of each channel, whose samples are interleaved; None for mono audio.
        turns: ``appended`` by `append_turn`, or ``heard`` in the audio by the server.
        on_event: called with every event of the client package. May be a coroutine function; its exceptions
            are logged.
    """

    def __init__(
        self,
        server: Server,
        *,
        encoding: Literal["pcm_s16le", "mulaw"] = "pcm_s16le",
        sample_rate_hz: int = 16_000,
        channels: Sequence[str] | None = None,
        turns: Literal["appended", "heard"] = "appended",
        on_event: Listener | None = None,
    ) -> None:
        self.server, self.encoding, self.sample_rate_hz = server, encoding, sample_rate_hz
        self.turns, self.channels, self._on_event = turns, channels, on_event
        count = 1 if channels is None else len(channels)
        self._size = count * SAMPLE_BYTES[encoding]  # of a sample of all channels
        self._queue: asyncio.Queue[bytes | _Append | None] = asyncio.Queue()
        self._received = self._taken = 0  # samples since the feed began: received, taken from the queue
        self._origin = 0  # position at which the session's audio begins
        self._in_session = self._connected = self._closing = self._pausing = False
        self._overdue = 0  # unanswered turns whose timeout has passed
        self._open: deque[tuple[int, Answer]] = deque()  # input ids and answers of unanswered turns
        self._next_turn = 0  # index of the session's next new turn
        self._other_rates: set[int] = set()  # sample rates already warned about
        self._old_tasks: set[asyncio.Task[None]] = set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def position(self) -> int:
        """Samples of audio received since the feed began."""
        return self._received

    def send_audio(self, data: bytes) -> None:
        """Queue audio, whole samples of all channels in the feed's encoding; return at once."""
        if len(data) % self._size:
            raise ValueError(f"expected whole samples of {self._size} bytes, got {len(data)} bytes")
        if self._closing or not data:
            return
        if self._received - self._taken > MAX_QUEUE_S * self.sample_rate_hz:
            if self._in_session:
                self._start_again()
            else:
                self._abandon()
        self._received += len(data) // self._size
        if self._pausing:
            self._taken = self._received  # dropped: there is no session
        else:
            self._queue.put_nowait(data)

    def send_frame(self, pcm: bytes, sample_rate_hz: int, channels: int) -> None:
        """Queue a framework's 16-bit audio, mixed to mono; drop it if it has another sample rate."""
        if sample_rate_hz == self.sample_rate_hz:
            self.send_audio(to_mono(pcm, channels))
        elif sample_rate_hz not in self._other_rates:
            self._other_rates.add(sample_rate_hz)
            log.warning("expected audio at %d Hz, got %d Hz: dropped", self.sample_rate_hz, sample_rate_hz)

    def append_turn(
        self, text: str, *, speaker: str | None = None, span: tuple[int, int] | None = None
    ) -> Answer:
        """Queue a turn; return at once.

        Args:
            text: the words.
            speaker: the speaker; None to identify the speaker by voice.
            span: its position in the audio, in samples since the feed began; None for a turn of text alone.

        Returns:
            The future reading: await it with `reading_of`.
        """
        answer: Answer = asyncio.get_running_loop().create_future()
        text, speaker = _sendable(text, MAX_TEXT), _sendable(speaker or "", MAX_NAME)
        if self._closing or self._pausing or not text:
            answer.set_result(None)
        else:
            self._queue.put_nowait(_Append(text, speaker or None, span, answer))
        return answer

    async def reading_of(self, answer: Answer, timeout_s: float) -> TurnFinal | None:
        """Wait for a turn's reading, at most `timeout_s`; do not wait while an earlier turn is overdue.

        Returns:
            The turn; None if it failed, is late, or there is no connection.
        """
        if answer.done():
            return answer.result()
        if not self._connected or self._overdue:
            return None
        done, _ = await asyncio.wait({answer}, timeout=max(timeout_s, 0))
        if done:
            return answer.result()
        self._overdue += 1
        answer.add_done_callback(self._caught_up)
        return None

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is queued, wait at most `timeout_s` for the last turns, and end."""
        if not self._closing:
            self._closing = True
            self._queue.put_nowait(None)
        if self._pausing:
            self._task.cancel()
        _, running = await asyncio.wait({self._task}, timeout=timeout_s)
        if running:
            log.warning("the server did not finish the conversation within %g s", timeout_s)
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._abandon()

    def _caught_up(self, _: Answer) -> None:
        self._overdue -= 1

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                async with connect(
                    self.server.url,
                    token=self.server.token,
                    audio_encoding=self.encoding,
                    sample_rate_hz=self.sample_rate_hz,
                    turns=self.turns,
                    model=self.server.model,
                    labels=self.server.labels,
                    language=self.server.language,
                    channels=1 if self.channels is None else self.channels,
                    partials=self.turns == "heard",
                ) as session:
                    pause = FIRST_PAUSE_S
                    await self._converse(session)
            except* StreamErcClientError as group:
                log.warning("the conversation with the server ended: %s", _reason(group))
            except* Exception:  # a bug here must not end the call
                log.exception("the conversation with the server failed")
            self._abandon()
            if self._closing:
                return
            self._pausing = True
            await asyncio.sleep(random.uniform(pause / 2, pause))  # so that calls do not retry all at once
            self._pausing = False
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _converse(self, session: Session) -> None:
        limits = session.created.limits
        if limits and (self._received - self._taken) * 1000 > limits.burst_ms * self.sample_rate_hz:
            self._abandon()  # queued before the connection, and more than the server accepts at once
        self._origin, self._next_turn = self._taken, 0
        self._in_session = self._connected = True
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._send(session))
                async for event in session:
                    self._match(event)
                    await self._notify(event)
                sender.cancel()
        finally:
            self._in_session = self._connected = False

    async def _send(self, session: Session) -> None:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, bytes):
                self._taken += len(item) // self._size
                await session.send_audio(item)
                continue
            start_ms, end_ms = self._span_ms(session, item.span)
            input_id = await session.append_turn(
                text=item.text, speaker=item.speaker, audio_start_ms=start_ms, audio_end_ms=end_ms
            )
            self._open.append((input_id, item.answer))
        await session.close()

    def _span_ms(self, session: Session, span: tuple[int, int] | None) -> tuple[int | None, int | None]:
        """Convert a span to the session's milliseconds, cut to the audio that the server still has."""
        if span is None:
            return None, None
        limits = session.created.limits
        oldest = self._taken - (limits.appended_audio_ms * self.sample_rate_hz // 1000 if limits else 0)
        start = max(span[0], self._origin, oldest) - self._origin
        end = min(span[1], self._taken - WINDOW_MS * self.sample_rate_hz // 1000) - self._origin
        start_ms, end_ms = -(-start * 1000 // self.sample_rate_hz), end * 1000 // self.sample_rate_hz
        return (start_ms, end_ms) if start_ms < end_ms else (None, None)

    def _match(self, event: Event) -> None:
        """Match an event with the appended turns, which the server answers in order."""
        match event:
            case Disconnected():
                self._connected = False
            case Reconnected():
                self._connected = True
            case TurnFinal(turn=self._next_turn) | TurnFailed(turn=self._next_turn) if self._open:
                self._next_turn += 1
                _, answer = self._open.popleft()
                _settle(answer, event if isinstance(event, TurnFinal) else None)
            case Failed(input_id=int(rejected)):
                log.warning("the server rejected a turn: %s", event.message)
                for opened in [pair for pair in self._open if pair[0] == rejected]:
                    self._open.remove(opened)
                    _settle(opened[1], None)

    async def _notify(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            result = self._on_event(event)
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception("the event listener failed")

    def _start_again(self) -> None:
        """Drop what is queued, and the session with it: its audio would have a gap."""
        log.warning("more than %d s of audio are queued: a new session begins", MAX_QUEUE_S)
        self._task.cancel()
        self._old_tasks.add(self._task)
        self._task.add_done_callback(self._old_tasks.discard)
        self._abandon()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def _abandon(self) -> None:
        """Drop all queued audio, and answer all queued and open turns with None."""
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if isinstance(item, bytes):
                self._taken += len(item) // self._size
            elif item is not None:
                _settle(item.answer, None)
        if self._closing:
            self._queue.put_nowait(None)
        while self._open:
            _settle(self._open.popleft()[1], None)


def _settle(answer: Answer, turn: TurnFinal | None) -> None:
    if not answer.done():  # done if its waiter cancelled it
        answer.set_result(turn)


def _reason(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_reason, error.exceptions))
    return str(error)


def _sendable(text: str, length: int) -> str:
    """Replace what UTF-8 cannot encode, and cut the text to a length."""
    return text.encode(errors="replace").decode().strip()[:length].strip()
