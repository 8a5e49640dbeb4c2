"""A real redis-server for tests."""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from stream_erc.exceptions import StoreError
from stream_erc.server.stores.opening import open_store


class RedisServer:
    """A redis-server on a socket in `folder`; without persistence, unless it is started with such options.

    Attributes:
        url: names it as a store.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        pytest.importorskip("redis")
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
        self.url, self._folder, self._options = f"unix://{folder}/redis.sock", folder, options
        self.start(*options)

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        arguments = ["--port", "0", "--unixsocket", str(self._folder / "redis.sock"), "--save", "", *options]
        self._process = subprocess.Popen(
            ["redis-server", *arguments, "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                open_store(self.url).close()
                return
            except StoreError:
                time.sleep(0.05)
        raise AssertionError("redis-server did not start within 10 s")

    def stop(self) -> None:
        """Kill it, as a crash would."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kill it and start it again with the same options."""
        self.stop()
        self.start(*self._options)

    def hang(self) -> None:
        """Let it accept connections and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End `hang`."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
