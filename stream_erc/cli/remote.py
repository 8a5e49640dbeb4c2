"""The Ray cluster of ``serve --ray``: its connection, and the workers that use it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from stream_erc.config import Config

if TYPE_CHECKING:
    from stream_erc.inference.engine import Engine
    from stream_erc.server.server import MakeWorker


@contextmanager
def cluster(config: Config, load: "Callable[[], Mapping[str, Engine]]") -> "Iterator[MakeWorker]":
    """Connect to the cluster of a configuration; yield what makes the worker of a model.

    Args:
        config: the configuration.
        load: loads the engines, on an actor's machine.

    Raises:
        ConfigError, EngineUnavailable: see `connect`.
    """
    from stream_erc.inference.remote.ray_cluster import connect, disconnect
    from stream_erc.inference.remote.ray_worker import ActorPlan, Actors, RayWorker

    server = config.server
    assert server.ray is not None
    connect(server.ray)
    try:
        plan = ActorPlan(
            load,
            partial(identity, (config.engine.model, *server.models)),
            repr((config.engine, config.session)),
            server.ray_workers,
            server.threads,
            server.ray_cpus,
            server.ray_gpus,
        )
        with closing(Actors(plan)) as actors:

            def make_worker(
                model: str, engine: "Engine", on_failure: Callable[[Exception], None]
            ) -> RayWorker:
                return RayWorker(engine, model, actors, on_failure=on_failure)

            yield make_worker
    finally:
        disconnect()


def identity(models: tuple[str, ...]) -> str:
    """Return the version and the checkpoints, which must be the same on all machines.

    Raises:
        CheckpointError: no such checkpoint.
    """
    from stream_erc.inference.emotion.shipped import checkpoint_digest

    found = [f"{model} ({checkpoint_digest(model)[:12]})" for model in models]
    return ", ".join([f"stream-erc {metadata.version('stream-erc')}", *found])
