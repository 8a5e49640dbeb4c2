"""What one client may ask of a server, as values that are told the time."""

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """A token bucket: what came must not exceed `burst` plus `rate` times the seconds since the beginning.

    Attributes:
        rate: what may come in a second.
        burst: what may come at once.
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

    def take(self, amount: float, now: float) -> bool:
        """Whether `amount` may come now; if not, nothing is taken."""
        self.level = max(self.level, min(self.burst, self.level + self.rate * max(0.0, now - self.at)))
        self.at = now
        if amount > self.level:
            return False
        self.level -= amount
        return True

    def grant(self, amount: float) -> None:
        """Let `amount` more come than the burst."""
        self.level += amount
