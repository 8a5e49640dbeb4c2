#!/bin/sh
# Guess: `blpop(key, timeout=10)` waits ten seconds for an entry of a list and then returns None.
# Truth: connections of redis-py 8 have a read timeout of 5 seconds of their own, also for commands that wait. After 5
#   seconds it drops the connection, connects again and asks again, eleven times in all, and after about a minute
#   raises TimeoutError. So no wait longer than 5 seconds ever comes to its end, and an idle queue looks like a
#   failure. `socket_timeout=None` gives the old behaviour.
# Hurts: workers that wait for jobs (BLPOP, BRPOP, XREAD with BLOCK) and were written for earlier versions.
# Seen: redis 8.1.0 (redis-py), on 2026-11-28. Takes a minute. The server is a few lines that answer as Redis does
#   where nothing is in the list.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q redis==8.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import socketserver
import sys
import threading
import time

import redis

asked = []


class EmptyRedis(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2])
            answer = b"+OK\r\n"
            if words[0] == b"HELLO":
                answer = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"
            elif words[:2] == [b"CLIENT", b"MAINT_NOTIFICATIONS"]:
                answer = b"-ERR unknown subcommand\r\n"
            elif words[0] == b"BLPOP":
                asked.append(time.monotonic())
                time.sleep(float(words[-1]))
                answer = b"_\r\n"  # nothing came
            try:
                self.wfile.write(answer)
            except OSError:
                return  # the client has gone


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def wait(**options):
    """What a wait of ten seconds gives, how often it was asked for, and how long it took."""
    asked.clear()
    began = time.monotonic()
    try:
        result = repr(redis.Redis(port=server.server_address[1], **options).blpop("jobs", timeout=10))
    except redis.TimeoutError as error:
        result = f"TimeoutError: {error}"
    return result, len(asked), time.monotonic() - began


server = Server(("127.0.0.1", 0), EmptyRedis)
threading.Thread(target=server.serve_forever, daemon=True).start()
default, patient = wait(), wait(socket_timeout=None)
for name, (result, times, seconds) in (("default", default), ("socket_timeout=None", patient)):
    print(f"{name}: {result}, asked {times} times, after {seconds:.0f} s")
sys.exit(not ("TimeoutError" in default[0] and default[1] > 5 and patient[:2] == ("None", 1)))
PYTHON
