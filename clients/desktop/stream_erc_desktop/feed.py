"""The session with the server, in a thread of its own: sends audio, and emits events as Qt signals.

The window's thread never waits: it calls `Feed`, which passes every request to an asyncio loop and answers by
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

from stream_erc_desktop.channels import mix
from stream_erc_desktop.event_log import EventLog
from stream_erc_desktop.monitors import Input, Pair, find_monitors
from stream_erc_desktop.recorder import find_microphones
from stream_erc_desktop.sources import BLOCK_MS, SAMPLE_RATE_HZ, Source, SourceError

PAUSE_AFTER_MS = 500  # silence sent after a source, in addition to the silence that ends a turn
EVENTS = ".jsonl"
STOP_S = 3.0  # time limit for closing the session when the window closes


@dataclass(frozen=True, slots=True)
class Options:
    """The requested configuration of the next conversation; None leaves the choice to the server."""

    model: str | None = None
    language: str | None = None
    speakers: int | None = None
    partials: bool = True
    voices: bool = False  # whether to recognize the voices that the server knows


@dataclass
class ActiveConversation:
    """One conversation: its session, and its source once there is one.

    Attributes:
        channels: the names of channels that are heard separately; None for mono.
        session: None before it is open, and after its end.
        kept: the session, also after its end, until when the server keeps it.
    """

    options: Options
    sample_rate_hz: int
    live: bool
    channels: tuple[str | None, ...] | None = None
    source: "asyncio.Future[Source]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    session: Session | None = None
    kept: Session | None = None
    task: "asyncio.Task[None] | None" = None
    finishing: bool = False  # the user has finished the conversation
    all_sent: bool = False  # the source has ended

    @property
    def count(self) -> int:
        """The number of channels that are heard separately."""
        return len(self.channels or (None,))

    def waits_for(self, options: Options, source: Source) -> bool:
        """Return whether it is open, has no source yet, and suits this one."""
        wanted = (options, source.sample_rate_hz, source.live, source.channels)
        same = (self.options, self.sample_rate_hz, self.live, self.channels) == wanted
        return same and not self.source.done() and self.task is not None and not self.task.done()


class Feed(QObject):
    """The window's connection to the server.

    Args:
        url: of the server; "" if it is not known yet, see `reach`.
        token: the server's bearer token.

    Signals:
        connecting: a new conversation begins; no signal of the previous one follows.
        event_received: an event of the session (`stream_erc_client.Event`).
        audio_sent: audio that was sent: mono, 16 bits, at the sample rate of the started source.
        started: the source that begins.
        source_ended: the source has ended; the conversation stays open for corrections.
        failed: why the conversation ended, and whether the server asks for a token.
        refused: why a request failed; the conversation continues.
        saved: the path of the saved events.
        microphones: the list of microphones and monitors, or in one line why there is none.
        told: what the source tells the user.
    """

    connecting = Signal()
    event_received = Signal(object)
    audio_sent = Signal(bytes)
    started = Signal(object)
    source_ended = Signal()
    failed = Signal(str, bool)
    refused = Signal(str)
    saved = Signal(str)
    microphones = Signal(object)
    told = Signal(str)

    def __init__(self, url: str = "", token: str | None = None) -> None:
        super().__init__()
        self.url, self.token = "", token
        self._url_known = asyncio.Event()
        self._active: ActiveConversation | None = None
        self._log = EventLog()
        self._loop = asyncio.new_event_loop()
        self._order = asyncio.Lock()  # conversations begin one after another
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()
        if url:
            self.reach(url)

    # --- requests of the window: these return at once -----------------------------------------------

    def reach(self, url: str) -> None:
        """Set the server's address; until then, conversations wait for it."""
        self.url = url
        self._loop.call_soon_threadsafe(self._url_known.set)

    def open(self, options: Options) -> None:
        """Connect, to learn what the server offers; the first source uses this session."""
        self._submit(self._open(options))

    def hear(self, source: Source, options: Options) -> None:
        """Hear a source, in the open conversation if it is unused, or else in a new one."""
        self._submit(self._hear(source, options))

    def end_source(self) -> None:
        """Stop the source; the conversation stays open for corrections."""
        self._loop.call_soon_threadsafe(self._end_source)

    def finish(self) -> None:
        """End the source, then the conversation."""
        self._submit(self._finish())

    def pause(self, paused: bool) -> None:
        """Pause a recording, or send silence instead of the microphone."""
        self._loop.call_soon_threadsafe(self._pause, paused)

    def rename(self, speaker: str, name: str) -> None:
        """Rename a speaker."""
        self._submit(self._send_input(lambda session: session.rename_speaker(speaker, name)))

    def correct(self, turn: int, speaker: str) -> None:
        """Correct the speaker of a turn."""
        self._submit(self._send_input(lambda session: session.correct_turn(turn, speaker)))

    def enrol(self, turn: int, name: str, keep: bool) -> None:
        """Name the voice of a turn, and keep it on the server if asked to."""
        self._submit(self._send_input(lambda session: session.enrol_voice(name, turn=turn, keep=keep)))

    def save(self, path: Path) -> None:
        """Write the conversation so far to a file, as its ending says: events, or as the server has it."""
        self._submit(self._save(path))

    def look_for_microphones(self) -> None:
        """Look for microphones; the signal `microphones` brings the result."""
        self._submit(self._look_for_microphones())

    def stop(self) -> None:
        """End the thread, and wait a limited time for it."""
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
        tasks = [*self._tasks, *([self._active.task] if self._active and self._active.task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _submit(self, request: Coroutine[None, None, None]) -> None:
        def begin() -> None:
            task = self._loop.create_task(request)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    async def _open(self, options: Options) -> None:
        async with self._order:
            await self._begin(options, SAMPLE_RATE_HZ, live=True, channels=None)

    async def _hear(self, source: Source, options: Options) -> None:
        async with self._order:
            try:
                await asyncio.to_thread(source.open)
            except SourceError as error:
                self.refused.emit(str(error))
                return
            active = self._active
            if active is None or not active.waits_for(options, source):
                rate_hz, channels = source.sample_rate_hz, source.channels
                active = await self._begin(options, rate_hz, live=source.live, channels=channels)
            source.tell = self.told.emit
            active.source.set_result(source)

    async def _begin(
        self, options: Options, sample_rate_hz: int, *, live: bool, channels: tuple[str | None, ...] | None
    ) -> ActiveConversation:
        """End the current conversation and begin a new one."""
        if self._active is not None and self._active.task is not None:
            self._active.task.cancel()
            await asyncio.gather(self._active.task, return_exceptions=True)
        self._log.clear()
        self.connecting.emit()
        active = ActiveConversation(options, sample_rate_hz, live, channels)
        active.task = self._loop.create_task(self._converse(active))
        self._active = active
        return active

    async def _converse(self, active: ActiveConversation) -> None:
        """Run one conversation, from its connection to its end."""
        options, mono = active.options, active.channels is None
        await self._url_known.wait()
        try:
            async with connect(
                self.url,
                token=self.token,
                sample_rate_hz=active.sample_rate_hz,
                channels=_negotiated(active.channels),
                model=options.model,
                language=options.language,
                speakers=options.speakers if mono else None,  # unknown of each channel
                partials=options.partials,
                voices="all" if options.voices and mono else None,
                pace="live" if active.live else "replay",
            ) as session:
                active.session = active.kept = session
                sender = self._loop.create_task(self._send(active, session))
                try:
                    async for event in session:
                        self._log.append(event)
                        self.event_received.emit(event)
                finally:
                    sender.cancel()
                    await asyncio.gather(sender, return_exceptions=True)
        except TotalsMismatch as error:
            self.refused.emit(f"The totals differ: {error}")
        except StreamErcClientError as error:
            self.failed.emit(str(error), isinstance(error, AuthenticationFailed))
        finally:
            active.session = None
            if active.source.done() and not active.source.cancelled():
                active.source.result().close()

    async def _send(self, active: ActiveConversation, session: Session) -> None:
        """Send the source's audio, at the pace of the source."""
        source = await active.source
        self.started.emit(source)
        try:
            async with aclosing(source.blocks()) as blocks:
                async for block in blocks:
                    await session.send_audio(block)
                    self.audio_sent.emit(mix(block, active.count))
            if not active.finishing:  # silence, so that the last turn ends
                await self._send_silence(session, active)
        except SourceError as error:
            self.refused.emit(str(error))
        except StreamErcClientError:
            return  # the iteration over the session's events raises it
        active.all_sent = True
        self.source_ended.emit()
        if active.finishing:
            await session.close(keep=True)

    async def _send_silence(self, session: Session, active: ActiveConversation) -> None:
        left_ms = session.configuration.min_silence_ms + PAUSE_AFTER_MS
        block = bytes(2 * (active.sample_rate_hz * BLOCK_MS // 1_000))
        for _ in range(-(-left_ms // BLOCK_MS)):
            await session.send_audio(block * active.count)
            self.audio_sent.emit(block)
            await asyncio.sleep(BLOCK_MS / 1_000 if active.live else 0)

    def _end_source(self) -> None:
        if self._active is not None and self._active.source.done() and not self._active.source.cancelled():
            self._active.source.result().stop()

    async def _finish(self) -> None:
        active = self._active
        if active is None or active.session is None:
            return
        active.finishing = True
        if active.source.done() and not active.all_sent:
            active.source.result().stop()  # the rest of its audio is sent, then the session is closed
            return
        with suppress(StreamErcClientError):
            await active.session.close(keep=True)

    def _pause(self, paused: bool) -> None:
        if self._active is not None and self._active.source.done() and not self._active.source.cancelled():
            self._active.source.result().pause(paused)

    async def _send_input(self, send: Callable[[Session], Awaitable[int]]) -> None:
        session = None if self._active is None else self._active.session
        if session is None:
            self.refused.emit("The conversation has ended: names can be changed only while it is open")
            return
        try:
            await send(session)
        except StreamErcClientError as error:
            self.refused.emit(str(error))

    async def _save(self, path: Path) -> None:
        session = None if self._active is None else self._active.kept
        try:
            if path.suffix.lower() == EVENTS or session is None:
                self._log.copy_to(path)
            else:
                name = self._source_name()
                content = await session.export(path.suffix.lower().removeprefix("."), name=name)
                await asyncio.to_thread(path.write_bytes, content)
        except OSError as error:
            self.refused.emit(f"{path}: expected a writable file, got: {error.strerror or error}")
        except StreamErcClientError as error:
            self.refused.emit(f"{path.name} could not be saved: {error}")
        else:
            self.saved.emit(str(path))

    def _source_name(self) -> str | None:
        active = self._active
        if active is None or not active.source.done() or active.source.cancelled():
            return None
        return active.source.result().name[:100]

    async def _look_for_microphones(self) -> None:
        self.microphones.emit(await asyncio.to_thread(find_inputs))


def find_inputs() -> list[Input] | str:
    """Return the microphones, the monitors, and both together; or in one line why there is none."""
    monitors, reason = find_monitors(), ""
    found: list[Input] = []
    try:
        microphones = find_microphones()
    except SourceError as error:
        reason = str(error)
    else:
        found += microphones
        default = next((one for one in microphones if one.is_default), microphones[0])
        found += [Pair(default, monitor) for monitor in monitors[:1]]
    found += monitors
    return found or reason


def _negotiated(channels: tuple[str | None, ...] | None) -> int | tuple[str | None, ...]:
    """Return the channels as `connect` takes them: their number, or their names if they have any."""
    if channels is None:
        return 1
    return channels if any(channels) else len(channels)
