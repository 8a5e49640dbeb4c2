"""The engine on another machine: an actor that runs the work of all gateways.

It is a plain asyncio class, which Ray knows nothing of until `ray_worker` hands it over. It keeps nothing of
a session: work comes with the conversation's state inside, as bytes.
"""

import asyncio
import logging
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

from stream_erc.core.work import (
    AnalyzeSegment,
    Classification,
    ClassifyTurn,
    Failure,
    MeasureVoice,
    Result,
    SegmentSpeakers,
    Work,
)
from stream_erc.inference.engine import Engine, Voice
from stream_erc.inference.workers import lower_priority

log = logging.getLogger(__name__)

PIECE_BYTES = 64 * 1024
"""Above 100 kB an argument lies in Ray's object store, which may spill to a disk: audio must not."""

IDLE_S = 60.0
"""An actor that no gateway has asked for this long ends."""


def cut(works: Sequence[Work]) -> list[bytes]:
    """Return work as pieces of bytes that travel inside a call."""
    whole = pickle.dumps(list(works), protocol=5)
    return [whole[at : at + PIECE_BYTES] for at in range(0, len(whole), PIECE_BYTES)]


class EngineActor:
    """Runs work of any session on engines of its own.

    Args:
        load: loads the engines, by the names of their models.
        identify: returns what the engines are, to be compared with a gateway's.
        threads: the number of analyses that run at a time.
    """

    def __init__(
        self, load: Callable[[], Mapping[str, Engine]], identify: Callable[[], str], threads: int
    ) -> None:
        self._engines, self._identity = load(), identify()
        for engine in self._engines.values():
            engine.warm_up()
        self._analyses = ThreadPoolExecutor(threads, "analysis", initializer=lower_priority)
        self._voices = ThreadPoolExecutor(2 * threads, "voice", initializer=lower_priority)
        self._classifying = ThreadPoolExecutor(1, "turns")
        self._turns: dict[str, list[tuple[ClassifyTurn, asyncio.Future[Result]]]] = {}
        self._asked_at = time.monotonic()
        self._watching: asyncio.Task[None] | None = None

    async def identity(self) -> str:
        """Return what the engines are. A gateway that asks keeps the actor alive."""
        self._asked_at = time.monotonic()
        if self._watching is None:
            self._watching = asyncio.create_task(self._end_when_idle())
        return self._identity

    async def run(self, model: str, *pieces: bytes) -> bytes:
        """Run work on the engine of a model.

        Args:
            model: the name of a model.
            pieces: see `cut`.

        Returns:
            The results, pickled, in the order of the work.
        """
        self._asked_at = time.monotonic()
        works: list[Work] = pickle.loads(b"".join(pieces))
        return pickle.dumps(await asyncio.gather(*[self._run(model, work) for work in works]), protocol=5)

    async def _run(self, model: str, work: Work) -> Result:
        try:
            return await self._run_on(model, work)
        except Exception as error:  # the boundary: it must not touch the rest of its call
            log.exception("work could not be run")
            return Failure(f"work could not be run: {error}")

    async def _run_on(self, model: str, work: Work) -> Result:
        engine, loop = self._engines[model], asyncio.get_running_loop()
        match work:
            case AnalyzeSegment():
                return await loop.run_in_executor(self._analyses, engine.analyze, work, self._beside)
            case SegmentSpeakers():
                return await loop.run_in_executor(self._voices, engine.segment_speakers, work)
            case MeasureVoice():
                return await loop.run_in_executor(self._analyses, engine.measure, work)
            case ClassifyTurn():
                return await self._classify(model, work)

    def _beside(self, function: Callable[[], Voice]) -> Callable[[], Voice]:
        return self._voices.submit(function).result

    async def _classify(self, model: str, work: ClassifyTurn) -> Result:
        """Classify a turn together with those that wait by the time its batch begins."""
        codec, loop = self._engines[model].classifier, asyncio.get_running_loop()
        if isinstance(work.state, bytes):
            work = replace(work, state=codec.state_from_bytes(work.state))
        answer: asyncio.Future[Result] = loop.create_future()
        waiting = self._turns.setdefault(model, [])
        waiting.append((work, answer))
        if len(waiting) == 1:
            task = asyncio.create_task(self._classify_waiting(model))
            task.add_done_callback(lambda done: done.exception())  # its turns have it
        result = await answer
        if isinstance(result, Classification):
            result = replace(result, state=codec.state_to_bytes(result.state))
        return result

    async def _classify_waiting(self, model: str) -> None:
        """Classify the turns that wait until none is left."""
        engine, waiting = self._engines[model], self._turns[model]
        while waiting:
            await _idle(self._classifying)
            batch = waiting[: engine.max_batch]
            turns, loop = [work for work, _ in batch], asyncio.get_running_loop()
            results: Sequence[Result]
            try:
                results = await loop.run_in_executor(self._classifying, engine.classify, turns)
            except Exception as error:  # the boundary: an engine reports its own errors as failures
                results = [Failure(f"turn could not be classified: {error}")] * len(batch)
            del waiting[: len(batch)]
            for (_, answer), result in zip(batch, results, strict=True):
                if not answer.done():
                    answer.set_result(result)

    async def _end_when_idle(self) -> None:
        """End the actor for good once no gateway asks: those of another version have actors of their own."""
        while (left := self._asked_at + IDLE_S - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        import ray

        ray.kill(ray.get_runtime_context().current_actor)


async def _idle(executor: Executor) -> None:
    """Wait until a thread takes work: what arrives meanwhile is in the next batch."""
    await asyncio.get_running_loop().run_in_executor(executor, int)
