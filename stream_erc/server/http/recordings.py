"""One recording through the engine, by the same worker as live sessions, behind them."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from pathlib import Path

from stream_erc.audio import SAMPLE_RATE
from stream_erc.inference.workers import ThreadWorker
from stream_erc.protocol.encoding import FileEncoder, Message
from stream_erc.protocol.negotiation import SessionTerms
from stream_erc.server.shared import SharedState
from stream_erc.sources.audio_files import AudioFile

CHUNK_MS = 100


class CutOff(Exception):
    """The recording was given up: its client left, or the server stops."""


class Hearing:
    """The session of a recording, which runs in a thread of its own.

    Args:
        terms: its configuration.
        worker: runs its work.
        session_id: its name in the messages.
        on_audio: called with the seconds of audio of each chunk.
    """

    def __init__(
        self,
        terms: SessionTerms,
        worker: ThreadWorker,
        session_id: str,
        on_audio: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._terms, self._worker, self._on_audio = terms, worker, on_audio
        self._encoder = FileEncoder(session_id)
        self._session = terms.engine.open_session(terms.session_config())
        self._cut_off = threading.Event()

    def cut_off(self) -> None:
        """Give the recording up, from any thread: `run` ends as soon as its running work has ended."""
        self._cut_off.set()
        self._worker.detach(self._session)

    def run(self, recording: Path, report: Callable[[Message], None], warn: Callable[[str], None]) -> None:
        """Hear a recording; block meanwhile.

        Args:
            recording: the file.
            report: is given each message.
            warn: is told what is wrong with a file that can be read.

        Raises:
            AudioError: not audio, or nothing that can be read in it.
            CutOff: it was given up.
        """
        session, worker = self._session, self._worker
        worker.attach(session, lambda: None, low_priority=True)
        try:
            # Whoever uploads a file must not read others by it: no playlists.
            audio = AudioFile(recording, self_contained=True, warn=warn)
            classifier = self._terms.engine.classifier
            duration_ms = None if audio.duration_s is None else round(1000 * audio.duration_s)
            report(
                self._encoder.created(
                    model=classifier.name,
                    asr=self._terms.engine.asr_name,
                    labels=classifier.labels,
                    name="upload",
                    duration_ms=duration_ms,
                )
            )
            for chunk in audio.chunks(CHUNK_MS):
                self._check()
                self._on_audio(len(chunk) / SAMPLE_RATE)
                session.receive_audio(chunk)
                for event in worker.advance(session):
                    report(self._encoder.encode(event))
            self._check()
            session.receive_eof()
            for event in worker.advance(session, wait=True):
                report(self._encoder.encode(event))
            self._check()
        finally:
            worker.detach(session)

    def _check(self) -> None:
        if self._cut_off.is_set():
            raise CutOff


@contextlib.asynccontextmanager
async def hearing(
    shared: SharedState,
    threads: Executor,
    hearing: Hearing,
    recording: Path,
    warn: Callable[[str], None],
) -> AsyncIterator[AsyncIterator[Message]]:
    """Hear a recording; yield its messages as they come. At the end, nothing of it runs any more.

    Iterating raises what `Hearing.run` does; `CutOff` when the time of a server that stops is over.
    """
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[Message | None] = asyncio.Queue()

    def report(message: Message | None) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(messages.put_nowait, message)

    async def stop() -> None:
        await shared.stopping.wait()
        await asyncio.sleep(shared.offer.server.drain_s)
        hearing.cut_off()

    async def iterate() -> AsyncIterator[Message]:
        while (message := await messages.get()) is not None:
            yield message
        await job  # raises its error

    job = loop.run_in_executor(threads, hearing.run, recording, report, warn)
    job.add_done_callback(lambda _: messages.put_nowait(None))
    stopping = asyncio.create_task(stop())
    try:
        yield iterate()
    finally:
        stopping.cancel()
        hearing.cut_off()
        job.cancel()  # if it waits for a thread
        await asyncio.wait({job})
        if not job.cancelled():
            job.exception()  # has been told, or nobody is left to be told
