"""A server for tests: a real one on a free port of this machine, with real weights or with stand-ins.

`FakeEngine` answers as `fakes.HashEngine` does, at once; its classifier's state is a text, so that any
difference in order, words, speaker or state shows in every later probability. `Client` is the other side: a
bare socket that sends whatever a test gives it, right or wrong.
"""

import asyncio
import dataclasses
import functools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fakes import CONFIG, LABELS, HashEngine, LoudnessVad
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from stream_erc.audio import to_pcm16
from stream_erc.config import Config, EngineConfig, ServerConfig, SessionConfig
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.session import Session
from stream_erc.core.work import Analysis, AnalyzeSegment, Classification, ClassifyTurn, Failure
from stream_erc.events import Samples
from stream_erc.inference.engine import Engine
from stream_erc.server.server import Server, web_folder
from stream_erc.server.stores.base import SessionStore
from stream_erc.server.stores.sqlite import MemoryStore


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
    language, languages = "en", ("en",)

    def __init__(self, analysis_s: float = 0.0) -> None:
        self.classifier, self._answers, self._analysis_s = FakeClassifier(), HashEngine(), analysis_s

    def warm_up(self) -> None:
        """Nothing is loaded."""

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
        session: how sessions are heard; made for tones where the engines are stand-ins.
        web: the page's folder; the project's page where it is None.
        options: of `ServerConfig`; a free port by default.
    """
    fake = all(isinstance(engine, FakeEngine) for engine in (engines or {}).values())
    config = Config(
        session=session or (CONFIG if fake else SessionConfig()),
        server=ServerConfig(**{"port": 0, "drain_s": 1.0, "penalty_s": 0.0} | options),  # type: ignore[arg-type]
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


PATIENCE_S = 30.0
"""How long a test waits for what has to come; a loaded machine may take long."""

Fields = dict[str, object]


class Client:
    """A bare connection: sends what it is given, and shows what comes.

    Args:
        url: the socket's.
        token: for the header ``Authorization``.
        origin: for the header ``Origin``.
        tls: trusts the server.
        greeted: whether the server's first message is waited for.
        receive_buffer: bytes that the system holds for a client that does not read; as it likes where None.

    Attributes:
        created: that message.
        seen: every message so far.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        origin: str | None = None,
        tls: ssl.SSLContext | None = None,
        greeted: bool = True,
        receive_buffer: int | None = None,
    ) -> None:
        bare = None
        if receive_buffer is not None:
            bare = socket.socket()
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            host, _, port = url.split("/")[2].rpartition(":")
            bare.connect((host, int(port)))
        self._stack = ExitStack()
        opening = connect(
            url,
            additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
            origin=None if origin is None else Origin(origin),
            ssl=tls,
            sock=bare,
            compression=None,
            proxy=None,
            ping_interval=None,
            max_size=None,
            open_timeout=PATIENCE_S,
            close_timeout=1.0,
        )
        self.socket = self._stack.enter_context(opening)
        self.seen: list[Fields] = []
        self.created = self.receive() if greeted else {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, whatever it was doing."""
        self._stack.close()

    def send(self, kind: str, **fields: object) -> None:
        """Send a message."""
        self.socket.send(json.dumps({"type": kind} | fields))

    def send_audio(self, samples: Samples, frame: int = 8_000) -> None:
        """Send audio at 16 kHz in frames of `frame` samples."""
        for at in range(0, len(samples), frame):
            self.socket.send(to_pcm16(samples[at : at + frame]))

    def receive(self, timeout_s: float = PATIENCE_S) -> Fields:
        """The next message; raises TimeoutError, or ConnectionClosed."""
        message = json.loads(self.socket.recv(timeout_s))
        self.seen.append(message)
        return message

    def until(self, kind: str) -> Fields:
        """The next message of a type; those before it are in `seen`."""
        while True:
            message = self.receive()
            if message["type"] == kind:
                return message

    def answer(self, kind: str, **fields: object) -> Fields:
        """Send a message; the next one that comes."""
        self.send(kind, **fields)
        return self.receive()

    def settle(self) -> None:
        """Wait until the server has taken in all that was sent."""
        self.send("ping", id="settled")
        while self.until("pong")["id"] != "settled":
            pass

    def resume(self, token: object, last_event_id: int) -> Fields:
        """Resume; the answer."""
        return self.answer("session.resume", resume_token=token, last_event_id=last_event_id)

    def code(self) -> int:
        """Read to the end; the code with which the connection was closed."""
        try:
            while True:
                self.receive()
        except ConnectionClosed as closed:
            return 1006 if closed.rcvd is None else closed.rcvd.code

    def vanish(self) -> None:
        """Be gone without a close frame."""
        with suppress(OSError):
            self.socket.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    @property
    def events(self) -> list[Fields]:
        """The lasting events so far."""
        return lasting(self.seen)


def lasting(messages: Iterable[Fields]) -> list[Fields]:
    """The events that are never lost, without what differs from one connection or run to the next."""
    passing = ("session_id", "seq", "created_at", "latency_ms")
    return [
        {key: value for key, value in message.items() if key not in passing}
        for message in messages
        if "event_id" in message and message["type"] != "session.resumed"
    ]


def converse(url: str, audio: Samples, **configuration: object) -> list[Fields]:
    """A whole session, undisturbed: its lasting events."""
    with Client(url) as client:
        client.send("session.update", **({"pace": "replay"} | configuration))
        client.send_audio(audio)
        client.send("session.close")
        assert client.code() == 1000
        return client.events


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within the time that a loaded machine may need."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
