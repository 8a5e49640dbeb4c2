"""Stores for scripts/kill_test that can be restarted and set back in time while servers use them."""

import contextlib
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

START_S = 30.0


class Store(Protocol):
    """A store that servers use by its `spec`, and what can happen to it."""

    spec: str

    def copy(self) -> None:
        """Keep a copy of what the store has now."""

    def restart(self) -> None:
        """Restart it: what it has stored is there again."""

    def go_back(self, *, down: bool) -> None:
        """Put the copy in its place; `down`: no server runs."""

    def stop(self) -> None:
        """Stop it."""


class SqliteFile:
    """A SQLite file. A restart is its deletion: the servers make it anew."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._copy = folder / "store", folder / "copy.db"
        self._path = self._folder / "sessions.db"
        self.spec = f"sqlite:{self._path}"

    def copy(self) -> None:
        """Keep a copy of what the store has now."""
        self._copy.unlink(missing_ok=True)
        if not self._path.exists():
            return
        with (
            contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=rw", START_S, uri=True)) as source,
            contextlib.closing(sqlite3.connect(self._copy)) as copy,
        ):
            source.backup(copy)

    def restart(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)

    def go_back(self, *, down: bool) -> None:
        """Put the copy in its place."""
        if not self._copy.exists():
            return
        if down:  # the log is that of the file before
            shutil.rmtree(self._folder)
            self._folder.mkdir()
        self._copy.rename(self._path)

    def stop(self) -> None:
        """Do nothing: there is no process."""


class RedisPair:
    """A Redis with its append-only file, and a replica that is cut off from it and promoted later.

    Servers find the one in charge through a link to its socket, as through an address that is moved.
    """

    def __init__(self, folder: Path) -> None:
        self._folders, self._link = [folder / "redis-0", folder / "redis-1"], folder / "redis.sock"
        self._ports = [_free_port(), _free_port()]
        self._processes: list[subprocess.Popen[bytes] | None] = [None, None]
        self._first = 0  # which one is in charge
        self.spec = f"unix://{self._link}"
        self._start(0)
        self._take_charge(0)

    def copy(self) -> None:
        """Have the replica take all over, and cut it off."""
        replica = 1 - self._first
        if self._processes[replica] is None:
            self._start(replica)
        self._ask(replica, "REPLICAOF", "127.0.0.1", str(self._ports[self._first]))
        _wait(lambda: "master_link_status:up" in self._ask(replica, "INFO", "replication"))
        self._ask(self._first, "WAIT", "1", "5000")
        self._ask(replica, "REPLICAOF", "NO", "ONE")

    def restart(self) -> None:
        """Kill the Redis in charge and start it again."""
        self._kill(self._first)
        self._start(self._first)

    def go_back(self, *, down: bool) -> None:
        """Kill the Redis in charge, and promote the replica that lags."""
        old, new = self._first, 1 - self._first
        if self._processes[new] is None:
            return
        self._kill(old)
        shutil.rmtree(self._folders[old])
        self._take_charge(new)

    def stop(self) -> None:
        """Kill both."""
        for number in range(2):
            self._kill(number)

    def _take_charge(self, number: int) -> None:
        self._first = number
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self._folders[number] / "redis.sock")

    def _start(self, number: int) -> None:
        folder = self._folders[number]
        folder.mkdir(exist_ok=True)
        options = {"port": self._ports[number], "unixsocket": folder / "redis.sock", "dir": folder}
        options |= {"appendonly": "yes", "appendfsync": "always", "save": "", "repl-diskless-sync-delay": 0}
        command = ["redis-server", *(str(word) for name, at in options.items() for word in (f"--{name}", at))]
        self._processes[number] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _wait(lambda: self._ask(number, "PING") == "PONG")

    def _kill(self, number: int) -> None:
        process, self._processes[number] = self._processes[number], None
        if process is not None:
            process.kill()
            process.wait()

    def _ask(self, number: int, *words: str) -> str:
        command = ["redis-cli", "-s", str(self._folders[number] / "redis.sock"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)
        return done.stdout.strip()


STORES: dict[str, Callable[[Path], Store]] = {"sqlite": SqliteFile, "redis": RedisPair}


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"expected Redis to be ready within {START_S:g} s")
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
