"""Where the time goes between the end of speech and its result. No Qt."""

from collections import deque
from dataclasses import dataclass, field

from stream_erc_client import LatencyParts

MAX_LATENCIES = 1_000  # turns that the percentiles are taken over

STAGES = {
    "endpointing": "Waiting for silence",
    "asr": "Speech recognition",
    "features": "Voice",
    "emotion": "Emotion",
    "total": "Total",
}
"""Where the time goes: the wire's word and the window's."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the latency, in milliseconds."""

    name: str
    last: float
    median: float
    p95: float


@dataclass
class Latencies:
    """What the last turns took."""

    _kept: deque[LatencyParts] = field(default_factory=lambda: deque(maxlen=MAX_LATENCIES))

    def add(self, latency: LatencyParts) -> None:
        """One more turn."""
        self._kept.append(latency)

    def stages(self) -> list[Stage]:
        """Each stage of the last turn and over the last ones; empty before the first."""
        found = []
        for key, name in STAGES.items() if self._kept else ():
            values = [float(getattr(latency, key)) for latency in self._kept]
            ordered = sorted(values)
            if ordered[-1] > 0:
                found.append(Stage(name, values[-1], _quantile(ordered, 0.5), _quantile(ordered, 0.95)))
        return found


def _quantile(ordered: list[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    low = int(at)
    return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
