"""The worker that has actors of a Ray cluster run the work of sessions.

Work is pure, so that a call that an actor's death has ended is made again on another actor, with the same
result. Queues, priorities and their limits are those of `ThreadWorker`, whose threads wait for the answers.
"""

import hashlib
import logging
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from stream_erc.events import SpeakerActivity
from stream_erc.exceptions import ConfigError
from stream_erc.inference.engine import Beside, Engine, in_turn
from stream_erc.inference.remote.ray_actor import EngineActor, cut
from stream_erc.inference.workers import ThreadWorker

log = logging.getLogger(__name__)

MAX_TRIES = 4
"""Actors that may die of a piece of work before it fails: it may be what they die of."""

TURNS_A_CALL = 8
"""Turns that a gateway sends together; an actor joins those of all gateways."""

ASK_S, SILENT_S = 1.0, 30.0
"""Interval at which actors are asked whether they are there, and the silence after which one is not."""


class _Lost(Exception):
    """An actor has died, or does not answer."""


@dataclass(frozen=True, slots=True)
class ActorPlan:
    """The actors that gateways share.

    Attributes:
        load: loads the engines on the actor's machine.
        identify: returns what the engines are: a gateway's must be the same as an actor's.
        settings: whatever else distinguishes actors; gateways with the same share them.
        count: the number of actors.
        threads: the number of analyses that run at a time on each.
        cpus, gpus: what Ray reserves for each, also a fraction.
    """

    load: Callable[[], Mapping[str, Engine]]
    identify: Callable[[], str]
    settings: str = ""
    count: int = 2
    threads: int = 2
    cpus: float = 1.0
    gpus: float = 0.0

    def name(self, number: int) -> str:
        """Return an actor's name in the cluster; gateways of another version or settings have others."""
        what = f"{self.identify()}\n{self.settings}\n{self.threads} {self.cpus} {self.gpus}"
        return f"engine-{hashlib.sha256(what.encode()).hexdigest()[:16]}-{number}"


class _Place:
    """An actor as this gateway sees it; the one that holds the place changes when it dies for good."""

    def __init__(self, name: str) -> None:
        self.name, self.handle, self.question = name, None, None
        self.up, self.running, self.answered_at = False, 0, time.monotonic()

    handle: Any
    question: Any


class Actors:
    """The actors of a plan, made on the cluster where they are missing. Thread-safe.

    This process must be connected (see `ray_cluster.connect`).

    Attributes:
        plan: the plan.
    """

    def __init__(self, plan: ActorPlan) -> None:
        self.plan, self._identity = plan, plan.identify()
        self._places = [_Place(plan.name(number)) for number in range(plan.count)]
        self._changed, self._closing = threading.Condition(), threading.Event()
        self._refused: ConfigError | None = None
        self._watching = threading.Thread(target=self._watch, name="actors", daemon=True)
        self._watching.start()

    @property
    def up(self) -> bool:
        """Whether an actor answers."""
        return any(place.up for place in self._places)

    def wait(self) -> None:
        """Wait until an actor answers.

        Raises:
            ConfigError: the actors are of another version, or cannot load their engines.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.up or self._refused or self._closing.is_set())
            if self._refused is not None and not self.up:
                raise self._refused

    def run(self, model: str, works: Sequence[Work]) -> list[Result]:
        """Run work on an actor; when it dies, on another one.

        While no actor answers, it waits. Turns whose actor has died are tried again one by one, since one of
        them may be the cause.
        """
        pieces = cut(works)
        for tried in range(MAX_TRIES):
            place = self._take()
            if place is None:
                return [Failure("expected a worker to run this, got a server that stops")] * len(works)
            try:
                return self._ask(place, model, pieces)
            except _Lost:
                log.warning("a worker was lost", extra={"tried": tried + 1})
                if len(works) > 1:
                    return [result for work in works for result in self.run(model, [work])]
            finally:
                with self._changed:
                    place.running -= 1
        return [Failure(f"expected an answer of a worker, got none of {MAX_TRIES}")] * len(works)

    def close(self) -> None:
        """Stop waiting for actors. They end by themselves when no gateway asks any more."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._watching.join()

    def _take(self) -> _Place | None:
        """Wait for an actor that answers, and take the one with the fewest calls; None when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self.up or self._closing.is_set())
            places = [place for place in self._places if place.up]
            if not places:
                return None
            place = min(places, key=lambda place: place.running)
            place.running += 1
            return place

    def _ask(self, place: _Place, model: str, pieces: Sequence[bytes]) -> list[Result]:
        import ray
        from ray.exceptions import GetTimeoutError, RayTaskError

        handle = place.handle
        try:
            answer = handle.run.remote(model, *pieces)
            while True:
                try:
                    results: list[Result] = pickle.loads(ray.get(answer, timeout=ASK_S))
                    return results
                except GetTimeoutError:
                    if not place.up or place.handle is not handle:
                        raise _Lost from None
        except RayTaskError as error:
            log.error("a worker failed: %s", error.cause)
            count = len(pickle.loads(b"".join(pieces)))
            return [Failure(f"the worker failed: {type(error.cause).__name__}")] * count
        except _Lost:
            raise
        except Exception as error:  # of a dead actor, node or cluster, and there are many
            self._mark(place, up=False)
            raise _Lost from error

    def _mark(self, place: _Place, *, up: bool) -> None:
        with self._changed:
            if place.up != up:
                log.info("worker", extra={"worker": place.name, "answers": up})
            place.up = up
            self._changed.notify_all()

    # --- watching ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Ask all actors regularly, and make those that are missing."""
        while not self._closing.is_set():
            for place in self._places:
                try:
                    self._look(place)
                except ConfigError as error:
                    self._refuse(place, error)
                except Exception as error:  # the cluster is away; the next look may find it
                    log.warning("a worker cannot be reached: %s", type(error).__name__)
                    self._mark(place, up=False)
                    place.handle = place.question = None
            self._closing.wait(ASK_S if self.up else ASK_S / 10)

    def _look(self, place: _Place) -> None:
        """Ask an actor, or read its answer to the last question.

        Raises:
            ConfigError: it is not what was planned, or could not be started.
        """
        import ray
        from ray.exceptions import ActorUnavailableError, RayActorError

        if place.handle is None:
            place.handle = self._find(place.name)
        if place.question is None:
            place.question = place.handle.identity.remote()
        done, _ = ray.wait([place.question], timeout=0)
        if not done:
            if time.monotonic() - place.answered_at > SILENT_S:
                self._mark(place, up=False)
            return
        question, place.question, place.answered_at = place.question, None, time.monotonic()
        try:
            told = ray.get(question)
        except ActorUnavailableError:  # it is being restarted
            self._mark(place, up=False)
            return
        except RayActorError as error:  # it is gone for good: the next look makes another one
            self._mark(place, up=False)
            place.handle = None
            cause = str(error)
            if "creation task" in cause:
                last = cause.strip().splitlines()[-1].strip()
                raise ConfigError(f"--ray: expected workers that load their engine, got {last}") from error
            return
        if told != self._identity:
            raise ConfigError(f"--ray: expected workers of {self._identity}, got {told}")
        self._mark(place, up=True)

    def _find(self, name: str) -> Any:
        """Return the actor of a name, made unless it is there."""
        import ray

        plan = self.plan
        made = ray.remote(EngineActor).options(
            name=name,
            get_if_exists=True,
            lifetime="detached",  # it outlives the gateway that made it
            max_restarts=-1,
            num_cpus=plan.cpus,
            num_gpus=plan.gpus,
        )
        return made.remote(plan.load, plan.identify, plan.threads)

    def _refuse(self, place: _Place, error: ConfigError) -> None:
        if self._refused is None or str(self._refused) != str(error):
            log.error("%s", error)
        self._mark(place, up=False)
        with self._changed:
            self._refused = error
            self._changed.notify_all()


class RemoteEngine:
    """The work of one model, run by actors; see `Engine` for what each call gives.

    Args:
        engine: this process's own, which encodes the states of conversations.
        model: the model's name.
        actors: run the work.
    """

    max_batch = TURNS_A_CALL

    def __init__(self, engine: Engine, model: str, actors: Actors) -> None:
        self._codec, self._model, self._actors = engine.classifier, model, actors

    def warm_up(self) -> None:
        """Wait until an actor answers.

        Raises:
            ConfigError: see `Actors.wait`.
        """
        self._actors.wait()

    def analyze(self, work: AnalyzeSegment, beside: Beside = in_turn) -> Analysis | Failure:
        """Analyse a segment; the actor reads the voice beside the words by itself."""
        result: Analysis | Failure = self._one(work, Analysis)
        return result

    def segment_speakers(self, work: SegmentSpeakers) -> SpeakerActivity | Failure:
        """Tell who speaks in a running turn."""
        result: SpeakerActivity | Failure = self._one(work, SpeakerActivity)
        return result

    def measure(self, work: MeasureVoice) -> MeasuredVoice | Failure:
        """Measure the voice in a clip."""
        result: MeasuredVoice | Failure = self._one(work, MeasuredVoice)
        return result

    def classify(self, works: Sequence[ClassifyTurn]) -> list[Classification | Failure]:
        """Classify turns of different conversations; a state crosses as bytes, whatever its device."""
        sent = [
            work if work.state is None else replace(work, state=self._codec.state_to_bytes(work.state))
            for work in works
        ]
        results: list[Classification | Failure] = []
        for result in self._actors.run(self._model, sent) if sent else ():
            assert isinstance(result, Classification | Failure), type(result)
            if isinstance(result, Classification) and isinstance(result.state, bytes):
                result = replace(result, state=self._codec.state_from_bytes(result.state))
            results.append(result)
        return results

    def _one(self, work: Work, kind: type) -> Any:
        (result,) = self._actors.run(self._model, [work])
        assert isinstance(result, kind | Failure), type(result)
        return result


class RayWorker(ThreadWorker):
    """Runs the work of sessions on actors: as many analyses at a time as all of them together run.

    Args:
        engine: this process's engine of the model.
        model: the model's name.
        actors: run the work.
        on_failure: called in a worker's thread if the actors cannot be used.
    """

    not_ready = "waiting for a worker"

    def __init__(
        self, engine: Engine, model: str, actors: Actors, *, on_failure: Callable[[Exception], None]
    ) -> None:
        self._actors = actors
        super().__init__(
            RemoteEngine(engine, model, actors),
            threads=actors.plan.count * actors.plan.threads,
            turn_threads=2 * actors.plan.count,
            on_failure=on_failure,
        )

    @property
    def ready(self) -> bool:
        """Whether an actor answers."""
        return super().ready and self._actors.up

    def close(self) -> None:
        """Stop the threads; calls that actors are running come to their end."""
        self._actors.close()
        super().close()
