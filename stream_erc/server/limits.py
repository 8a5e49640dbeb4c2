"""Limits of what clients can take: audio and messages by the clock, memory by a budget that all share."""

import asyncio
import contextlib
import ctypes
import sys
from dataclasses import dataclass

MAX_BACKLOG_MS = 300_000.0
"""Audio that may arrive at once after a stalled network or a busy server has held it back."""


@dataclass(slots=True)
class Bucket:
    """A token bucket: arrivals must not exceed the initial `level` plus `rate` times the elapsed seconds.

    Attributes:
        rate: tokens added per second.
        burst: the level at which the bucket is full and no longer gains tokens.
        at: time of the last update, seconds.
        level: tokens available.
    """

    rate: float
    burst: float
    at: float
    level: float

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> "Bucket":
        """Return a full bucket."""
        return cls(rate, burst, now, burst)

    @classmethod
    def of_live_audio(cls, burst_ms: float, now: float) -> "Bucket":
        """Return a bucket of milliseconds of live audio, at most `burst_ms` ahead of the clock.

        Audio that was held back is behind the clock, so it may arrive at once.
        """
        return cls(1000.0, burst_ms + MAX_BACKLOG_MS, now, burst_ms)

    def take(self, amount: float, now: float) -> bool:
        """Take `amount` if it is available; return whether it was."""
        self.level = max(self.level, min(self.burst, self.level + self.rate * max(0.0, now - self.at)))
        self.at = now
        if amount > self.level:
            return False
        self.level -= amount
        return True

    def grant(self, amount: float) -> None:
        """Add `amount`, even beyond `burst`."""
        self.level += amount


MAX_WAITING_BYTES = 32 * 2**20
"""Size of all that waits in a server, above which it reads only from sessions with less than their share."""


class Budget:
    """The bytes that may wait in a server, for all its sessions together.

    What waits has at most twice its size: the rest, and the share of each session.

    Args:
        total: the bytes.
        places: the number of sessions that may be there.

    Attributes:
        share: the bytes that every session may always have.
        used: the bytes that wait.
    """

    def __init__(self, total: int, places: int) -> None:
        self.total, self.share, self.used = total, total // places, 0
        self._freed = asyncio.Event()

    def change(self, by: int) -> None:
        """Count bytes that wait from now on, or no longer, where negative."""
        self.used += by
        if by < 0:
            self._freed.set()

    async def wait(self) -> None:
        """Wait until something waits no longer."""
        self._freed.clear()
        await self._freed.wait()


class Account:
    """The part of a budget that one session takes.

    Args:
        budget: the server's.

    Attributes:
        held: its bytes that wait.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget, self.held = budget, 0

    @property
    def over(self) -> bool:
        """Whether the session should let no more wait, since the budget is used up and it has its share."""
        return self.held > self._budget.share and self._budget.used > self._budget.total

    def change(self, by: int) -> None:
        """Count bytes that wait from now on, or no longer, where negative."""
        self.held += by
        self._budget.change(by)

    async def wait_for_room(self) -> None:
        """Wait until more may wait."""
        while self.over:
            await self._budget.wait()

    def close(self) -> None:
        """Free all that the session had."""
        self.change(-self.held)


def return_freed_memory() -> None:
    """Return to the system what this process has freed; glibc keeps most of it. Elsewhere do nothing."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
