"""The walls of the house: what each folder may import, and what it may touch outside.

`ROOMS` is the only list. A folder of Python files that stands in no row fails, so a new one brings its row.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from paths import ROOT

# --- what can be touched --------------------------------------------------------------------------

CLOCK = frozenset({"time", "sched"})
THREADS = frozenset({"threading", "_thread", "concurrent", "multiprocessing", "queue"})
LOOP = frozenset({"asyncio", "select", "selectors"})
NETWORK = frozenset({"socket", "ssl", "http", "urllib", "socketserver"})
DISK = frozenset({"pathlib", "os", "io", "tempfile", "shutil", "stat", "mimetypes", "tomllib"})
SQL = frozenset({"sqlite3"})
PROCESSES = frozenset({"subprocess", "signal", "resource", "fcntl"})
TERMINAL = frozenset({"argparse", "rich"})
NUMBERS = frozenset({"torch", "safetensors"})
WHISPER = frozenset({"ctranslate2", "faster_whisper", "huggingface_hub"})
ENGINES = WHISPER | {"kaldi_native_fbank", "onnxruntime", "opensmile", "pocketsphinx", "transformers"}
TEXTS = frozenset({"ftfy", "pysubs2"})
OTHERS = frozenset(
    {
        "aiohttp",
        "av",
        "cryptography",
        "erc_models",
        "onnx",
        "prometheus_client",
        "pyarrow",
        "ray",
        "redis",
        "sounddevice",
        "websockets",
    }
)
GROUPS = (CLOCK, THREADS, LOOP, NETWORK, DISK, SQL, PROCESSES, TERMINAL, NUMBERS, ENGINES, TEXTS)
OUTSIDE = OTHERS.union(*GROUPS)
"""Packages that reach outside, or are slow to import: a file imports one only where its row says so."""

ABOVE = frozenset(
    {"clients", "scripts", "stream_erc_client", "stream_erc_desktop", "stream_erc_agents", "tests"}
)
"""What imports `stream_erc` and `erc_models`, and is imported by them only where a row says so."""


@dataclass(frozen=True)
class Room:
    """A row of the table.

    Attributes:
        imports: the other rooms of its package that its files may import.
        touches: the packages of `OUTSIDE` that any of its files may import.
        alone: file -> packages that only this file of the room may import, besides those.
        reaches: file -> rooms that only this file of the room may import, besides those.
    """

    imports: frozenset[str] = frozenset()
    touches: frozenset[str] = frozenset()
    alone: Mapping[str, frozenset[str]] = field(default_factory=dict)
    reaches: Mapping[str, frozenset[str]] = field(default_factory=dict)


def rooms(*names: str) -> frozenset[str]:
    return frozenset(names)


ROOMS: Mapping[str, Room] = {
    "stream_erc": Room(
        alone={"config": DISK, "__init__": rooms("os")},
        reaches={"__main__": rooms("stream_erc.cli"), "__init__": rooms("stream_erc.api")},
    ),
    "stream_erc.sources": Room(
        imports=rooms("stream_erc", "stream_erc.sources.turns"),
        touches=DISK | rooms("av"),
        alone={"microphone": rooms("sounddevice") | THREADS, "pacing": CLOCK},
    ),
    "stream_erc.sources.turns": Room(
        imports=rooms("stream_erc", "stream_erc.sources"),
        alone={
            "opening": rooms("pathlib"),
            "parquet_files": rooms("pathlib", "pyarrow"),
            "subtitles": rooms("pysubs2"),
            "entries": rooms("ftfy"),
        },
    ),
    "stream_erc.core": Room(imports=rooms("stream_erc")),
    "stream_erc.exports": Room(
        imports=rooms("stream_erc"), alone={"files": DISK, "tables": rooms("io", "pyarrow")}
    ),
    "stream_erc.inference": Room(
        imports=rooms("stream_erc", "stream_erc.core", "stream_erc.inference.emotion"),
        touches=DISK | NUMBERS | ENGINES,
        alone={
            "workers": THREADS | CLOCK,
            "work_queues": THREADS | CLOCK,
            "asr_sphinx": rooms("queue"),
            "asr_whisper": NETWORK,
        },
        reaches={"label_examples": rooms("stream_erc.sources")},
    ),
    "stream_erc.inference.remote": Room(
        imports=rooms("stream_erc", "stream_erc.core", "stream_erc.inference"),
        alone={
            "ray_cluster": rooms("ray", "os", "socket"),
            "ray_actor": rooms("ray") | THREADS | CLOCK | LOOP,
            "ray_worker": rooms("ray") | THREADS | CLOCK,
        },
    ),
    "stream_erc.inference.emotion": Room(
        imports=rooms("stream_erc", "stream_erc.core", "stream_erc.inference"),
        touches=rooms("erc_models", "pathlib"),
        alone={
            "torch_classifier": rooms("torch"),
            "slot_classifier": rooms("torch", "threading"),
            "slots": rooms("torch"),
            "state_rows": rooms("torch"),
            "buckets": rooms("torch"),
            "text_reader": rooms("torch"),
            "graph_classifier": rooms("safetensors"),
        },
    ),
    "stream_erc.protocol": Room(
        imports=rooms("stream_erc", "stream_erc.core", "stream_erc.inference"),
        alone={"wire_audio": rooms("av")},
    ),
    "stream_erc.server": Room(
        imports=rooms(
            "stream_erc", "stream_erc.inference", "stream_erc.protocol", "stream_erc.server.stores"
        ),
        touches=LOOP | CLOCK | NETWORK,
        alone={
            "server": rooms("websockets") | DISK | THREADS,
            "machine": PROCESSES | DISK,
            "signals": PROCESSES,
            "websocket": rooms("websockets"),
            "sealing": rooms("cryptography", "os"),
            "shared": THREADS,
            "metrics": rooms("prometheus_client"),
            "known_voices": rooms("pathlib"),
            "exporting": rooms("pathlib", "tempfile"),
        },
        reaches={
            "exporting": rooms("stream_erc.exports"),
            "known_voices": rooms("stream_erc.sources"),
            "server": rooms("stream_erc.server.http"),
        },
    ),
    "stream_erc.server.http": Room(
        imports=rooms("stream_erc", "stream_erc.inference", "stream_erc.protocol", "stream_erc.server"),
        touches=LOOP | NETWORK | DISK,
        alone={
            "app": rooms("aiohttp") | CLOCK,
            "uploads": rooms("aiohttp"),
            "transcriptions": rooms("aiohttp") | THREADS,
            "recordings": THREADS,
        },
        reaches={
            "recordings": rooms("stream_erc.sources"),
            "transcriptions": rooms("stream_erc.exports"),
            "transcripts": rooms("stream_erc.exports"),
        },
    ),
    "stream_erc.server.stores": Room(
        imports=rooms("stream_erc", "stream_erc.protocol"),
        touches=DISK | CLOCK,
        alone={
            "sqlite": SQL | THREADS,
            "sqlite_file": SQL,
            "redis": rooms("redis"),
            "folder_lock": PROCESSES,
        },
    ),
    "stream_erc.api": Room(
        imports=rooms(
            "stream_erc",
            "stream_erc.exports",
            "stream_erc.inference",
            "stream_erc.protocol",
            "stream_erc.sources",
        ),
        touches=rooms("pathlib"),
        alone={"recognizer": CLOCK | {"stream_erc_client"}},
    ),
    "stream_erc.bulk": Room(
        imports=rooms(
            "stream_erc",
            "stream_erc.api",
            "stream_erc.exports",
            "stream_erc.inference",
            "stream_erc.protocol",
            "stream_erc.sources",
        ),
        touches=DISK,
        alone={"processes": THREADS | rooms("signal"), "ray_data": rooms("ray")},
        reaches={"ray_data": rooms("stream_erc.inference.remote")},
    ),
    "stream_erc.cli": Room(
        imports=rooms(
            "stream_erc",
            "stream_erc.api",
            "stream_erc.bulk",
            "stream_erc.sources",
            "stream_erc.core",
            "stream_erc.exports",
            "stream_erc.inference",
            "stream_erc.inference.emotion",
            "stream_erc.inference.remote",
            "stream_erc.protocol",
            "stream_erc.server",
            "stream_erc.server.stores",
        ),
        touches=TERMINAL | PROCESSES | DISK | CLOCK | THREADS | LOOP,
        alone={"report": rooms("av")},
    ),
    "erc_models": Room(),
    "erc_models.formats": Room(imports=rooms("erc_models"), touches=DISK),
    "erc_models.networks": Room(
        imports=rooms("erc_models", "erc_models.formats"),
        touches=NUMBERS | DISK,
        alone={"text_encoder": rooms("transformers")},
    ),
    "erc_models.data": Room(
        imports=rooms("erc_models", "erc_models.formats", "erc_models.networks"),
        touches=NUMBERS | DISK,
        alone={"overlap": TERMINAL},
    ),
    "erc_models.evaluation": Room(
        imports=rooms("erc_models", "erc_models.formats", "erc_models.networks", "erc_models.data"),
        touches=NUMBERS | DISK | TERMINAL,
        alone={"network_facts": CLOCK},
    ),
    "erc_models.training": Room(
        imports=rooms(
            "erc_models",
            "erc_models.formats",
            "erc_models.networks",
            "erc_models.data",
            "erc_models.evaluation",
        ),
        touches=NUMBERS | DISK | TERMINAL,
        alone={"trainer": CLOCK},
    ),
    "erc_models.export": Room(
        imports=rooms("erc_models", "erc_models.formats", "erc_models.networks"),
        touches=NUMBERS | DISK | rooms("onnx"),
    ),
}

MAX_FILES = 20
MAX_FILES_AT_THE_ROOT = 7

# --- reading imports ------------------------------------------------------------------------------

PLACES = {"stream_erc": ROOT / "stream_erc", "erc_models": ROOT / "models" / "erc_models"}


def folder_of(room: str) -> Path:
    package, *parts = room.split(".")
    return PLACES[package].joinpath(*parts)


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "node_modules" not in path.parts)


def name_of(path: Path) -> str:
    """The full name of a module of one of the two packages."""
    package, place = next((p, folder) for p, folder in PLACES.items() if path.is_relative_to(folder))
    parts = path.relative_to(place).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))


FILES = [path for folder in PLACES.values() for path in python_files(folder)]
MODULES = {name_of(path): path for path in FILES}


def room_of(name: str) -> str:
    """The room of a full name, which may be that of a module, of a room, or of something in a module."""
    while name not in ROOMS:
        name = name.rpartition(".")[0]
    return name


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
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from [base, *names] if base not in ROOMS else names
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = node.args[0]
            if called in {"import_module", "__import__"} and isinstance(name, ast.Constant):
                yield str(name.value)


def top(name: str) -> str:
    return name.partition(".")[0]


def breaches(room: str, file: str, source: str) -> list[str]:
    """What a file of a room imports against its row."""
    row, found = ROOMS[room], []
    allowed = row.touches | row.alone.get(file, frozenset())
    open_to = {room} | row.imports | row.reaches.get(file, frozenset())
    for name in dict.fromkeys(imports(source, room)):
        package = top(name)
        if package in ABOVE - allowed:
            found.append(f"{room}/{file} imports {name}, which stands above it")
        elif package == top(room):
            if room_of(name) not in open_to:
                found.append(f"{room}/{file} imports {name}, and may import {', '.join(sorted(open_to))}")
        elif package in OUTSIDE and package not in allowed:
            found.append(f"{room}/{file} touches {package}")
        elif package == "stream_erc":
            found.append(f"{room}/{file} imports {name}: the networks know nothing of the runtime")
    return found


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_keeps_its_walls(room: str) -> None:
    found = []
    for path in sorted(folder_of(room).glob("*.py")):
        found += breaches(room, path.stem, path.read_text(encoding="utf-8"))
    assert found == []


def test_every_folder_has_its_row() -> None:
    assert {path.parent for path in FILES} == {folder_of(room) for room in ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_row_allows_is_used(room: str) -> None:
    """A row that allows more than its room needs is a wall with a hole in it."""
    row, used, reached = ROOMS[room], set(), set()
    alone: dict[str, set[str]] = {}
    for path in folder_of(room).glob("*.py"):
        names = list(imports(path.read_text(encoding="utf-8"), room))
        packages = {top(name) for name in names}
        used |= packages
        alone[path.stem] = packages
        reached |= {room_of(name) for name in names if top(name) == top(room)}
    for group in GROUPS:
        assert not group <= row.touches or group & used, f"{room} may touch {sorted(group)} and does not"
    assert row.imports - {top(room)} <= reached, f"{room} may import what it does not"
    for file, packages in row.alone.items():
        assert packages & alone[file], f"{room}/{file} may touch {sorted(packages)} and does not"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_enough_to_be_seen_at_once(room: str) -> None:
    files = [path.name for path in folder_of(room).glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= (MAX_FILES_AT_THE_ROOT if room == "stream_erc" else MAX_FILES), files


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """The modules that import one another, directly or through others; functions' imports count."""
    reach = {name: set(next_to) for name, next_to in edges.items()}
    for through in edges:
        for name in edges:
            if through in reach[name]:
                reach[name] |= reach[through]
    found = {frozenset(b for b in reach[a] if a in reach[b]) for a in edges if a in reach[a]}
    return sorted(sorted(circle) for circle in found)


def test_no_modules_import_each_other() -> None:
    edges: dict[str, set[str]] = {name: set() for name in MODULES}
    for name, path in MODULES.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        names = imports(path.read_text(encoding="utf-8"), package)
        edges[name] = {other for other in names if other in MODULES}
    assert circles(edges) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_clients_speak_only_the_protocol() -> None:
    for path in python_files(ROOT / "clients"):
        names = {top(name) for name in imports(path.read_text(encoding="utf-8"))}
        assert not names & {"stream_erc", "erc_models"}, path


# --- a planted breach of each row -----------------------------------------------------------------

PLANTED = [
    ("stream_erc", "events", "from stream_erc.core import work"),
    ("stream_erc", "audio", "import pathlib"),
    ("stream_erc", "events", "import stream_erc_client"),
    ("stream_erc.sources", "turn_files", "from stream_erc.core.session import Session"),
    ("stream_erc.sources", "turn_files", "import sounddevice"),
    ("stream_erc.sources.turns", "tables", "import pathlib"),
    ("stream_erc.sources.turns", "json_files", "from stream_erc.core.session import Session"),
    ("stream_erc.core", "session", "import time"),
    ("stream_erc.core", "session", "def f():\n    from threading import Lock"),
    ("stream_erc.core", "session", "import concurrent.futures as futures"),
    ("stream_erc.core", "session", "if True:\n    import asyncio.events"),
    ("stream_erc.core", "session", "import importlib\nimportlib.import_module('socket')"),
    ("stream_erc.core", "session", "import torch"),
    ("stream_erc.core", "session", "from stream_erc.inference import workers"),
    ("stream_erc.core", "session", "from ..inference.workers import InlineWorker"),
    ("stream_erc.core", "session", "from .. import inference"),
    ("stream_erc.exports", "tables", "from stream_erc.protocol.encoding import Message"),
    ("stream_erc.exports", "subtitles", "import pysubs2"),
    ("stream_erc.inference", "engine", "from erc_models.networks.streaming import State"),
    ("stream_erc.inference", "engine", "import threading"),
    ("stream_erc.inference", "engine", "from stream_erc.sources.audio_files import AudioFile"),
    ("stream_erc.inference", "workers", "from stream_erc.protocol.messages import Ping"),
    ("stream_erc.inference.emotion", "graph_classifier", "import torch"),
    ("stream_erc.inference.remote", "ray_cluster", "import asyncio"),
    ("stream_erc.protocol", "encoding", "import asyncio"),
    ("stream_erc.protocol", "encoding", "from stream_erc.server.claim import Claim"),
    ("stream_erc.server", "connection", "import websockets"),
    ("stream_erc.server", "connection", "from stream_erc.core.session import Session"),
    ("stream_erc.server", "connection", "from stream_erc.cli import report"),
    ("stream_erc.server.http", "page", "import aiohttp"),
    ("stream_erc.server.http", "uploads", "from stream_erc.sources.audio_files import AudioFile"),
    ("stream_erc.server.http", "app", "from stream_erc.core.session import Session"),
    ("stream_erc.server.http", "front", "import websockets"),
    ("stream_erc.server.stores", "base", "import redis"),
    ("stream_erc.server.stores", "base", "from stream_erc.server.connection import Connection"),
    ("stream_erc.api", "results", "import stream_erc_client"),
    ("stream_erc.api", "replay", "from stream_erc.cli.main import main"),
    ("stream_erc.bulk", "reading", "import multiprocessing"),
    ("stream_erc.bulk", "results", "from stream_erc.core.session import Session"),
    ("stream_erc.cli", "main", "def f():\n    import sounddevice"),
    ("stream_erc.cli", "main", "import scripts.benchmark"),
    ("erc_models", "__init__", "import torch"),
    ("erc_models.formats", "checkpoint_files", "import torch"),
    ("erc_models.formats", "text_windows", "from erc_models.networks.text_encoder import TextEncoder"),
    ("erc_models.networks", "si_lstm", "from erc_models.data import batching"),
    ("erc_models.networks", "checkpoint", "import onnx"),
    ("erc_models.networks", "si_lstm", "from stream_erc.events import Turn"),
    ("erc_models.networks", "si_lstm", "import transformers"),
    ("erc_models.data", "batching", "from erc_models.evaluation import metrics"),
    ("erc_models.data", "batching", "import rich"),
    ("erc_models.evaluation", "metrics", "from erc_models.training.trainer import train"),
    ("erc_models.evaluation", "metrics", "import time"),
    ("erc_models.training", "learner", "import stream_erc.audio"),
    ("erc_models.training", "learner", "import asyncio"),
    ("erc_models.export", "graphs", "from erc_models.training.trainer import train"),
]


@pytest.mark.parametrize(("room", "file", "source"), PLANTED)
def test_a_breach_is_found(room: str, file: str, source: str) -> None:
    assert breaches(room, file, source), "the planted breach went through"


def test_every_row_has_a_planted_breach() -> None:
    assert {room for room, _, _ in PLANTED} == set(ROOMS)


@pytest.mark.parametrize(
    ("room", "file", "source"),
    [
        ("stream_erc.core", "session", "import datetime"),
        ("stream_erc.core", "session", "from . import work\nfrom ..events import Turn"),
        ("stream_erc.inference", "workers", "import threading"),
        (
            "stream_erc.inference.emotion",
            "torch_classifier",
            "from erc_models.networks.streaming import State",
        ),
        ("stream_erc.inference", "label_examples", "from stream_erc.sources.text_files import read_rows"),
        ("stream_erc.sources", "microphone", "import sounddevice"),
        ("stream_erc.server", "websocket", "from websockets.asyncio.server import serve"),
        ("stream_erc", "__main__", "from stream_erc.cli.main import main"),
    ],
)
def test_what_is_allowed_is_no_breach(room: str, file: str, source: str) -> None:
    assert breaches(room, file, source) == []


# --- importing ------------------------------------------------------------------------------------

NEVER_AT_THE_TOP = ENGINES - {"transformers"} | {"pyarrow", "ray", "sklearn", "sounddevice"}
"""Slow to import, or absent from a machine: imported where they are used, by no module at its top."""

BEFORE_THE_MODELS = ("stream_erc", "stream_erc.sources", "stream_erc.core", "stream_erc.cli")


@pytest.mark.parametrize(
    ("names", "unwanted"),
    [
        (
            [name for name in MODULES if room_of(name) in BEFORE_THE_MODELS],
            NUMBERS | ENGINES | {"erc_models", "websockets", "prometheus_client", "sqlite3"},
        ),
        ([name for name in MODULES if top(name) == "stream_erc"], NEVER_AT_THE_TOP),
    ],
    ids=["what a command needs before its models", "all"],
)
def test_importing_runs_nothing_and_loads_no_more_than_needed(names: list[str], unwanted: set[str]) -> None:
    code = (
        "import importlib, sys, threading\n"
        f"for name in {sorted(set(names) - {'stream_erc.__main__'})}: importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        f"print(*sorted({set(unwanted)} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
