"""Where a session's work runs: at once in the calling thread, or in a pool of threads.

A worker drives sessions: it takes their work, has the engine do it, and hands the results back on the
thread that calls `advance`, so a session is never touched by two threads.
"""

import itertools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakKeyDictionary

from stream_erc.core.session import Session
from stream_erc.core.work import Analysis, AnalyzeSegment, Classification, ClassifyTurn, Failure, Result, Work
from stream_erc.events import Event
from stream_erc.inference.engine import Engine

STALE_S = 0.5
"""A partial turn that has waited for so long is not analysed: when there is too much to do, it goes first."""

ANALYSIS_NICE = 10
"""The niceness of threads that analyse."""

_STOP, _FINAL, _PARTIAL, _PATIENT = range(4)
"""The order in which analyses are done."""


class Worker(Protocol):
    """Drives sessions over an engine."""

    def advance(self, session: Session, *, wait: bool = False) -> list[Event]:
        """Have the session's work done and return its new events.

        Args:
            session: after it received input.
            wait: return only when all of its work is done.
        """

    def close(self) -> None:
        """Stop; work under way is finished, waiting work is dropped."""


class InlineWorker:
    """Runs work at once, in the calling thread: deterministic."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def advance(self, session: Session, *, wait: bool = False) -> list[Event]:
        """Do all work; returns when there is none left, whatever `wait` says."""
        while works := session.work_to_do():
            for work, result in zip(works, self._engine.run(works), strict=True):
                session.receive_result(work, result)
        return session.events_received()

    def close(self) -> None:
        """Nothing to stop."""


class _Lane:
    """A session's way through a worker: answers on their way back, and since when they are waited for.

    Attributes:
        arrived: called, in a worker's thread, when there is an answer to take.
        patient: its analyses wait while there are others.
        gone: nobody waits for its answers any more.
    """

    def __init__(self, arrived: Callable[[], None] = lambda: None, *, patient: bool = False) -> None:
        self.answers: queue.SimpleQueue[tuple[Work, Result, float]] = queue.SimpleQueue()
        self.in_flight = 0
        self.waiting: dict[int, float] = {}  # since when the analysis of a finished turn is waited for
        self.arrived, self.patient, self.gone = arrived, patient, False
        self._analysed: dict[int, float] = {}  # when the analysis of a turn was taken

    def put(self, work: Work, result: Result, since: float) -> None:
        """An answer is there."""
        self.answers.put((work, result, since))
        self.arrived()

    def take(self, *, block: bool) -> tuple[Work, Result]:
        """The next answer, its elapsed time counted until now; raises `queue.Empty`.

        A turn's classification counts from when its analysis was taken, so that the two together count all
        the waiting there was, for earlier turns too.
        """
        work, result, since = self.answers.get(block=block)
        now = time.perf_counter()
        if isinstance(work, AnalyzeSegment):
            if work.segment.final:
                del self.waiting[work.segment.index]
                self._analysed[work.segment.index] = now
        elif not work.provisional:
            since = self._analysed.pop(work.turn.index, since)
        if isinstance(result, Analysis | Classification):
            result = replace(result, elapsed_ms=1000 * (now - since))
        return work, result


@dataclass(frozen=True, slots=True, order=True)
class _Job:
    """An analysis that waits for a thread: finished turns first, then partial ones, then recordings'."""

    rank: int
    number: int
    since: float = field(compare=False)
    work: AnalyzeSegment | None = field(compare=False)
    lane: _Lane | None = field(compare=False)


class ThreadWorker:
    """Runs analyses in several threads and all sessions' classifications, batched, in one.

    Args:
        engine: shared by the threads.
        threads: how many analyses run at a time.
        max_in_flight: a session that has this many pieces of work out waits for answers before it hears
            more: memory stays bounded when audio comes faster than it can be worked on.
    """

    def __init__(self, engine: Engine, *, threads: int = 2, max_in_flight: int = 8) -> None:
        self._engine, self._max_in_flight = engine, max_in_flight
        self._analyses: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._turns: queue.SimpleQueue[tuple[float, ClassifyTurn, _Lane] | None] = queue.SimpleQueue()
        self._lanes: WeakKeyDictionary[Session, _Lane] = WeakKeyDictionary()
        self._threads = [threading.Thread(target=self._analyze, daemon=True) for _ in range(threads)]
        self._threads.append(threading.Thread(target=self._classify, daemon=True))
        for thread in self._threads:
            thread.start()

    def advance(self, session: Session, *, wait: bool = False) -> list[Event]:
        """Hand out new work, take the answers that are there; see `Worker`."""
        lane = self._lanes.setdefault(session, _Lane())
        while True:
            works = session.work_to_do()
            for work in works:
                self._submit(work, lane)
            lane.in_flight += len(works)
            full = lane.in_flight >= self._max_in_flight
            must_wait = lane.in_flight > 0 and (full or (wait and not works))
            if not _take_answers(session, lane, must_wait=must_wait) and not works:
                return session.events_received()

    def attach(self, session: Session, arrived: Callable[[], None], *, patient: bool = False) -> None:
        """Say who waits for a session's answers, before its first `poll`.

        Args:
            session: that will be polled.
            arrived: called from a worker's thread whenever `poll` has something to take.
            patient: its analyses wait while others' are there.
        """
        self._lanes[session] = _Lane(arrived, patient=patient)

    def detach(self, session: Session) -> None:
        """Nobody waits for a session any more: its work that has not been begun is left undone."""
        lane = self._lanes.pop(session, None)
        if lane is not None:
            lane.gone = True

    def poll(self, session: Session) -> list[Event]:
        """As `advance`, but never waits: a session that is `busy` hears on when answers have arrived."""
        lane = self._lanes.setdefault(session, _Lane())
        while True:
            taken = _take_answers(session, lane, must_wait=False)
            works = [] if lane.in_flight >= self._max_in_flight else session.work_to_do()
            for work in works:
                self._submit(work, lane)
            lane.in_flight += len(works)
            if not taken and not works:
                return session.events_received()

    def busy(self, session: Session) -> bool:
        """Whether a session has as much work out as it may; audio for it should wait."""
        lane = self._lanes.get(session)
        return lane is not None and lane.in_flight >= self._max_in_flight

    def pending(self, session: Session) -> int:
        """How many pieces of a session's work are out."""
        lane = self._lanes.get(session)
        return 0 if lane is None else lane.in_flight

    def late_s(self, session: Session) -> float:
        """For how long the analysis of a finished turn has been waited for."""
        lane = self._lanes.get(session)
        since = min(lane.waiting.values(), default=None) if lane is not None else None
        return 0.0 if since is None else time.perf_counter() - since

    @property
    def waiting(self) -> tuple[int, int]:
        """How many analyses and how many classifications wait for a thread."""
        return self._analyses.qsize(), self._turns.qsize()

    def close(self) -> None:
        """Stop the threads."""
        for _ in self._threads[:-1]:
            self._analyses.put(_Job(_STOP, next(self._numbers), 0.0, None, None))
        self._turns.put(None)
        for thread in self._threads:
            thread.join()

    def _submit(self, work: Work, lane: _Lane) -> None:
        if isinstance(work, AnalyzeSegment):
            rank = _PATIENT if lane.patient else _FINAL if work.segment.final else _PARTIAL
            now = time.perf_counter()
            if work.segment.final:
                lane.waiting[work.segment.index] = now
            self._analyses.put(_Job(rank, next(self._numbers), now, work, lane))
        else:
            self._turns.put((time.perf_counter(), work, lane))

    def _analyze(self) -> None:
        _give_way()
        while True:
            job = self._analyses.get()
            if job.work is None or job.lane is None:
                return
            result: Result = Failure("nobody waits for it any more")
            stale = job.rank == _PARTIAL and time.perf_counter() - job.since > STALE_S
            if not (stale or job.lane.gone):
                result = self._engine.analyze(job.work)
            job.lane.put(job.work, result, job.since)

    def _classify(self) -> None:
        while (item := self._turns.get()) is not None:
            batch = [item]
            while len(batch) < self._engine.max_batch:
                try:
                    more = self._turns.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._turns.put(None)
                    break
                batch.append(more)
            batch = [item for item in batch if not item[2].gone]
            results = self._engine.classify([work for _, work, _ in batch])
            for (since, work, lane), result in zip(batch, results, strict=True):
                lane.put(work, result, since)


def _give_way() -> None:
    """Have the system run this thread after the others: an analysis is long, what they do is short."""
    if sys.platform == "linux":  # elsewhere a priority is a process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ANALYSIS_NICE)


def _take_answers(session: Session, lane: _Lane, *, must_wait: bool) -> bool:
    """Hand over the answers that are there, at least one if `must_wait`; whether there were any."""
    taken = False
    while True:
        try:
            work, result = lane.take(block=must_wait and not taken)
        except queue.Empty:
            return taken
        session.receive_result(work, result)
        lane.in_flight -= 1
        taken = True
