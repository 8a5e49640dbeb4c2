"""Prometheus metrics of a server; they hold nothing of what was said."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector

from stream_erc.protocol.messages import ServerMessage, TurnFailed, TurnFinal, TurnRevised

STAGES = ("endpointing", "asr", "features", "emotion", "total")
STAGE_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
DELIVERY_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

__all__ = ["CONTENT_TYPE", "Telemetry"]


class _Analyses(Collector):
    """The analyses that workers have counted."""

    def __init__(self, analyses: Callable[[], Mapping[str, int]]) -> None:
        self._analyses = analyses

    def collect(self) -> Iterator[Metric]:
        """Yield the counter."""
        family = CounterMetricFamily(
            "stream_erc_analyses",
            "Analyses of final turns, of pauses ahead of the end of a turn, and of partial turns",
            labels=["kind"],
        )
        for kind, count in self._analyses().items():
            family.add_metric([kind], count)
        yield family


class Telemetry:
    """One server's metrics, in a registry of their own.

    Args:
        waiting: returns the number of analyses and of classifications that wait for a thread.
        unread: returns the number of messages that wait to be sent.
        models: names of the models that are served.
        analyses: returns the number of analyses run by their kind (see `ThreadWorker`).
    """

    def __init__(
        self,
        waiting: Callable[[], tuple[int, int]],
        unread: Callable[[], int],
        models: Iterable[str] = (),
        analyses: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        build = Gauge(
            "stream_erc_build_info",
            "Version and models of the server",
            ["version", "model"],
            registry=registry,
        )
        for model in models:
            build.labels(metadata.version("stream-erc"), model).set(1)
        self.refused = Counter(
            "stream_erc_refused", "Requests refused before their work began", ["status"], registry=registry
        )
        self.sessions = Gauge("stream_erc_sessions", "Connections with a session", registry=registry)
        self.recordings = Gauge(
            "stream_erc_recordings", "Recordings being uploaded or transcribed", registry=registry
        )
        self.transcriptions = Counter(
            "stream_erc_transcriptions", "Transcriptions ended, by HTTP status", ["status"], registry=registry
        )
        self.opened = Counter(
            "stream_erc_sessions_opened", "Sessions begun or resumed", ["how"], registry=registry
        )
        self.ended = Counter(
            "stream_erc_connections_ended", "Connections ended, by close code", ["code"], registry=registry
        )
        self.errors = Counter("stream_erc_errors", "Errors sent to clients", ["code"], registry=registry)
        self.audio = Counter("stream_erc_audio_seconds", "Audio taken in", registry=registry)
        self.turns = Counter("stream_erc_turns", "Turns reported", ["outcome"], registry=registry)
        registry.register(_Analyses(analyses))
        self.stages = Histogram(
            "stream_erc_stage_seconds",
            "From the end of speech to the event, by stage",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=registry,
        )
        self.delivery = Histogram(
            "stream_erc_delivery_seconds",
            "From an event to its being sent, storing included",
            buckets=DELIVERY_SECONDS,
            registry=registry,
        )
        self.saving = Histogram(
            "stream_erc_save_seconds", "Storing a save point", buckets=DELIVERY_SECONDS, registry=registry
        )
        depth = Gauge("stream_erc_queue_depth", "Items that wait in a queue", ["queue"], registry=registry)
        depth.labels("analyses").set_function(lambda: waiting()[0])
        depth.labels("classifications").set_function(lambda: waiting()[1])
        depth.labels("outgoing").set_function(unread)

    def count_turn(self, message: ServerMessage) -> None:
        """Count a message about a turn, and observe a final turn's latency; ignore any other message."""
        match message:
            case TurnFinal(latency_ms=parts):
                self.turns.labels("final").inc()
                for stage in STAGES:
                    self.stages.labels(stage).observe(getattr(parts, stage) / 1000)
            case TurnRevised():
                self.turns.labels("revised").inc()
            case TurnFailed():
                self.turns.labels("failed").inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
