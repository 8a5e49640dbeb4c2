"""Batches of few sizes, and a step that is recorded once for each size."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

BATCHES = (1, 2, 4, 8, 16, 32, 64, 256, 1_024)
"""Sizes of batches; others are padded."""

LENGTHS = (16, 32, 64, 128, 256, 512)
"""Lengths of windows of tokens; others are padded."""

WARM_UPS = 3
"""Runs before a recording, in which libraries choose their kernels and allocate what they need."""

Run: TypeAlias = Callable[[], None]
"""A computation from tensors in fixed places to tensors in fixed places."""

log = logging.getLogger(__name__)


def bucket_of(count: int, sizes: Sequence[int] = BATCHES) -> int:
    """Return the smallest size that holds `count`, or `count` if none does."""
    return next((size for size in sizes if size >= count), count)


def eager(run: Run) -> Run:
    """Return the computation as it is: the stand-in of `recorded` where there is no GPU."""
    return run


def recorded(run: Run) -> Run:
    """Record a computation on the current GPU as a CUDA graph; return what replays it.

    It is run a few times before. One that cannot be recorded is returned as it is, with a warning.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        # other threads may allocate meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            run()
    except RuntimeError as error:
        log.warning("a step runs without CUDA graphs: %s", str(error).splitlines()[0])
        return run
    return graph.replay
