"""Workers, which run the work of sessions: inline in the calling thread, or in a pool of threads.

A worker takes a session's work, runs it on the engine, and hands the results back in the thread that calls
`advance` or `poll`, so no two threads touch a session.
"""

import itertools
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from stream_erc.audio import SAMPLE_RATE
from stream_erc.core.session import Session
from stream_erc.core.work import (
    Analysis,
    AnalyzeSegment,
    Classification,
    ClassifyTurn,
    Failure,
    MeasuredVoice,
    MeasureVoice,
    SegmentSpeakers,
    Work,
)
from stream_erc.events import Event, SpeakerActivity
from stream_erc.inference.emotion.batch_wait import BatchWait
from stream_erc.inference.engine import Beside, Engine, Voice, in_turn
from stream_erc.inference.work_queues import (
    AHEAD,
    FINAL,
    LOW,
    NOT_RUN,
    PARTIAL,
    STOP,
    Client,
    Job,
    JobQueue,
    Turns,
    WaitingTurn,
    gather,
)

STALE_S = 0.5
"""Partial turns older than this are dropped: under load they are shed first."""

MAX_WAITING_SAMPLES = 30 * SAMPLE_RATE
"""Audio that may wait in a session for the result that tells whether a turn has ended."""

ANALYSIS_NICE = 10
"""The niceness of the analysis threads (Linux)."""


class Worker(Protocol):
    """Runs the work of sessions on an engine."""

    def advance(self, session: Session, *, wait: bool = False) -> list[Event]:
        """Run the session's work and return its new events.

        Args:
            session: a session that received input.
            wait: whether to return only when all of its work is done.
        """

    def close(self) -> None:
        """Stop the worker: finish running work, and drop queued work."""


class WorkRunner(Protocol):
    """The work of an `Engine`, piece by piece, as a pool of threads asks for it; thread-safe."""

    @property
    def max_batch(self) -> int:
        """The largest number of turns to classify together."""

    def warm_up(self) -> None:
        """Load what was left for later."""

    def analyze(self, work: AnalyzeSegment, beside: Beside = in_turn) -> Analysis | Failure:
        """Analyse a segment."""

    def segment_speakers(self, work: SegmentSpeakers) -> SpeakerActivity | Failure:
        """Tell who speaks in a running turn."""

    def measure(self, work: MeasureVoice) -> MeasuredVoice | Failure:
        """Measure the voice in a clip."""

    def classify(self, works: Sequence[ClassifyTurn]) -> Sequence[Classification | Failure]:
        """Classify turns of different conversations."""


class InlineWorker:
    """Runs work at once, in the calling thread, deterministically.

    Args:
        engine: runs the work.
        ahead: whether to run work ahead of the end of a turn, too, which changes no turn.
    """

    def __init__(self, engine: Engine, *, ahead: bool = False) -> None:
        self._engine, self._ahead = engine, ahead

    def advance(self, session: Session, *, wait: bool = False) -> list[Event]:
        """Run all work, whatever `wait` is, and return the new events."""
        while True:
            works = session.work_to_do()
            if not works and (held := session.held_for):
                works = [held]
            elif not works:
                return session.events_received()
            else:
                for work in works:
                    if work.ahead and not (self._ahead or _is_awaited(work)):
                        session.receive_result(work, NOT_RUN)
                works = [work for work in works if self._ahead or not work.ahead]
            for work, result in zip(works, self._engine.run(works), strict=True):
                session.receive_result(work, result)

    def close(self) -> None:
        """Do nothing: this worker has no threads."""


class ThreadWorker:
    """Runs analyses in several threads; classifications, batched, in one, of greedy sessions in another.

    Args:
        engine: the engine that all threads share.
        threads: the number of analyses that run at a time.
        turn_threads: the number of batches of turns that run at a time, of greedy sessions as many more.
        max_in_flight: work in flight at which a session must wait for results. It bounds memory when audio
            arrives faster than it can be processed.
        on_failure: called in a worker's thread if the engine cannot be warmed up.

    Attributes:
        analyses: the number of analyses run so far by their kind: ``final``, ``ahead`` of the end of a turn,
            or ``partial``.
    """

    not_ready = "loading the models"
    """The reason while it is not `ready`."""

    def __init__(
        self,
        engine: WorkRunner,
        *,
        threads: int = 2,
        turn_threads: int = 1,
        max_in_flight: int = 8,
        on_failure: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._engine, self._max_in_flight = engine, max_in_flight
        self.analyses, self._counting = dict.fromkeys(("final", "ahead", "partial"), 0), threading.Lock()
        self._on_failure, self._warm, self._ready = on_failure, threading.Event(), False
        self._live: WeakSet[Session] = WeakSet()  # attached sessions of high priority
        self._analyses = JobQueue(threads, lambda: len(self._live) > 0)
        self._numbers = itertools.count()
        self._turns: Turns = queue.PriorityQueue()
        self._greedy_turns: Turns = queue.PriorityQueue()
        self._clients: WeakKeyDictionary[Session, Client] = WeakKeyDictionary()
        self._voices = ThreadPoolExecutor(threads, "voice", initializer=lower_priority)
        self._threads = [threading.Thread(target=self._analyze, daemon=True) for _ in range(threads)]
        self._turn_threads = turn_threads
        for number in range(turn_threads):
            self._threads.append(threading.Thread(target=self._classify_greedy, daemon=True))
            target = self._classify if number == 0 else self._classify_too
            self._threads.append(threading.Thread(target=target, daemon=True))
        for thread in self._threads:
            thread.start()

    def advance(self, session: Session, *, wait: bool = False) -> list[Event]:
        """Queue new work and deliver finished results; see `Worker`."""
        client = self._clients.setdefault(session, Client())
        while True:
            works = session.work_to_do()
            for work in works:
                self._submit(work, client)
            client.in_flight += len(works)
            full = self.busy(session)
            must_wait = client.in_flight > 0 and (full or (wait and not works))
            if not _deliver_results(session, client, must_wait=must_wait) and not works:
                return session.events_received()

    def attach(self, session: Session, on_result: Callable[[], None], *, low_priority: bool = False) -> None:
        """Register a session before its first `poll`.

        Args:
            session: the session to be polled.
            on_result: called from a worker's thread whenever `poll` has a result to deliver.
            low_priority: whether its analyses wait while other sessions have any.
        """
        self._clients[session] = Client(on_result, low_priority=low_priority)
        if not low_priority:
            self._live.add(session)

    def detach(self, session: Session) -> None:
        """Unregister a session and drop its work that has not started."""
        client = self._clients.pop(session, None)
        if client is not None:
            client.detached = True
        self._live.discard(session)
        self._analyses.wake()

    def poll(self, session: Session) -> list[Event]:
        """Advance the session without waiting; one that is `busy` continues once results have arrived."""
        client = self._clients.setdefault(session, Client())
        while True:
            taken = _deliver_results(session, client, must_wait=False)
            works = [] if client.in_flight >= self._max_in_flight else session.work_to_do()
            for work in works:
                self._submit(work, client)
            client.in_flight += len(works)
            if not taken and not works:
                return session.events_received()

    def busy(self, session: Session) -> bool:
        """Return whether audio should wait outside: much work is in flight, or much audio waits for it."""
        client = self._clients.get(session)
        if client is None or not client.in_flight:
            return False
        return client.in_flight >= self._max_in_flight or session.waiting_samples > MAX_WAITING_SAMPLES

    def pending(self, session: Session) -> int:
        """Return the amount of a session's work in flight."""
        client = self._clients.get(session)
        return 0 if client is None else client.in_flight

    def late_s(self, session: Session) -> float:
        """Return how long the oldest unfinished analysis of a finished turn has taken so far, in seconds."""
        client = self._clients.get(session)
        since = min(client.analysing.values(), default=None) if client is not None else None
        return 0.0 if since is None else time.perf_counter() - since

    @property
    def ready(self) -> bool:
        """Whether the engine is warm. Work that comes earlier waits for that."""
        return self._ready

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of analyses and of classifications that wait for a thread."""
        return len(self._analyses), self._turns.qsize() + self._greedy_turns.qsize()

    def close(self) -> None:
        """Stop the threads."""
        for _ in self._threads[: -2 * self._turn_threads]:
            self._analyses.put(Job(STOP, next(self._numbers), 0.0, None, None))
        for _ in range(self._turn_threads):
            for turns in (self._turns, self._greedy_turns):
                turns.put(WaitingTurn(-math.inf, next(self._numbers), 0.0, None, Client()))
        for thread in self._threads:
            thread.join()
        self._voices.shutdown()

    def _submit(self, work: Work, client: Client) -> None:
        now = time.perf_counter()
        if isinstance(work, AnalyzeSegment) and (work.segment.final or work.awaited):
            client.analysing[work.id] = now
        if work.ahead and client.low_priority and not _is_awaited(work):
            client.put(work, NOT_RUN, now)
            return
        if work.ahead:
            client.expect(work)
        elif client.join(work, now):
            return
        if isinstance(work, ClassifyTurn):
            turns = self._greedy_turns if client.is_greedy(now) else self._turns
            turns.put(WaitingTurn(-client.credit_s, next(self._numbers), now, work, client))
        elif isinstance(work, SegmentSpeakers) and not client.low_priority:
            self._voices.submit(self._segment_speakers, work, client, now)
        else:
            priority = LOW if client.low_priority else _priority(work)
            self._analyses.put(Job(priority, next(self._numbers), now, work, client))

    def _analyze(self) -> None:
        lower_priority()
        self._warm.wait()
        while True:
            job = self._analyses.get()
            if job.work is None or job.client is None:
                return
            try:
                self._run(job, job.work, job.client)
            finally:
                self._analyses.done()

    def _run(self, job: Job, work: AnalyzeSegment | MeasureVoice | SegmentSpeakers, client: Client) -> None:
        """Run a job, unless nobody needs it any more."""
        if isinstance(work, SegmentSpeakers):
            self._segment_speakers(work, client, job.since)
            return
        if isinstance(work, MeasureVoice):
            measured = self._engine.measure(work) if client.begin(work) else NOT_RUN
            client.finish(work, measured, job.since)
            return
        droppable = not (work.segment.final or work.awaited)
        stale = droppable and time.perf_counter() - job.since > STALE_S
        run = client.begin(work) and not stale
        result = self._engine.analyze(work, self._beside) if run else NOT_RUN
        if run:
            self._count("final" if work.segment.final else "ahead" if work.segment.paused else "partial")
        client.finish(work, result, job.since)

    def _segment_speakers(self, work: SegmentSpeakers, client: Client, since: float) -> None:
        """Tell who speaks in a running turn, before an analysis can want a thread for its voice."""
        result = self._engine.segment_speakers(work) if client.begin(work) else NOT_RUN
        client.finish(work, result, since)

    def _count(self, kind: str) -> None:
        with self._counting:
            self.analyses[kind] += 1

    def _beside(self, function: Callable[[], Voice]) -> Callable[[], Voice]:
        """Run a part of an analysis in a thread of its own."""
        return self._voices.submit(function).result

    def _warm_up(self) -> None:
        """Load what the engine left for later, while sessions are opened already."""
        try:
            self._engine.warm_up()
            self._ready = True
        except Exception as error:  # the boundary: whoever started the worker must hear of it
            self._on_failure(error)
        finally:
            self._warm.set()

    def _classify(self) -> None:
        self._warm_up()
        self._run_turns(self._turns)

    def _classify_too(self) -> None:
        """Classify beside `_classify`."""
        self._warm.wait()
        self._run_turns(self._turns)

    def _classify_greedy(self) -> None:
        """Classify the turns of greedy sessions, in a thread that nobody else waits for."""
        lower_priority()
        self._warm.wait()
        self._run_turns(self._greedy_turns)

    def _run_turns(self, turns: "Turns") -> None:
        wait = BatchWait(getattr(self._engine, "max_wait_s", 0.0))
        while (first := turns.get()).work is not None:
            now = time.perf_counter()
            batch = gather(first, turns, self._engine.max_batch, now + wait.wait_s(now))
            run = []
            for turn in batch:
                assert turn.work is not None
                if turn.client.begin(turn.work):
                    run.append((turn.since, turn.work, turn.client))
                else:
                    turn.client.finish(turn.work, NOT_RUN, turn.since)
            began = time.perf_counter()
            results = self._engine.classify([work for _, work, _ in run])
            now = time.perf_counter()
            wait.ran(began, now)
            for (since, work, client), result in zip(run, results, strict=True):
                client.spend((now - began) / len(run), now)
                client.finish(work, result, since)


def _priority(work: AnalyzeSegment | MeasureVoice | SegmentSpeakers) -> int:
    """Return the priority of a live session's work: what somebody waits for comes first."""
    if not isinstance(work, AnalyzeSegment):
        return FINAL
    return FINAL if work.segment.final or work.awaited else AHEAD if work.ahead else PARTIAL


def _is_awaited(work: Work) -> bool:
    return isinstance(work, AnalyzeSegment) and work.awaited


def lower_priority() -> None:
    """Lower this thread's scheduling priority: analyses are long, the work of other threads is short."""
    if sys.platform == "linux":  # elsewhere a priority belongs to the process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ANALYSIS_NICE)


def _deliver_results(session: Session, client: Client, *, must_wait: bool) -> bool:
    """Deliver the results that are ready, at least one if `must_wait`; return whether there were any."""
    taken = False
    while True:
        try:
            work, result = client.take(block=must_wait and not taken)
        except queue.Empty:
            return taken
        session.receive_result(work, result)
        client.in_flight -= 1
        taken = True
