#!/bin/sh
# Guess: ws:// is to http:// as wss:// is to https://, so a ws:// address goes through HTTP_PROXY, and one of this
#   machine through none.
# Truth: where both are set, websockets takes HTTPS_PROXY for ws://, too, and does so with HTTPS_PROXY alone.
#   Addresses of this machine, 127.0.0.1 and localhost, go to the proxy unless NO_PROXY names them, and
#   NO_PROXY=127.0.0.0/8 does not.
# Hurts: local servers and tests on machines with a proxy: the client does not reach the server beside it.
# Seen: websockets 17.4, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q websockets==17.4
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import os
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidHandshake


async def main():
    asked = []

    async def proxy(name):
        """The address of a proxy that notes who asks and lets nobody through."""

        async def refuse(reader, writer):
            await reader.readline()
            asked.append(name)
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def answer(socket):
        await socket.send("here")

    http, https = await proxy("HTTP_PROXY"), await proxy("HTTPS_PROXY")
    seen = []
    async with serve(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for setting in (
            {"HTTP_PROXY": http, "HTTPS_PROXY": https},
            {"HTTPS_PROXY": https},
            {"HTTP_PROXY": http, "NO_PROXY": "127.0.0.0/8"},
            {"HTTP_PROXY": http, "NO_PROXY": "127.0.0.1"},
        ):
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
                os.environ.pop(name, None)
                os.environ.pop(name.lower(), None)
            os.environ.update(setting)
            asked.clear()
            try:
                async with connect(f"ws://127.0.0.1:{port}") as socket:
                    await socket.recv()
            except InvalidHandshake:
                pass
            seen.append(asked[0] if asked else "no proxy")
            told = ", ".join(f"NO_PROXY={value}" if name == "NO_PROXY" else name for name, value in setting.items())
            print(f"{told}: ws://127.0.0.1 goes to {seen[-1]}")
    return seen == ["HTTPS_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "no proxy"]


sys.exit(not asyncio.run(main()))
PYTHON
