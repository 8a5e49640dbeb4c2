"""The session with the server, in a thread of its own: what is heard goes out, events come in as Qt signals.

The window's thread never waits: it calls `Feed`, which hands everything to an asyncio loop, and is told by
signals, in the order in which things happened.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from stream_erc_client import AuthenticationFailed, Session, StreamErcClientError, TotalsMismatch, connect

from stream_erc_desktop.event_log import EventLog
from stream_erc_desktop.recorder import find_microphones
from stream_erc_desktop.sources import BLOCK_MS, SAMPLE_RATE_HZ, Source, SourceError

PAUSE_AFTER_MS = 500  # of silence beyond what ends a turn, after a recording
STOP_S = 3.0  # for a last word to the server, when the window closes


@dataclass(frozen=True, slots=True)
class Options:
    """What the next conversation is asked for; None leaves it to the server."""

    model: str | None = None
    language: str | None = None
    speakers: int | None = None
    partials: bool = True


@dataclass
class Take:
    """One conversation: its session, and the source that it hears once there is one."""

    options: Options
    sample_rate_hz: int
    live: bool
    source: "asyncio.Future[Source]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    session: Session | None = None
    task: "asyncio.Task[None] | None" = None
    finishing: bool = False  # no more is wanted
    all_sent: bool = False  # the source has nothing more

    def waits_for(self, options: Options, source: Source) -> bool:
        """Whether it is open, unused and right for a source."""
        same = (self.options, self.sample_rate_hz, self.live) == (options, source.sample_rate_hz, source.live)
        return same and not self.source.done() and self.task is not None and not self.task.done()


class Feed(QObject):
    """The window's way to the server.

    Args:
        url: of the server; "" where it is not known yet, see `reach`.
        token: the server's bearer token.

    Signals:
        connecting: a new conversation begins; nothing of the one before comes after it.
        told: what the session tells (`stream_erc_client.Event`).
        heard: audio that was sent: mono, 16 bits, at the rate told by `started`.
        started: a source is being heard.
        source_ended: the source has nothing more; the conversation stays open for corrections.
        failed: the conversation cannot go on: why, and whether a token is asked for.
        refused: something that was asked for could not be done; the conversation goes on.
        saved: where the events were written.
        microphones: the list of them, or in one line why there is none.
    """

    connecting = Signal()
    told = Signal(object)
    heard = Signal(bytes)
    started = Signal(object)
    source_ended = Signal()
    failed = Signal(str, bool)
    refused = Signal(str)
    saved = Signal(str)
    microphones = Signal(object)

    def __init__(self, url: str = "", token: str | None = None) -> None:
        super().__init__()
        self.url, self.token = "", token
        self._known = asyncio.Event()  # where the server is
        self._take: Take | None = None
        self._log = EventLog()
        self._loop = asyncio.new_event_loop()
        self._order = asyncio.Lock()  # one thing after the other
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()
        if url:
            self.reach(url)

    # --- what the window asks for: returns at once --------------------------------------------------

    def reach(self, url: str) -> None:
        """Say where the server is; until then, conversations wait for it."""
        self.url = url
        self._loop.call_soon_threadsafe(self._known.set)

    def open(self, options: Options) -> None:
        """Connect, so that the server's choices are known; the first source is heard in this session."""
        self._ask(self._open(options))

    def hear(self, source: Source, options: Options) -> None:
        """Hear a source, in a new conversation unless one waits for it."""
        self._ask(self._hear(source, options))

    def end_source(self) -> None:
        """Hear no more; the conversation stays open for corrections."""
        self._loop.call_soon_threadsafe(self._end_source)

    def finish(self) -> None:
        """End the source, then the conversation."""
        self._ask(self._finish())

    def pause(self, paused: bool) -> None:
        """Pause a recording, or send silence instead of the microphone."""
        self._loop.call_soon_threadsafe(self._pause, paused)

    def rename(self, speaker: str, name: str) -> None:
        """Give a speaker another name."""
        self._ask(self._say(lambda session: session.rename_speaker(speaker, name)))

    def correct(self, turn: int, speaker: str) -> None:
        """Say who spoke a turn."""
        self._ask(self._say(lambda session: session.correct_turn(turn, speaker)))

    def save(self, path: Path) -> None:
        """Write the events so far to a file."""
        self._ask(self._save(path))

    def look_for_microphones(self) -> None:
        """Ask which there are; `microphones` answers."""
        self._ask(self._look_for_microphones())

    def stop(self) -> None:
        """End the thread; waits a bounded time."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S + 2.0)

    # --- in the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        with suppress(asyncio.TimeoutError):
            self._loop.run_until_complete(asyncio.wait_for(self._end(), STOP_S))
        self._loop.close()
        self._log.close()

    async def _end(self) -> None:
        tasks = [*self._tasks, *([self._take.task] if self._take and self._take.task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _ask(self, what: Coroutine[None, None, None]) -> None:
        def begin() -> None:
            task = self._loop.create_task(what)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    async def _open(self, options: Options) -> None:
        async with self._order:
            await self._begin(options, SAMPLE_RATE_HZ, live=True)

    async def _hear(self, source: Source, options: Options) -> None:
        async with self._order:
            try:
                await asyncio.to_thread(source.open)
            except SourceError as error:
                self.refused.emit(str(error))
                return
            take = self._take
            if take is None or not take.waits_for(options, source):
                take = await self._begin(options, source.sample_rate_hz, live=source.live)
            take.source.set_result(source)

    async def _begin(self, options: Options, sample_rate_hz: int, *, live: bool) -> Take:
        """Let the last conversation go and begin another one."""
        if self._take is not None and self._take.task is not None:
            self._take.task.cancel()
            await asyncio.gather(self._take.task, return_exceptions=True)
        self._log.clear()
        self.connecting.emit()
        take = Take(options, sample_rate_hz, live)
        take.task = self._loop.create_task(self._converse(take))
        self._take = take
        return take

    async def _converse(self, take: Take) -> None:
        """One conversation from its connection to its end."""
        options = take.options
        await self._known.wait()
        try:
            async with connect(
                self.url,
                token=self.token,
                sample_rate_hz=take.sample_rate_hz,
                model=options.model,
                language=options.language,
                speakers=options.speakers,
                partials=options.partials,
                pace="live" if take.live else "replay",
            ) as session:
                take.session = session
                sender = self._loop.create_task(self._send(take, session))
                try:
                    async for event in session:
                        self._tell(event)
                finally:
                    sender.cancel()
                    await asyncio.gather(sender, return_exceptions=True)
        except TotalsMismatch as error:
            self.refused.emit(f"The totals do not agree: {error}")
        except StreamErcClientError as error:
            self.failed.emit(str(error), isinstance(error, AuthenticationFailed))
        finally:
            take.session = None
            if take.source.done() and not take.source.cancelled():
                take.source.result().close()

    async def _send(self, take: Take, session: Session) -> None:
        """Send what the source gives, in the clock of the source."""
        source = await take.source
        self.started.emit(source)
        try:
            async with aclosing(source.blocks()) as blocks:
                async for block in blocks:
                    await session.send_audio(block)
                    self.heard.emit(block)
            if not take.finishing:  # a pause, so that the last turn ends
                await self._send_silence(session, take)
        except SourceError as error:
            self.refused.emit(str(error))
        except StreamErcClientError:
            return  # the iteration over the session's events tells it
        take.all_sent = True
        self.source_ended.emit()
        if take.finishing:
            await session.close()

    async def _send_silence(self, session: Session, take: Take) -> None:
        left_ms = session.configuration.min_silence_ms + PAUSE_AFTER_MS
        block = bytes(2 * (take.sample_rate_hz * BLOCK_MS // 1_000))
        for _ in range(-(-left_ms // BLOCK_MS)):
            await session.send_audio(block)
            self.heard.emit(block)
            await asyncio.sleep(BLOCK_MS / 1_000 if take.live else 0)

    def _end_source(self) -> None:
        if self._take is not None and self._take.source.done() and not self._take.source.cancelled():
            self._take.source.result().stop()

    async def _finish(self) -> None:
        take = self._take
        if take is None or take.session is None:
            return
        take.finishing = True
        if take.source.done() and not take.all_sent:
            take.source.result().stop()  # what it heard until now is sent, then the conversation is closed
            return
        with suppress(StreamErcClientError):
            await take.session.close()

    def _pause(self, paused: bool) -> None:
        if self._take is not None and self._take.source.done() and not self._take.source.cancelled():
            self._take.source.result().pause(paused)

    async def _say(self, what: Callable[[Session], Awaitable[int]]) -> None:
        session = None if self._take is None else self._take.session
        if session is None:
            self.refused.emit("The conversation is over: speakers can be named while it is open")
            return
        try:
            await what(session)
        except StreamErcClientError as error:
            self.refused.emit(str(error))

    async def _save(self, path: Path) -> None:
        try:
            self._log.copy_to(path)
        except OSError as error:
            self.refused.emit(f"{path}: expected a place that can be written, got: {error.strerror or error}")
        else:
            self.saved.emit(str(path))

    async def _look_for_microphones(self) -> None:
        try:
            self.microphones.emit(await asyncio.to_thread(find_microphones))
        except SourceError as error:
            self.microphones.emit(str(error))

    def _tell(self, event: object) -> None:
        self._log.append(event)
        self.told.emit(event)
