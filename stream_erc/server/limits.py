"""Rate limits for one client, as values that are given the time."""

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
