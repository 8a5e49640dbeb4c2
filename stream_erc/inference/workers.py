"""Workers, which run the work of sessions: inline in the calling thread, or in a pool of threads.

A worker takes a session's work, runs it on the engine, and hands the results back in the thread that calls
`advance` or `poll`, so no two threads touch a session.
"""

import heapq
import itertools
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias
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
    Result,
    SegmentSpeakers,
    Work,
)
from stream_erc.events import Event, SpeakerActivity
from stream_erc.inference.emotion.batch_wait import BatchWait
from stream_erc.inference.engine import Beside, Engine, Voice, in_turn

STALE_S = 0.5
"""Partial turns older than this are dropped: under load they are shed first."""

MAX_WAITING_SAMPLES = 30 * SAMPLE_RATE
"""Audio that may wait in a session for the result that tells whether a turn has ended."""

ANALYSIS_NICE = 10
"""The niceness of the analysis threads (Linux)."""

CREDIT_S, FIRST_CREDIT_S, CREDIT_PER_S = 1.0, 0.1, 0.1
"""Seconds of classification until a session is greedy: at most, at first, and gained in a second of rest.

The first ones are few, so that beginning anew gives nobody more than waiting does.
"""

NOT_RUN = Failure("dropped before it was started")
"""The result of work that nobody needs any more."""

_STOP, _FINAL, _AHEAD, _PARTIAL, _LOW = range(5)
"""Priorities of analyses, the highest first."""


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


@dataclass(slots=True, eq=False)
class _Ahead:
    """Work ahead of the end of a turn, and the final work that waits for its result."""

    work: Work
    started: bool = False
    final: tuple[Work, float] | None = None


class _Client:
    """A session's state in a worker: its results, and the start times of its work.

    Attributes:
        on_result: called in a worker's thread when a result is ready.
        low_priority: whether its analyses wait while other sessions have any.
        detached: whether the session is no longer registered.
        credit_s: seconds of classification until it is greedy; who has more goes first.
    """

    def __init__(self, on_result: Callable[[], None] = lambda: None, *, low_priority: bool = False) -> None:
        self.results: queue.SimpleQueue[tuple[Work, Result, float]] = queue.SimpleQueue()
        self.in_flight = 0
        self.analysing: dict[int, float] = {}  # work that a turn's end waits for -> when it was requested
        self.on_result, self.low_priority, self.detached = on_result, low_priority, False
        self.credit_s, self._rests_since = FIRST_CREDIT_S, time.perf_counter()
        self._analysed: dict[int, float] = {}  # finished turn -> when its analysis was taken
        self._ahead: dict[int, _Ahead] = {}  # by the id of the work
        self._lock = threading.Lock()

    def is_greedy(self, now: float) -> bool:
        """Return whether the session, which has new work, has had more classification than is fair.

        Only rest gives credit back, not waiting: who always wants more remains greedy.
        """
        self.credit_s = min(CREDIT_S, self.credit_s + CREDIT_PER_S * max(0.0, now - self._rests_since))
        self._rests_since = now
        return self.low_priority or self.credit_s <= 0.0

    def spend(self, seconds: float, now: float) -> None:
        """Take the time of a classification from the session's credit; its rest begins."""
        self.credit_s, self._rests_since = max(-CREDIT_S, self.credit_s - seconds), now

    def begin(self, work: Work) -> bool:
        """Return whether to run `work`, which has reached the front of its queue."""
        with self._lock:
            ahead = self._ahead.get(work.id)
            if ahead is not None:
                ahead.started = True
            return not self.detached and (not work.ahead or ahead is not None)

    def expect(self, work: Work) -> None:
        """Note that `work` was queued ahead of the end of a turn."""
        with self._lock:
            self._ahead[work.id] = _Ahead(work)

    def join(self, work: Work, now: float) -> bool:
        """Return whether `work` gets the result of running work ahead; work that only waits is dropped."""
        with self._lock:
            ahead = self._ahead.get(work.begun) if work.begun is not None else None
            if ahead is None:
                return False
            if not ahead.started:
                del self._ahead[ahead.work.id]
                return False
            ahead.final = work, now
        return True

    def finish(self, work: Work, result: Result, since: float) -> None:
        """Add the result of `work`, and of the final work that joined it."""
        with self._lock:
            ahead = self._ahead.pop(work.id, None)
        if ahead is not None and ahead.final is not None:
            final, final_since = ahead.final
            self.put(work, NOT_RUN, since)
            self.put(final, result, final_since)
        else:
            self.put(work, result, since)

    def put(self, work: Work, result: Result, since: float) -> None:
        """Add a result of work that was requested at time `since`."""
        self.results.put((work, result, since))
        self.on_result()

    def take(self, *, block: bool) -> tuple[Work, Result]:
        """Remove and return the next result, its elapsed time measured until now.

        The elapsed time of a classification begins when the turn's analysis was taken, so that both together
        include all waiting, also for earlier turns.

        Raises:
            queue.Empty: no result is ready, and `block` is False.
        """
        work, result, since = self.results.get(block=block)
        now = time.perf_counter()
        if isinstance(work, AnalyzeSegment):
            if work.segment.final or work.awaited:
                self.analysing.pop(work.id, None)
            if work.segment.final:
                self._analysed[work.segment.index] = now
        elif isinstance(work, ClassifyTurn) and not (work.provisional or work.ahead):
            since = self._analysed.pop(work.turn.index, since)
        if isinstance(result, Analysis | Classification):
            result = replace(result, elapsed_ms=1000 * (now - since))
        return work, result


@dataclass(frozen=True, slots=True, order=True)
class _Job:
    """Work that waits for a thread, ordered by priority, then by age."""

    priority: int
    number: int
    since: float = field(compare=False)
    work: AnalyzeSegment | MeasureVoice | SegmentSpeakers | None = field(compare=False)
    client: _Client | None = field(compare=False)


@dataclass(frozen=True, slots=True, order=True)
class _WaitingTurn:
    """A turn that waits to be classified, ordered by what its session has used, then by age.

    Without a turn it ends the thread, and comes first.
    """

    used_s: float
    number: int
    since: float = field(compare=False)
    work: ClassifyTurn | None = field(compare=False)
    client: _Client = field(compare=False)


class _JobQueue:
    """Jobs by priority. While there are live sessions, a low one begins only if another thread stays free.

    Args:
        threads: the number of threads that take jobs.
        live: returns whether there is a session of high priority.
    """

    def __init__(self, threads: int, live: Callable[[], bool]) -> None:
        self._most, self._live = max(1, threads - 1), live
        self._jobs: list[_Job] = []
        self._running = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Return the number of jobs that wait."""
        return len(self._jobs)

    def put(self, job: _Job) -> None:
        """Add a job."""
        with self._changed:
            heapq.heappush(self._jobs, job)
            self._changed.notify()

    def get(self) -> _Job:
        """Wait for the next job that may run, and return it; call `done` after it."""
        with self._changed:
            while not self._jobs or self._must_wait(self._jobs[0]):
                self._changed.wait()
            job = heapq.heappop(self._jobs)
            self._running += 1
            return job

    def done(self) -> None:
        """Mark a job as run."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def wake(self) -> None:
        """Let the threads see that a session has ended, for which low jobs may have waited."""
        with self._changed:
            self._changed.notify_all()

    def _must_wait(self, job: _Job) -> bool:
        return job.priority == _LOW and self._running >= self._most and self._live()


_Turns: TypeAlias = "queue.PriorityQueue[_WaitingTurn]"


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
        self._analyses = _JobQueue(threads, lambda: len(self._live) > 0)
        self._numbers = itertools.count()
        self._turns: _Turns = queue.PriorityQueue()
        self._greedy_turns: _Turns = queue.PriorityQueue()
        self._clients: WeakKeyDictionary[Session, _Client] = WeakKeyDictionary()
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
        client = self._clients.setdefault(session, _Client())
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
        self._clients[session] = _Client(on_result, low_priority=low_priority)
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
        client = self._clients.setdefault(session, _Client())
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
            self._analyses.put(_Job(_STOP, next(self._numbers), 0.0, None, None))
        for _ in range(self._turn_threads):
            for turns in (self._turns, self._greedy_turns):
                turns.put(_WaitingTurn(-math.inf, next(self._numbers), 0.0, None, _Client()))
        for thread in self._threads:
            thread.join()
        self._voices.shutdown()

    def _submit(self, work: Work, client: _Client) -> None:
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
            turns.put(_WaitingTurn(-client.credit_s, next(self._numbers), now, work, client))
        elif isinstance(work, SegmentSpeakers) and not client.low_priority:
            self._voices.submit(self._segment_speakers, work, client, now)
        else:
            priority = _LOW if client.low_priority else _priority(work)
            self._analyses.put(_Job(priority, next(self._numbers), now, work, client))

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

    def _run(self, job: _Job, work: AnalyzeSegment | MeasureVoice | SegmentSpeakers, client: _Client) -> None:
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

    def _segment_speakers(self, work: SegmentSpeakers, client: _Client, since: float) -> None:
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

    def _run_turns(self, turns: "_Turns") -> None:
        wait = BatchWait(getattr(self._engine, "max_wait_s", 0.0))
        while (first := turns.get()).work is not None:
            now = time.perf_counter()
            batch = _gather(first, turns, self._engine.max_batch, now + wait.wait_s(now))
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


def _gather(
    first: _WaitingTurn,
    turns: _Turns,
    most: int,
    until: float,
    clock: Callable[[], float] = time.perf_counter,
) -> list[_WaitingTurn]:
    """Return a batch of at most `most` turns: those that are there, and those that come before `until`.

    What ends the thread is left in the queue.
    """
    batch = [first]
    while len(batch) < most:
        left = until - clock()
        try:
            more = turns.get(timeout=left) if left > 0 else turns.get_nowait()
        except queue.Empty:
            break
        if more.work is None:
            turns.put(more)
            break
        batch.append(more)
    return batch


def _priority(work: AnalyzeSegment | MeasureVoice | SegmentSpeakers) -> int:
    """Return the priority of a live session's work: what somebody waits for comes first."""
    if not isinstance(work, AnalyzeSegment):
        return _FINAL
    return _FINAL if work.segment.final or work.awaited else _AHEAD if work.ahead else _PARTIAL


def _is_awaited(work: Work) -> bool:
    return isinstance(work, AnalyzeSegment) and work.awaited


def lower_priority() -> None:
    """Lower this thread's scheduling priority: analyses are long, the work of other threads is short."""
    if sys.platform == "linux":  # elsewhere a priority belongs to the process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ANALYSIS_NICE)


def _deliver_results(session: Session, client: _Client, *, must_wait: bool) -> bool:
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
