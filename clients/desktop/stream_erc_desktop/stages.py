"""The latency from the end of speech to the result, by stage. No Qt."""

from collections import deque
from dataclasses import dataclass, field

from stream_erc_client import LatencyParts

MAX_LATENCIES = 1_000  # turns in the percentiles

STAGES = {
    "endpointing": "Waiting for silence",
    "asr": "Speech recognition",
    "features": "Voice",
    "emotion": "Emotion",
    "total": "Total",
}
"""Each stage's field of `LatencyParts`, and its name in the window."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the latency, in milliseconds."""

    name: str
    last: float
    median: float
    p95: float


@dataclass
class Latencies:
    """The latencies of the last turns."""

    _kept: deque[LatencyParts] = field(default_factory=lambda: deque(maxlen=MAX_LATENCIES))

    def add(self, latency: LatencyParts) -> None:
        """Add a turn's latency."""
        self._kept.append(latency)

    def stages(self) -> list[Stage]:
        """Return the stages that took any time, with the last turn's latency, median and percentile."""
        stages = []
        for key, name in STAGES.items() if self._kept else ():
            values = [float(getattr(latency, key)) for latency in self._kept]
            ordered = sorted(values)
            if ordered[-1] > 0:
                stages.append(Stage(name, values[-1], _quantile(ordered, 0.5), _quantile(ordered, 0.95)))
        return stages


def _quantile(ordered: list[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    low = int(at)
    return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
