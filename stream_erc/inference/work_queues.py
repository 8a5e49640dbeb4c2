"""Work that waits for a thread: the queues of a pool, and each session's part in them."""

import heapq
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from stream_erc.core.work import (
    Analysis,
    AnalyzeSegment,
    Classification,
    ClassifyTurn,
    Failure,
    MeasureVoice,
    Result,
    SegmentSpeakers,
    Work,
)

CREDIT_S, FIRST_CREDIT_S, CREDIT_PER_S = 1.0, 0.1, 0.1
"""Seconds of classification until a session is greedy: at most, at first, and gained in a second of rest.

The first ones are few, so that beginning anew gives nobody more than waiting does.
"""

NOT_RUN = Failure("dropped before it was started")
"""The result of work that nobody needs any more."""

STOP, FINAL, AHEAD, PARTIAL, LOW = range(5)
"""Priorities of analyses, the highest first."""


@dataclass(slots=True, eq=False)
class Ahead:
    """Work ahead of the end of a turn, and the final work that waits for its result."""

    work: Work
    started: bool = False
    final: tuple[Work, float] | None = None


class Client:
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
        self._ahead: dict[int, Ahead] = {}  # by the id of the work
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
            self._ahead[work.id] = Ahead(work)

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
class Job:
    """Work that waits for a thread, ordered by priority, then by age."""

    priority: int
    number: int
    since: float = field(compare=False)
    work: AnalyzeSegment | MeasureVoice | SegmentSpeakers | None = field(compare=False)
    client: Client | None = field(compare=False)


@dataclass(frozen=True, slots=True, order=True)
class WaitingTurn:
    """A turn that waits to be classified, ordered by what its session has used, then by age.

    Without a turn it ends the thread, and comes first.
    """

    used_s: float
    number: int
    since: float = field(compare=False)
    work: ClassifyTurn | None = field(compare=False)
    client: Client = field(compare=False)


class JobQueue:
    """Jobs by priority. While there are live sessions, a low one begins only if another thread stays free.

    Args:
        threads: the number of threads that take jobs.
        live: returns whether there is a session of high priority.
    """

    def __init__(self, threads: int, live: Callable[[], bool]) -> None:
        self._most, self._live = max(1, threads - 1), live
        self._jobs: list[Job] = []
        self._running = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Return the number of jobs that wait."""
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Add a job."""
        with self._changed:
            heapq.heappush(self._jobs, job)
            self._changed.notify()

    def get(self) -> Job:
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

    def _must_wait(self, job: Job) -> bool:
        return job.priority == LOW and self._running >= self._most and self._live()


Turns: TypeAlias = "queue.PriorityQueue[WaitingTurn]"


def gather(
    first: WaitingTurn,
    turns: Turns,
    most: int,
    until: float,
    clock: Callable[[], float] = time.perf_counter,
) -> list[WaitingTurn]:
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
