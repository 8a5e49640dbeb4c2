"""The desktop window's own server, which starts and ends with the window."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from stream_erc.config import Config
from stream_erc.exceptions import StreamErcError
from stream_erc.server.stores.opening import open_store

if TYPE_CHECKING:
    from stream_erc.inference.engine import Engine
    from stream_erc.server.server import Server

Load: TypeAlias = "Callable[[Config], Mapping[str, Engine]]"

INTERRUPTED = 130
END_S = 10.0
"""Time limit for the server to end after the window."""


def start_window(program: Sequence[str], *, piped: bool) -> "subprocess.Popen[bytes]":
    """Start a window, which SIGTERM and SIGINT to this process end from now on.

    Args:
        program: the client's command line.
        piped: whether to open pipes to and from it.
    """
    windows: list[subprocess.Popen[bytes]] = []
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True
        for window in windows:
            window.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):  # before there is a window that a signal could orphan
        signal.signal(number, end)
    pipe = subprocess.PIPE if piped else None
    windows.append(subprocess.Popen(program, stdin=pipe, stdout=pipe))
    if ending:  # the signal came while it was being started
        end()
    return windows[0]


def serve_window(config: Config, window: "subprocess.Popen[bytes]", load: Load) -> int:
    """Serve a window until it ends. The server runs in a thread, so nothing delays signals or the exit.

    Args:
        config: the configuration.
        window: the client, with pipes to and from it; it is open while the models are loaded.
        load: loads the engines.

    Returns:
        The window's exit code, negative if a signal ended it.
    """
    servers: list[Server] = []
    config = replace(config, server=replace(config.server, port=0))
    thread = threading.Thread(target=_serve, args=(config, window, load, servers), daemon=True)
    thread.start()
    code = window.wait()
    for server in servers:
        server.stop()
    thread.join(END_S if servers else 0)
    if thread.is_alive():  # models are still being loaded, which cannot be interrupted otherwise
        os._exit(code if code >= 0 else INTERRUPTED)
    return code


def _serve(config: Config, window: "subprocess.Popen[bytes]", load: Load, servers: "list[Server]") -> None:
    """Start a server and tell the window ``ready URL`` or ``failed REASON``; retry when it writes a line."""
    assert window.stdin is not None and window.stdout is not None
    to_window, from_window = window.stdin, window.stdout

    def say(line: str) -> None:
        with suppress(OSError):  # the window is closed
            to_window.write(f"{' '.join(line.split())}\n".encode())
            to_window.flush()

    try:
        from stream_erc.server.server import Server, web_folder  # slow, so in this thread

        while True:
            try:
                servers[:] = [Server(config, load(config), open_store("memory"), web_folder())]
                asyncio.run(servers[0].run(lambda url: say(f"ready {url}")))
                return
            except StreamErcError as error:
                say(f"failed {error}")
                if not from_window.readline():
                    return
    finally:
        with suppress(OSError):
            to_window.close()  # the window reads the end of the pipe
