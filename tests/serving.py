"""A server for tests: a real one on a free port of this machine, with real weights or with stand-ins.

`FakeEngine` answers as `fakes.HashEngine` does, at once; its classifier's state is a text, so that any
difference in order, words, speaker or state shows in every later probability.
"""

import asyncio
import dataclasses
import functools
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fakes import CONFIG, LABELS, HashEngine, LoudnessVad

from stream_erc.config import Config, EngineConfig, ServerConfig, SessionConfig
from stream_erc.diarization import OnlineClustering
from stream_erc.engine import Engine
from stream_erc.server import Server, web_folder
from stream_erc.session import Session
from stream_erc.store import MemoryStore, SessionStore
from stream_erc.work import Analysis, AnalyzeSegment, Classification, ClassifyTurn, Failure


class FakeClassifier:
    """Labels, and a state that is a text."""

    name = "hash"
    labels = LABELS

    def state_to_bytes(self, state: object) -> bytes:
        return str(state).encode()

    def state_from_bytes(self, blob: bytes) -> object:
        return blob.decode()


class FakeEngine:
    """An engine without weights, with the interface that a worker and a server use.

    Args:
        analysis_s: how long an analysis takes.
    """

    max_batch = 8
    asr_name = "hash"
    languages = ("en",)

    def __init__(self, analysis_s: float = 0.0) -> None:
        self.classifier, self._answers, self._analysis_s = FakeClassifier(), HashEngine(), analysis_s

    def open_session(self, config: SessionConfig, **options: object) -> Session:
        clustering = OnlineClustering(config.diarization, 8)
        return Session(config, vad=LoudnessVad(), clustering=clustering, **options)  # type: ignore[arg-type]

    def analyze(self, work: AnalyzeSegment) -> Analysis | Failure:
        time.sleep(self._analysis_s)
        (answer,) = self._answers.run([work])
        assert isinstance(answer, Analysis | Failure)
        return answer

    def classify(self, works: list[ClassifyTurn]) -> list[Classification | Failure]:
        return self._answers.run(works)  # type: ignore[return-value]


@functools.cache
def real_engine(model: str = "si-lstm", asr: str = "auto") -> Engine:
    """The engine of ``stream-erc serve``, loaded once."""
    config = EngineConfig(model=model)
    config = dataclasses.replace(config, asr=dataclasses.replace(config.asr, engine=asr))
    return Engine.load(config, SessionConfig(), clock=time.perf_counter)


@dataclasses.dataclass
class Running:
    """A server that runs in a thread.

    Attributes:
        url: of its page; `socket_url` of its sockets.
    """

    url: str
    server: Server
    thread: threading.Thread

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/v1/session"

    def stop(self) -> None:
        """Stop as SIGTERM does."""
        self.server.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


def start(
    engines: Mapping[str, object] | None = None,
    *,
    store: SessionStore | None = None,
    session: SessionConfig | None = None,
    web: Path | None = None,
    **options: object,
) -> Running:
    """A server that listens.

    Args:
        engines: model name -> engine; a `FakeEngine` where it is None.
        store: in memory where it is None.
        session: how sessions are heard; made for tones where `engines` is None.
        web: the page's folder; the project's page where it is None.
        options: of `ServerConfig`; a free port by default.
    """
    fake = engines is None
    config = Config(
        session=session or (CONFIG if fake else SessionConfig()),
        server=ServerConfig(**{"port": 0, "drain_s": 1.0} | options),  # type: ignore[arg-type]
    )
    server = Server(config, engines or {"hash": FakeEngine()}, store or MemoryStore(), web or web_folder())  # type: ignore[arg-type]
    listening, urls, problems = threading.Event(), [], []

    def ready(url: str) -> None:
        urls.append(url)
        listening.set()

    def run() -> None:
        try:
            asyncio.run(server.run(ready))
        except BaseException as error:
            problems.append(error)
        finally:
            listening.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert listening.wait(20)
    if problems:
        raise problems[0]
    return Running(urls[0], server, thread)


@contextmanager
def serve(engines: Mapping[str, object] | None = None, **options: object) -> Iterator[Running]:
    """As `start`, and stopped at the end."""
    running = start(engines, **options)  # type: ignore[arg-type]
    try:
        yield running
    finally:
        running.stop()
