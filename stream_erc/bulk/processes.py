"""Several processes that read conversations, each with an engine of its own that computes in one thread.

A process that dies takes one conversation with it, which another one tries once more.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait

from stream_erc.bulk.inputs import Unit
from stream_erc.bulk.reading import Outcome, Reader, Settings
from stream_erc.exceptions import EngineUnavailable

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
TRIES = 2
MAX_DEATHS = 10
"""Deaths of processes, none of which read anything in between, after which the run ends."""


class _Process:
    """A process, and the conversation that it reads."""

    def __init__(self, settings: Settings, key: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, inside = context.Pipe()
        self.process = context.Process(target=_serve, args=(settings, key, inside), daemon=True)
        with _one_thread():
            self.process.start()
        inside.close()
        self.unit: Unit | None = None
        self.tries = 0

    def start(self, unit: Unit, tries: int) -> None:
        """Have it read a conversation; if it is dead, that shows when its answer is received."""
        self.unit, self.tries = unit, tries
        try:
            self.pipe.send(unit)
        except OSError:
            pass

    def receive(self) -> Outcome | None:
        """Return what became of its conversation, None if the process is dead."""
        try:
            outcome: Outcome = self.pipe.recv()
            return outcome
        except (EOFError, OSError):
            self.process.join()
            return None

    def kill(self) -> None:
        """End it at once: results are whole or not at all."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def read_in_processes(settings: Settings, key: str, units: Iterator[Unit], jobs: int) -> Iterator[Outcome]:
    """Read conversations in `jobs` processes; yield what became of each, in the order in which they end.

    Raises:
        EngineUnavailable: processes die one after the other.
    """
    again: list[Unit] = []
    deaths = 0
    running: list[_Process] = []

    def next_unit() -> tuple[Unit, int] | None:
        if again:
            return again.pop(), TRIES
        unit = next(units, None)
        return None if unit is None else (unit, 1)

    try:
        while True:
            idle = [process for process in running if process.unit is None]
            while len(idle) + sum(p.unit is not None for p in running) < jobs or idle:
                found = next_unit()
                if found is None:
                    break
                if idle:
                    process = idle.pop()
                else:
                    process = _Process(settings, key)
                    running.append(process)
                process.start(*found)
            busy = {process.pipe: process for process in running if process.unit is not None}
            if not busy:
                return
            for pipe in wait(list(busy)):
                process = busy[pipe]  # type: ignore[index]
                outcome, unit, process.unit = process.receive(), process.unit, None
                if outcome is not None:
                    deaths = 0
                    yield outcome
                    continue
                running.remove(process)
                code = process.process.exitcode
                process.kill()
                deaths += 1
                if deaths == MAX_DEATHS:
                    raise EngineUnavailable(
                        f"expected processes that last, got {deaths} that died one after the other ({code})"
                    )
                assert unit is not None
                if process.tries < TRIES:
                    again.append(unit)
                else:
                    reason = f"{unit.path}: expected a process that outlives it, got two that died ({code})"
                    yield Outcome(unit.name, "failed", reason)
    finally:
        for process in running:
            process.kill()


def _serve(settings: Settings, key: str, pipe: "Connection[Outcome, Unit]") -> None:
    """Read what the pipe brings, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reader = Reader(settings, key)
    while True:
        try:
            unit = pipe.recv()
        except EOFError:
            return
        pipe.send(reader.read(unit))


def _end_with_parent() -> None:
    """End this process when its parent has ended, however it did: another run may begin."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have the libraries of a process that is started compute in one thread."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
