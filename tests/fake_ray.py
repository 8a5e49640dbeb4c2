"""Engines that hash, as the actors of a Ray cluster load them."""

import os
import sys
from collections.abc import Callable
from importlib import metadata

from serving import FakeEngine

from stream_erc.config import EngineConfig, SessionConfig
from stream_erc.core.work import Analysis, AnalyzeSegment, Failure
from stream_erc.inference.engine import TEXT_ONLY, Engine
from stream_erc.inference.remote.ray_worker import ActorPlan, Actors, RayWorker

DEADLY = 0.77
"""A segment that begins with this sample ends its process."""


class Mortal(FakeEngine):
    def analyze(self, work: AnalyzeSegment, beside=None) -> Analysis | Failure:
        if work.segment.samples[0] == DEADLY:
            os._exit(1)
        return super().analyze(work, beside)


def load() -> dict[str, FakeEngine]:
    return {"hash": Mortal(analysis_s=0.02)}


def load_nothing() -> dict[str, FakeEngine]:
    raise FileNotFoundError("no model here")


def load_checkpoint(model: str) -> dict[str, Engine]:
    return {"model": Engine.load(EngineConfig(model=model), SessionConfig(), TEXT_ONLY)}


def identify() -> str:
    return f"stream-erc {metadata.version('stream-erc')}, hash"


def identify_elsewhere() -> str:
    """Return another version in the process of an actor."""
    return identify() if "_pytest" in sys.modules else "stream-erc 9.9.9, hash"


PLAN = ActorPlan(load, identify, cpus=0.1)  # type: ignore[arg-type]


def make_workers(actors: Actors) -> Callable[[str, Engine, Callable[[Exception], None]], RayWorker]:
    def make(model: str, engine: Engine, on_failure: Callable[[Exception], None]) -> RayWorker:
        return RayWorker(engine, model, actors, on_failure=on_failure)

    return make
