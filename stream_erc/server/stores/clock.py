"""The clock that stored sessions live by, which a step of the wall clock does not move."""

import contextlib
import time
from pathlib import Path

from stream_erc.server.stores.base import SessionStore

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StoreClock:
    """Seconds since the epoch, as the first server on the store had them when this machine had started.

    It runs with the monotonic clock, which all processes of the machine share until it restarts.

    Args:
        store: keeps the difference between the two clocks for later servers.

    Raises:
        StoreError: the store cannot be used.
    """

    def __init__(self, store: SessionStore) -> None:
        boot = ""
        with contextlib.suppress(OSError):  # other systems than Linux: each server has a clock of its own
            boot = BOOT_ID.read_text(encoding="utf-8").strip()
        self._offset = store.clock_offset(boot, time.time() - time.monotonic())

    def now(self) -> float:
        """Return the time, seconds since the epoch."""
        return self._offset + time.monotonic()
