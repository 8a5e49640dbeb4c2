"""The time that a batch waits for more turns."""

SPAN_S = 1.0
"""The load is that of about the last second."""

BUSY = 0.5
"""The share of time at which a batch begins to wait: below it, whoever comes next finds the device idle."""


class BatchWait:
    """Decides how long a batch waits for more turns: not at all while idle, more with load, up to a bound.

    Turns that come while a batch is computed form the next one, which already adapts to load. A wait gives
    the device fewer and larger batches before it is saturated: one costs nearly the same whatever its size.

    Args:
        most_s: the bound in seconds; 0 for no wait.
    """

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self._busy, self._until = 0.0, 0.0

    def ran(self, began: float, ended: float) -> None:
        """Note that a batch was computed between two times of one clock, in seconds."""
        for since, until, busy in ((self._until, began, 0.0), (began, ended, 1.0)):
            share = min(1.0, max(0.0, until - since) / SPAN_S)
            self._busy += share * (busy - self._busy)
        self._until = max(self._until, ended)

    def wait_s(self, now: float) -> float:
        """Return how long a batch waits whose first turn is taken at `now`."""
        idle = min(1.0, max(0.0, now - self._until) / SPAN_S)
        busy = self._busy * (1.0 - idle)
        return self.most_s * max(0.0, busy - BUSY) / (1.0 - BUSY)
