"""Where a session's work runs: at once in the calling thread, or in a pool of threads.

A worker drives sessions: it takes their work, has the engine do it, and hands the results back on the
thread that calls `advance`, so a session is never touched by two threads.
"""

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from stream_erc.engine import Engine
from stream_erc.events import Event
from stream_erc.session import Session
from stream_erc.work import Analysis, AnalyzeSegment, Classification, ClassifyTurn, Result, Work


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


_Answers: TypeAlias = "queue.SimpleQueue[tuple[Work, Result]]"


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
        self._analyses: queue.SimpleQueue[tuple[float, AnalyzeSegment, _Answers] | None] = queue.SimpleQueue()
        self._turns: queue.SimpleQueue[tuple[float, ClassifyTurn, _Answers] | None] = queue.SimpleQueue()
        self._answers: dict[int, _Answers] = {}
        self._in_flight: dict[int, int] = {}
        self._threads = [threading.Thread(target=self._analyze, daemon=True) for _ in range(threads)]
        self._threads.append(threading.Thread(target=self._classify, daemon=True))
        for thread in self._threads:
            thread.start()

    def advance(self, session: Session, *, wait: bool = False) -> list[Event]:
        """Hand out new work, take the answers that are there; see `Worker`."""
        key = id(session)
        answers = self._answers.setdefault(key, queue.SimpleQueue())
        self._in_flight.setdefault(key, 0)
        while True:
            works = session.work_to_do()
            for work in works:
                self._submit(work, answers)
            self._in_flight[key] += len(works)
            full = self._in_flight[key] >= self._max_in_flight
            must_wait = self._in_flight[key] > 0 and (full or (wait and not works))
            if not self._take_answers(session, key, must_wait) and not works:
                break
        if wait:
            del self._answers[key], self._in_flight[key]
        return session.events_received()

    def close(self) -> None:
        """Stop the threads."""
        for _ in self._threads[:-1]:
            self._analyses.put(None)
        self._turns.put(None)
        for thread in self._threads:
            thread.join()

    def _submit(self, work: Work, answers: _Answers) -> None:
        if isinstance(work, AnalyzeSegment):
            self._analyses.put((time.perf_counter(), work, answers))
        else:
            self._turns.put((time.perf_counter(), work, answers))

    def _take_answers(self, session: Session, key: int, must_wait: bool) -> bool:
        """Hand over the answers that are there, at least one if `must_wait`; whether there were any."""
        taken = False
        while True:
            try:
                work, result = self._answers[key].get(block=must_wait and not taken)
            except queue.Empty:
                return taken
            session.receive_result(work, result)
            self._in_flight[key] -= 1
            taken = True

    def _analyze(self) -> None:
        while (item := self._analyses.get()) is not None:
            since, work, answers = item
            answers.put((work, _waited(self._engine.analyze(work), since)))

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
            results: Sequence[Result] = self._engine.classify([work for _, work, _ in batch])
            for (since, work, answers), result in zip(batch, results, strict=True):
                answers.put((work, _waited(result, since)))


def _waited(result: Result, since: float) -> Result:
    """The result with its elapsed time counted from when the work was handed over."""
    if isinstance(result, Analysis | Classification):
        return replace(result, elapsed_ms=1000 * (time.perf_counter() - since))
    return result
