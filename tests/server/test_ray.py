"""Servers whose engines are actors of a Ray cluster: nothing is lost or twice, whoever is killed."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_ray import DEADLY, PLAN, identify_elsewhere, load_checkpoint, load_nothing, make_workers
from fakes import conversation, tone
from paths import ROOT
from redis_server import RedisServer
from serving import Client, Fields, Running, converse, eventually, serve
from websockets.exceptions import ConnectionClosed

from stream_erc.core.work import Analysis, AnalyzeSegment, Classification, ClassifyTurn, Failure
from stream_erc.events import Features, SpeechSegment, Turn
from stream_erc.exceptions import ConfigError
from stream_erc.inference.remote import ray_worker
from stream_erc.inference.remote.ray_cluster import connect, disconnect
from stream_erc.inference.remote.ray_worker import Actors, RemoteEngine

pytest.importorskip("ray")
import ray
from ray._raylet import AuthenticationTokenLoader
from ray.exceptions import RayError

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900), (0.9, 200)])
TOGETHER = 6
CONNECT = "import sys; from stream_erc.inference.remote.ray_cluster import connect; connect(sys.argv[1])"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster with a token; this process is connected to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "models"), str(ROOT / "tests")]))
        patch.setenv("RAY_AUTH_MODE", "token")
        AuthenticationTokenLoader.instance().reset_cache()
        start()
        yield ray.get_runtime_context().gcs_address
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # Ray does not wait for its processes
            disconnect()
            gc.collect()


def start() -> None:
    """Start a cluster; Ray gives its node 30 s, which a machine that runs other tests may exceed."""
    for attempt in range(3):
        try:
            return connect("local")
        except ConfigError as error:
            if "timed out during startup" not in str(error) or attempt == 2:
                raise
            disconnect()


@pytest.fixture(scope="module")
def actors(address: str) -> Iterator[Actors]:
    actors = Actors(PLAN)
    actors.wait()
    yield actors
    actors.close()


@pytest.fixture
def running(actors: Actors) -> Iterator[Running]:
    """A server in this process; stopping it closes the actors' watch, so that each has its own."""
    with serve(make_worker=make_workers(Actors(PLAN))) as running:
        assert eventually(lambda: readiness(running) == (200, "ready\n"))
        yield running


@pytest.fixture(scope="module")
def undisturbed() -> list[Fields]:
    with serve() as running:
        return converse(running.socket_url, TALK)


def readiness(running: Running) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(running.url + "/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def pids(actors: Actors) -> list[int]:
    """The processes of the actors, once all answer."""
    found: list[int] = []

    def answered() -> bool:
        asked = [place.handle.__ray_call__.remote(_pid) for place in actors._places if place.handle]
        try:
            found[:] = ray.get(asked, timeout=10)
        except RayError:
            return False
        return len(found) == actors.plan.count

    assert eventually(answered)
    return found


def _pid(actor: object) -> int:
    return os.getpid()


def test_events_are_those_of_an_engine_in_the_process(running: Running, undisturbed: list[Fields]) -> None:
    assert converse(running.socket_url, TALK) == undisturbed


def test_killed_actors_lose_nothing(running: Running, actors: Actors, undisturbed: list[Fields]) -> None:
    done = threading.Event()

    def kill() -> int:
        kills = 0
        while not done.is_set() and kills < 3:
            os.kill(pids(actors)[kills % 2], signal.SIGKILL)
            kills += 1
        return kills

    def talk(number: int) -> list[list[Fields]]:
        told = []
        while len(told) < 2 or not killed.done():
            told.append(converse(running.socket_url, TALK))
        return told

    with ThreadPoolExecutor(TOGETHER + 1) as pool:
        killed = pool.submit(kill)
        try:
            told = [one for many in pool.map(talk, range(TOGETHER)) for one in many]
        finally:
            done.set()
        assert killed.result() == 3
    assert all(one == undisturbed for one in told)


def test_a_server_without_actors_is_not_ready_and_waits(
    running: Running, actors: Actors, undisturbed: list[Fields]
) -> None:
    for pid in pids(actors):
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: readiness(running) == (503, "waiting for a worker\n"))
    assert converse(running.socket_url, TALK) == undisturbed
    assert readiness(running) == (200, "ready\n")


def test_a_killed_gateway_loses_nothing(
    address: str, actors: Actors, tmp_path: Path, undisturbed: list[Fields]
) -> None:
    with RedisServer(tmp_path) as store:
        gateways = [Gateway(store.url, address) for _ in range(2)]
        try:
            clients = [Client(gateways[0].url()) for _ in range(TOGETHER)]
            cut = 16_000 * 3
            for client in clients:
                client.answer("session.update", pace="replay")
                client.send_audio(TALK[:cut])
            for client in clients:
                while len(client.events) < 1:
                    client.receive()
            gateways[0].process.kill()
            told = []
            for client in clients:
                with pytest.raises(ConnectionClosed):
                    while True:
                        client.receive()
                client.close()
                with Client(gateways[1].url()) as other:
                    resumed = other.resume(client.created["resume_token"], len(client.events))
                    assert resumed["type"] == "session.resumed", resumed
                    other.send_audio(TALK[int(str(resumed["audio_ms"])) * 16 :])
                    other.send("session.close")
                    assert other.code() == 1000
                    told.append(client.events + other.events)
            assert all(one == undisturbed for one in told)
        finally:
            for gateway in gateways:
                gateway.process.kill()
                gateway.process.wait()


class Gateway:
    """A server process on a free port."""

    def __init__(self, store: str, address: str) -> None:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        command = [sys.executable, str(ROOT / "tests" / "fake_server.py"), str(self._port), store, address]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def url(self) -> str:
        """Wait until it is ready; return its WebSocket's URL."""

        def ready() -> bool:
            try:
                return (
                    urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5).status == 200
                )
            except OSError:
                return False

        assert eventually(ready)
        return f"ws://127.0.0.1:{self._port}/v1/session"


def test_work_of_which_actors_die_fails_alone(actors: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "MAX_TRIES", 2)
    samples = tone(0.5, 200)
    deadly = np.concatenate([[np.float32(DEADLY)], samples]).astype(np.float32)
    monkeypatch.setattr("fake_ray.DEADLY", float(np.float32(DEADLY)))
    (failed,) = actors.run("hash", [work(deadly)])
    (fine,) = actors.run("hash", [work(samples)])
    assert isinstance(failed, Failure) and "got none of 2" in failed.message
    assert isinstance(fine, Analysis)


def work(samples: np.ndarray) -> AnalyzeSegment:
    segment = SpeechSegment(0, 0, len(samples), samples, 0, len(samples))
    return AnalyzeSegment(0, segment, transcribe=True, embed_speaker=True)


def test_a_checkpoint_gives_what_it_gives_in_this_process(address: str) -> None:
    load = partial(load_checkpoint, "si-lstm")
    engine = load()["model"]
    actors = Actors(replace(PLAN, load=load, settings="checkpoint", count=1, cpus=0.0))
    try:
        actors.wait()
        remote, state = RemoteEngine(engine, "model", actors), None
        for number, text in enumerate(["hello you", "oh no", "why me"]):
            voice = np.linspace(-number, 2, engine.classifier.acoustic_spec.dim, dtype=np.float32)
            asked = ClassifyTurn(number, Turn(number, number % 2, text), Features(voice), (), state)
            (here,), (there,) = engine.classify([asked]), remote.classify([asked])
            assert isinstance(here, Classification) and isinstance(there, Classification)
            assert there.emotion == here.emotion
            codec = engine.classifier
            assert codec.state_to_bytes(there.state) == codec.state_to_bytes(here.state)
            state = there.state
    finally:
        actors.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"identify": identify_elsewhere},
            "expected workers of stream-erc 0.1.0, hash, got stream-erc 9.9.9",
        ),
        ({"load": load_nothing}, "expected workers that load their engine, got FileNotFoundError"),
    ],
    ids=["another version", "no model"],
)
def test_actors_that_do_not_fit_are_refused(address: str, change: dict, words: str) -> None:
    actors = Actors(replace(PLAN, count=1, settings=words, cpus=0.0, **change))
    try:
        with pytest.raises(ConfigError, match=words):
            actors.wait()
    finally:
        actors.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", "expected a Ray cluster, got .*refused"),
        ("http://127.0.0.1:9", "expected HOST:PORT, auto or local, got"),
        ("nowhere", "expected HOST:PORT, auto or local, got 'nowhere'"),
    ],
)
def test_an_address_without_ray_is_refused_at_once(
    address: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=words):
        connect(address)
    assert time.monotonic() - began < 10


def test_a_token_is_asked_for(address: str, tmp_path: Path) -> None:
    given = {
        "right": {"RAY_AUTH_TOKEN": "0123456789abcdef"},
        "wrong": {"RAY_AUTH_TOKEN": "fedcba9876543210"},
        "none": {},
        "not asked": {"RAY_AUTH_MODE": "disabled"},
    }
    plain = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", CONNECT, address],
            env=plain | {"HOME": str(tmp_path)} | variables,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, variables in given.items()
    }
    told = {name: process.communicate(timeout=120)[1].strip() for name, process in processes.items()}
    assert processes["right"].returncode == 0, told["right"]
    for name, got in (("wrong", "another one"), ("none", "none"), ("not asked", "RAY_AUTH_MODE=disabled")):
        words = told[name].splitlines()[-1]
        assert "expected the cluster's token in RAY_AUTH_TOKEN" in words and words.endswith(f", got {got}")
