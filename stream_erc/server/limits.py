"""What one client may ask of a server, as values that are told the time."""

from dataclasses import dataclass

HELD_BACK_MS = 300_000.0
"""Audio that a stalled network or a busy server may have held back, so that it comes at once."""


@dataclass(slots=True)
class Bucket:
    """A token bucket: what came must not exceed a first `level` plus `rate` times the seconds since then.

    Attributes:
        rate: what may come in a second.
        burst: the most that is put by while nothing comes.
        at: the time of the last look, seconds.
        level: what may come now.
    """

    rate: float
    burst: float
    at: float
    level: float

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> "Bucket":
        """A bucket from which a whole burst may be taken."""
        return cls(rate, burst, now, burst)

    @classmethod
    def of_live_audio(cls, burst_ms: float, now: float) -> "Bucket":
        """Milliseconds of audio that come as they are spoken, at most `burst_ms` ahead of the clock.

        Audio that was held back is behind the clock and not ahead of it, so it may come at once.
        """
        return cls(1000.0, burst_ms + HELD_BACK_MS, now, burst_ms)

    def take(self, amount: float, now: float) -> bool:
        """Whether `amount` may come now; if not, nothing is taken."""
        self.level = max(self.level, min(self.burst, self.level + self.rate * max(0.0, now - self.at)))
        self.at = now
        if amount > self.level:
            return False
        self.level -= amount
        return True

    def grant(self, amount: float) -> None:
        """Let `amount` more come, beyond what is ever put by."""
        self.level += amount
