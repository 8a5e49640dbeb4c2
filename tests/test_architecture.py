"""The import walls: imports go one way, and only shells touch clock, socket, thread and sound card."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

# --- the walls ----------------------------------------------------------------------------------

SHELLS = {
    "__main__", "address", "admission", "claim", "connection", "ending", "line", "microphone", "outbox",
    "replay", "report", "server", "service", "sockets", "sources", "store", "store_redis", "store_sqlite",
    "terminal", "window", "workers",
}  # fmt: skip
"""The modules of stream_erc that may touch the outside; every other one is core."""

CLOCK_AND_THREADS = {"time", "sched", "signal", "threading", "_thread", "concurrent", "multiprocessing"}
THE_REST_OUTSIDE = {"asyncio", "ray", "select", "selectors", "socket", "ssl", "websockets", "sounddevice"}
OUTSIDE = CLOCK_AND_THREADS | THE_REST_OUTSIDE
"""What the core never imports, submodules included."""

ONLY_IN = {"sounddevice": {"microphone"}, "erc_models": {"emotion"}, "websockets": {"server", "sockets"}}
"""Package -> the modules of stream_erc that alone may import it."""

ABOVE = {"clients", "scripts", "stream_erc_client", "tests"}
"""What imports stream_erc and is never imported by it."""

LOADS_TORCH = {
    "admission", "agreement", "claim", "connection", "emotion", "engine", "features", "live", "replay",
    "server", "service", "speaker_encoder", "voice_states", "workers",
}  # fmt: skip
"""The modules with networks in them: importing any other one loads none of these packages."""

NETWORKS = {"torch", "transformers", "onnxruntime", "ctranslate2", "faster_whisper", "erc_models"}
OPTIONAL = {"librosa", "numba", "opensmile", "pocketsphinx", "resemblyzer", "sklearn", "sounddevice"}
"""Slow to import, or absent from a machine: imported where they are used, by no module at its top."""


def imports(source: str, package: str = "") -> Iterator[str]:
    """The full names that a module imports, at the top or in a function; `package` resolves relative ones.

    `from a import b` gives `a` and `a.b`, since b may be a module. The names given to `import_module` and
    `__import__` count too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = node.args[0]
            if called in {"import_module", "__import__"} and isinstance(name, ast.Constant):
                yield str(name.value)


def top(name: str) -> str:
    return name.partition(".")[0]


def breaches(module: str, source: str) -> list[str]:
    """What the module `module` of stream_erc imports against the walls."""
    found = []
    for name in dict.fromkeys(imports(source, "stream_erc")):
        package = top(name)
        if module not in SHELLS and package in OUTSIDE:
            found.append(f"{module} is core and imports {name}")
        if package in ONLY_IN and module not in ONLY_IN[package]:
            found.append(f"{module} imports {name}, which only {', '.join(ONLY_IN[package])} may")
        if module not in SHELLS and package == "stream_erc" and name.partition(".")[2] in SHELLS:
            found.append(f"{module} is core and imports the shell {name}")
        if package in ABOVE:
            found.append(f"{module} imports {name}, which stands above it")
    return found


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "node_modules" not in path.parts)


MODULES = sources(ROOT / "stream_erc")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_of_stream_erc_keeps_the_walls(path: Path) -> None:
    assert breaches(path.stem, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sources(ROOT / "models"), ids=lambda path: path.stem)
def test_the_networks_know_nothing_of_the_runtime(path: Path) -> None:
    names = imports(path.read_text(encoding="utf-8"), "erc_models")
    assert [name for name in names if top(name) == "stream_erc"] == []


def test_clients_speak_only_the_protocol() -> None:
    for path in sources(ROOT / "clients"):
        names = {top(name) for name in imports(path.read_text(encoding="utf-8"))}
        assert not names & {"stream_erc", "erc_models"}, path


def test_the_runtime_is_one_flat_package() -> None:
    assert {path.parent for path in MODULES} == {ROOT / "stream_erc"}
    assert {"session", "engine", "emotion", "events", "replay"} <= {path.stem for path in MODULES}


@pytest.mark.parametrize(
    ("module", "source", "told"),
    [
        ("session", "import time", "session is core and imports time"),
        ("session", "def f():\n    from threading import Lock", "imports threading"),
        ("session", "import concurrent.futures as futures", "imports concurrent.futures"),
        ("session", "if True:\n    import asyncio.events", "imports asyncio.events"),
        ("session", "from stream_erc import workers", "imports the shell stream_erc.inference.workers"),
        ("session", "from .workers import InlineWorker", "imports the shell stream_erc.inference.workers"),
        ("session", "from . import workers", "imports the shell stream_erc.inference.workers"),
        ("session", "import importlib\nimportlib.import_module('socket')", "imports socket"),
        ("engine", "from erc_models.networks.streaming import State", "only emotion may"),
        ("workers", "def f():\n    import sounddevice", "only microphone may"),
        ("events", "import stream_erc_client", "stands above it"),
    ],
)
def test_a_breach_is_found(module: str, source: str, told: str) -> None:
    assert any(told in found for found in breaches(module, source)), breaches(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("session", "from datetime import timedelta\nfrom stream_erc.timeline import time"),
        ("workers", "import threading"),
        ("emotion", "from erc_models.networks.streaming import State"),
        ("microphone", "import sounddevice"),
    ],
)
def test_what_is_allowed_is_no_breach(module: str, source: str) -> None:
    assert breaches(module, source) == []


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ([path.stem for path in MODULES if path.stem not in LOADS_TORCH], NETWORKS | OPTIONAL),
        ([path.stem for path in MODULES], OPTIONAL),
    ],
    ids=["without networks", "all"],
)
def test_importing_runs_nothing_and_loads_no_more_than_needed(modules: list[str], unwanted: set[str]) -> None:
    code = (
        "import importlib, sys, threading\n"
        f"for name in {modules}: importlib.import_module(f'stream_erc.{{name}}')\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        f"print(*sorted({unwanted} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
