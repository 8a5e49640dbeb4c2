"""Reading many conversations on a Ray cluster, by Ray Data.

Rows are paths: a machine of the cluster opens the file and writes the result itself, so inputs and results
must be on storage that all machines share. No audio and no words travel through Ray.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stream_erc.bulk.inputs import Unit
from stream_erc.bulk.reading import Outcome, Reader, Settings
from stream_erc.inference.remote.ray_cluster import connect, disconnect

MAX_BLOCKS = 1_000
"""Blocks of rows: a conversation each up to here. A block whose machine is lost is begun again; what is done
is skipped, by content."""

TRIES = 2


class _Actor:
    """A reader in a process of the cluster."""

    def __init__(self, settings: Settings, key: str) -> None:
        self._reader = Reader(settings, key)

    def __call__(self, row: dict[str, str]) -> dict[str, Any]:
        """Read the conversation of a row."""
        return asdict(self._reader.read(Unit(Path(row["path"]), row["name"])))


def read_on_ray(
    settings: Settings, key: str, units: Iterator[Unit], jobs: int, address: str
) -> Iterator[Outcome]:
    """Read conversations in `jobs` actors of a cluster; yield what became of each as they end.

    Raises:
        ConfigError, EngineUnavailable: see `connect`.
    """
    connect(address)
    try:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1
        rows = [{"path": str(unit.path.absolute()), "name": unit.name} for unit in units]
        left = {row["name"]: row["path"] for row in rows}
        found = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS)).map(
            _Actor,  # type: ignore[arg-type]  # a class is constructed once in each actor
            fn_constructor_args=(settings, key),
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=jobs),
            max_restarts=-1,
            max_task_retries=TRIES - 1,
        )
        for row in found.iter_rows():
            left.pop(row["name"], None)
            yield Outcome(**row)
        for name, path in left.items():
            yield Outcome(
                name, "failed", f"{path}: expected a process that outlives it, got {TRIES} that died"
            )
    finally:
        disconnect()
