"""The window's own server: begun beside it, ended with it."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
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
"""How long the server may take to end after the window."""


def host(config: Config, window: "subprocess.Popen[bytes]", load: Load) -> int:
    """Serve a window until it ends, in a thread: nothing here keeps a signal, or its end, waiting.

    Args:
        config: of the sessions.
        window: the client, with pipes to and from it; it is open while the models are loaded.
        load: loads the engines.

    Returns:
        The window's exit code, negative where a signal ended it.
    """
    servers: list[Server] = []
    config = replace(config, server=replace(config.server, port=0))
    thread = threading.Thread(target=_serve, args=(config, window, load, servers), daemon=True)
    thread.start()
    code = window.wait()
    for server in servers:
        server.stop()
    thread.join(END_S if servers else 0)
    if thread.is_alive():  # models are being loaded, which nothing else can end, and nothing else is begun
        os._exit(code if code >= 0 else INTERRUPTED)
    return code


def _serve(config: Config, window: "subprocess.Popen[bytes]", load: Load, servers: "list[Server]") -> None:
    """Tell the window ``ready URL`` or ``failed REASON``, a line each; it asks to try again by a line."""
    assert window.stdin is not None and window.stdout is not None
    to_window, from_window = window.stdin, window.stdout

    def say(line: str) -> None:
        with suppress(OSError):  # it is closed
            to_window.write(f"{' '.join(line.split())}\n".encode())
            to_window.flush()

    try:
        from stream_erc.server.server import Server, web_folder  # slow: here, where it can be ended

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
            to_window.close()  # by which it knows that nothing more comes
