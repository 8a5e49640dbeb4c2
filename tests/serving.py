"""A real server for tests, on a free port of this machine, with real or fake engines.

`FakeEngine` gives the answers of `fakes.HashEngine`. Its classifier's state is a text, so that any difference
in order, words, speaker or state changes every later probability. `Client` is the other side: a bare socket
that sends whatever a test gives it, valid or not.
"""

import asyncio
import copy
import dataclasses
import functools
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fakes import CONFIG, LABELS, HashEngine, LoudnessVad
from paths import ROOT
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from stream_erc.audio import to_pcm16
from stream_erc.config import AsrConfig, Config, EngineConfig, ServerConfig, SessionConfig
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.session import Session
from stream_erc.core.work import (
    Analysis,
    AnalyzeSegment,
    Classification,
    ClassifyTurn,
    Failure,
    MeasuredVoice,
    MeasureVoice,
)
from stream_erc.events import Hypothesis, Samples
from stream_erc.server.server import MakeWorker, Server, web_folder
from stream_erc.server.stores.base import SessionStore
from stream_erc.server.stores.sqlite import MemoryStore

if TYPE_CHECKING:
    from stream_erc.inference.asr import Recognizer
    from stream_erc.inference.engine import Engine

CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # else it asks its maker about forms
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)


class FakeClassifier:
    """A classifier's labels, and a state that is a text."""

    name = "hash"
    labels = LABELS

    def state_to_bytes(self, state: object) -> bytes:
        return str(state).encode()

    def state_from_bytes(self, blob: bytes) -> object:
        return blob.decode()


class FakeEngine:
    """An engine without weights, with the interface that a worker and a server use.

    Args:
        analysis_s: duration of an analysis.
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

    def analyze(self, work: AnalyzeSegment, beside=None) -> Analysis | Failure:
        time.sleep(self._analysis_s)
        (answer,) = self._answers.run([work])
        assert isinstance(answer, Analysis | Failure)
        return answer

    def measure(self, work: MeasureVoice) -> MeasuredVoice | Failure:
        return self._answers.measure(work)

    def classify(self, works: list[ClassifyTurn]) -> list[Classification | Failure]:
        return self._answers.run(works)  # type: ignore[return-value]


class HeardBefore:
    """A recognizer that transcribes the same samples once: several tests hear the bundled conversation."""

    def __init__(self, recognizer: "Recognizer") -> None:
        self.name, self.languages, self._recognizer = recognizer.name, recognizer.languages, recognizer
        self._known: dict[tuple[bytes, tuple[object, ...]], Hypothesis] = {}

    def transcribe(self, samples: Samples, **options: object) -> Hypothesis:
        key = (hashlib.sha256(samples.tobytes()).digest(), tuple(sorted(options.items())))
        if key not in self._known:
            self._known[key] = self._recognizer.transcribe(samples, **options)  # type: ignore[arg-type]
        return self._known[key]


@functools.cache
def real_engine(asr: str | None = None) -> "Engine":
    """Return the engine of ``stream-erc serve``; its weights are loaded once.

    Loading takes long, so that one worker runs the tests with it: see `conftest.TOGETHER`.

    Args:
        asr: the recognizer; where it is None, one that remembers what it heard.
    """
    from stream_erc.inference.asr import load_recognizer
    from stream_erc.inference.engine import Engine

    config = EngineConfig(asr=AsrConfig(engine=asr or "auto"))
    if asr is None:
        engine = Engine.load(config, SessionConfig(), clock=time.perf_counter)
        assert engine._recognizer is not None
        engine._recognizer = HeardBefore(engine._recognizer)
    else:
        engine = copy.copy(real_engine())
        engine._recognizer = load_recognizer(config.asr)
    return engine


@dataclasses.dataclass
class Running:
    """A server that runs in a thread.

    Attributes:
        url: URL of its page; `socket_url` is that of its WebSockets.
        server: the server.
        thread: the thread that it runs in.
    """

    url: str
    server: Server
    thread: threading.Thread

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/v1/session"

    def stop(self) -> None:
        """Stop the server as SIGTERM does."""
        self.server.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


def start(
    engines: Mapping[str, object] | None = None,
    *,
    store: SessionStore | None = None,
    session: SessionConfig | None = None,
    web: Path | None = None,
    voices: Path | None = None,
    make_worker: MakeWorker | None = None,
    **options: object,
) -> Running:
    """Start a server, and wait until it listens.

    Args:
        engines: model name -> engine; one `FakeEngine` if None.
        store: the store; a new one in memory if None.
        session: configuration of sessions; by default one for tones if all engines are fake.
        web: the page's folder; the project's page if None.
        voices: the file of known voices.
        make_worker: see `Server`.
        options: fields of `ServerConfig`; a free port by default.
    """
    fake = all(isinstance(engine, FakeEngine) for engine in (engines or {}).values())
    config = Config(
        session=session or (CONFIG if fake else SessionConfig()),
        engine=EngineConfig(voices=None if voices is None else str(voices)),
        server=ServerConfig(**{"port": 0, "drain_s": 1.0, "penalty_s": 0.0, "max_sessions": 64} | options),  # type: ignore[arg-type]
    )
    given = (engines or {"hash": FakeEngine()}, store or MemoryStore(), web or web_folder(), make_worker)
    server = Server(config, *given)  # type: ignore[arg-type]
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
    """Run a server as `start` does, and stop it at the end."""
    running = start(engines, **options)  # type: ignore[arg-type]
    try:
        yield running
    finally:
        running.stop()


PATIENCE_S = 60.0
"""Time limit for something that has to happen; a loaded machine may take long."""

Fields = dict[str, object]


class Client:
    """A bare connection that sends what it is given and keeps what it receives.

    Args:
        url: URL of the server's WebSocket.
        token: token for the header ``Authorization``.
        origin: value of the header ``Origin``.
        tls: a context that trusts the server's certificate.
        greeted: whether to wait for the server's first message.
        receive_buffer: bytes that the system buffers for a client that does not read; its default if None.
        source: the address that it comes from; another one of 127.0.0.0/8 works on Linux.

    Attributes:
        created: the server's first message, empty if not waited for.
        seen: every message received so far.
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
        source: str | None = None,
    ) -> None:
        bare = None
        if receive_buffer is not None or source is not None:
            bare = socket.socket()
            if receive_buffer is not None:
                bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            bare.bind((source or "", 0))
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
        """Close the connection in any state."""
        self._stack.close()

    def send(self, kind: str, **fields: object) -> None:
        """Send a message."""
        self.socket.send(json.dumps({"type": kind} | fields))

    def send_audio(self, samples: Samples, frame: int = 8_000) -> None:
        """Send audio at 16 kHz in frames of `frame` samples."""
        for at in range(0, len(samples), frame):
            self.socket.send(to_pcm16(samples[at : at + frame]))

    def receive(self, timeout_s: float = PATIENCE_S) -> Fields:
        """Return the next message.

        Raises:
            TimeoutError: none came in time.
            ConnectionClosed: the connection has ended.
        """
        message = json.loads(self.socket.recv(timeout_s))
        self.seen.append(message)
        return message

    def until(self, kind: str) -> Fields:
        """Return the next message of a type; `seen` has those before it."""
        while True:
            message = self.receive()
            if message["type"] == kind:
                return message

    def answer(self, kind: str, **fields: object) -> Fields:
        """Send a message; return the next one received."""
        self.send(kind, **fields)
        return self.receive()

    def settle(self) -> None:
        """Wait until the server has taken in everything sent so far."""
        self.send("ping", id="settled")
        while self.until("pong")["id"] != "settled":
            pass

    def resume(self, token: object, last_event_id: int) -> Fields:
        """Send ``session.resume``; return the answer."""
        return self.answer("session.resume", resume_token=token, last_event_id=last_event_id)

    def code(self) -> int:
        """Read to the end; return the connection's close code."""
        try:
            while True:
                self.receive()
        except ConnectionClosed as closed:
            return 1006 if closed.rcvd is None else closed.rcvd.code

    def vanish(self) -> None:
        """Drop the connection without a close frame."""
        with suppress(OSError):
            self.socket.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    @property
    def events(self) -> list[Fields]:
        """The events received so far."""
        return lasting(self.seen)


def lasting(messages: Iterable[Fields]) -> list[Fields]:
    """Return the events among messages, without the fields that differ between connections or runs."""
    varying = ("session_id", "seq", "created_at", "latency_ms")
    return [
        {key: value for key, value in message.items() if key not in varying}
        for message in messages
        if "event_id" in message and message["type"] != "session.resumed"
    ]


def converse(url: str, audio: Samples, **configuration: object) -> list[Fields]:
    """Run a whole session without interruption; return its events."""
    with Client(url) as client:
        client.send("session.update", **({"pace": "replay"} | configuration))
        client.send_audio(audio)
        client.send("session.close")
        assert client.code() == 1000
        return client.events


@contextmanager
def program(code: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server in a process of its own, which gets signals; yield the process and its WebSocket URL.

    Args:
        code: a program that prints the server's URL.
        arguments: those of the program.
    """
    command = [sys.executable, "-u", "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT / "tests")
    assert process.stdout is not None
    with process, process.stdout:
        try:
            yield process, process.stdout.readline().strip().replace("http", "ws") + "/v1/session"
        finally:
            process.kill()


def eventually(holds: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true within `PATIENCE_S`."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
