"""Chunks of a recording, paced like a live source. A shell: it uses the clock."""

import time
from collections.abc import Callable, Iterable, Iterator

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples
from stream_erc.exceptions import ConfigError


def paced(
    chunks: Iterable[Samples],
    speed: float | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Samples]:
    """Yield each chunk when a live source would: at the time of its last sample.

    Args:
        chunks: 16 kHz.
        speed: 1.0 is real time, 2.0 twice as fast; None does not pace.
        clock: returns seconds from any origin.
        sleep: waits for some seconds.

    Raises:
        ConfigError: a speed that is not positive.
    """
    if speed is not None and not 0 < speed < float("inf"):
        raise ConfigError(f"speed: expected max or a positive number, got {speed}")
    return iter(chunks) if speed is None else _paced(chunks, speed, clock, sleep)


def _paced(
    chunks: Iterable[Samples], speed: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[Samples]:
    began, heard = clock(), 0
    for chunk in chunks:
        heard += len(chunk)
        early_s = began + heard / SAMPLE_RATE / speed - clock()
        if early_s > 0:
            sleep(early_s)
        yield chunk
