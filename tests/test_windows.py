"""Nothing in the packages keeps them from Windows: no module, function or signal that only POSIX has.

They are not run on Windows here. The tests hide from our own modules what Windows does not have, and read the
code for the rest; what a system's own branch needs is named below.
"""

import ast
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

from stream_erc.server.machine import allow_open_files
from stream_erc.server.signals import handle_signals, restore_signals

PACKAGES = {
    "stream_erc": ROOT,
    "erc_models": ROOT / "models",
    "stream_erc_client": ROOT / "clients" / "python",
    "stream_erc_desktop": ROOT / "clients" / "desktop",
    "stream_erc_agents": ROOT / "clients" / "agents",
}

ABSENT_MODULES = frozenset("fcntl grp posix pty pwd readline resource syslog termios tty".split())

ABSENT_FUNCTIONS = frozenset(
    """
    add_reader add_signal_handler chown create_unix_server fchmod fork forkpty geteuid getgid getpgid
    getrusage getuid initgroups killpg lchown mkfifo mknod nice open_unix_connection pthread_sigmask
    remove_signal_handler setgid setitimer setpriority setsid setuid sigwait start_unix_server statvfs waitpid
    """.split()
)

ABSENT_NAMES = frozenset(
    """
    AF_UNIX PRIO_PROCESS SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2
    """.split()
)

GUARDED = {
    "stream_erc/inference/workers.py": {"setpriority", "PRIO_PROCESS"},  # on Linux alone
    "stream_erc/server/stores/clock.py": {"/proc/sys/kernel/random/boot_id"},  # if it is there
    "stream_erc/server/signals.py": {"add_signal_handler", "remove_signal_handler"},  # else by signal.signal
}
"""File -> what it uses with a branch for systems that do not have it."""

TEXT = ("read_text", "write_text")

HIDE = """
import builtins, importlib, sys
OURS, ABSENT = set(sys.argv[1].split(",")), set(sys.argv[2].split(","))
real = builtins.__import__
def hiding(name, globals=None, locals=None, fromlist=(), level=0):
    importer = ((globals or {}).get("__name__") or "").split(".")[0]
    if importer in OURS and level == 0 and name.split(".")[0] in ABSENT:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = hiding
for module in sys.stdin.read().split():
    try:
        importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").split(".")[0] in OURS | ABSENT:
            sys.exit(f"{module}: {error}")
        print("left out", module, error.name)
    else:
        print("imported", module)
"""


def files() -> Iterator[tuple[str, Path]]:
    """The modules of the packages, by name."""
    for package, folder in PACKAGES.items():
        for path in sorted((folder / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[-1] != "__main__":
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def run(modules: list[str], ours: str) -> subprocess.CompletedProcess[str]:
    """Import modules in another process, with what only POSIX has hidden from the packages `ours`."""
    return subprocess.run(
        [sys.executable, "-c", HIDE, ours, ",".join(ABSENT_MODULES)],
        input="\n".join(modules), capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, PACKAGES.values()), *sys.path[:1]])},
    )  # fmt: skip


def test_every_module_is_imported_without_what_only_posix_has() -> None:
    modules = [module for module, _ in files()]
    done = run(modules, ",".join(PACKAGES))
    assert (done.returncode, done.stderr.strip().splitlines()[-1:]) == (0, [])
    lines = done.stdout.split("\n")
    assert sum(line.startswith("imported") for line in lines) > 0.8 * len(modules)
    assert all(f"imported {name}" in lines for name in ("stream_erc.server.server", "stream_erc.cli.main"))


def test_a_module_that_only_posix_has_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("import fcntl\n", encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + HIDE
    done = subprocess.run(
        [sys.executable, "-c", code, "planted", "fcntl"], input="planted", capture_output=True, text=True
    )
    assert done.returncode == 1 and "planted: No module named 'fcntl'" in done.stderr


def faults(source: str) -> list[str]:
    """What in a module's source Windows does not have, or reads differently."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ABSENT_FUNCTIONS | ABSENT_NAMES:
            found.append(node.attr)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.startswith(("/tmp", "/dev/", "/proc/")):
                found.append(node.value)
        if isinstance(node, ast.Call) and _is_text(node):
            found.append(f"line {node.lineno}: text without encoding")
    return found


def _is_text(call: ast.Call) -> bool:
    """Return whether a call opens a file as text and leaves its encoding to the system."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if owner == "av" or any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if name in TEXT:
        return len(call.args) < (1 if name == "read_text" else 2)
    modes = [str(argument.value) for argument in call.args if isinstance(argument, ast.Constant)]
    if name != "open" or any("b" in mode for mode in modes):
        return False
    return isinstance(call.func, ast.Name) or any(set(mode) <= set("rwxat+") for mode in modes)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("os.fork()", ["fork"]),
        ("signal.SIGKILL", ["SIGKILL"]),
        ("open('/dev/stdin', 'rb')", ["/dev/stdin"]),
        ("path.read_text()", ["line 1: text without encoding"]),
        ("path.open('w')", ["line 1: text without encoding"]),
        ("open(path)", ["line 1: text without encoding"]),
        ("open(path, 'rb'); path.open('wb'); path.read_text(encoding='utf-8'); source.open(options)", []),
    ],
)
def test_a_planted_fault_is_found(source: str, found: list[str]) -> None:
    assert faults(source) == found


@pytest.mark.parametrize("path", [path for _, path in files()], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_uses_what_windows_does_not_have(path: Path) -> None:
    guarded = GUARDED.get(path.relative_to(ROOT).as_posix(), set())
    assert [fault for fault in faults(path.read_text(encoding="utf-8")) if fault not in guarded] == []


class WithoutSignals(asyncio.SelectorEventLoop):
    """An event loop like that of Windows, which handles no signals."""

    def add_signal_handler(self, *_: object) -> None:
        raise NotImplementedError

    def remove_signal_handler(self, *_: object) -> bool:
        raise NotImplementedError


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, WithoutSignals])
def test_a_signal_is_handled_with_and_without_the_loop_s_help(new_loop: type, signum: int) -> None:
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]

    async def wait() -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        handle_signals(loop, came.set, came.set)
        loop.call_later(0.05, os.kill, os.getpid(), signum)
        await asyncio.wait_for(came.wait(), 30)
        restore_signals(loop)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(wait())
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def test_as_many_files_as_wanted_may_be_open_where_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_erc.server.machine.resource", None)
    assert allow_open_files(10**9) == 10**9
