#!/bin/sh
# Guess: `ray.init(address)` fails within seconds where the port refuses connections, and says so where the token is
#   wrong.
# Truth: it tries for more than a minute at a closed port of this machine, and about 20 seconds with a wrong token. Both
#   end in the same `ConnectionError: Failed to connect to Ray cluster`, though the server has said at once that the
#   token is wrong: only Ray's own log on standard error has it. `GcsClient(address=...)` tells it in milliseconds.
# Hurts: services that check their configuration at the start.
# Seen: ray 2.60.0, on 2026-11-30. Takes two minutes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ray==2.60.0
cat > "$folder/client.py" <<'PYTHON'
import sys
import time

import ray

began = time.monotonic()
try:
    ray.init(sys.argv[1], logging_level=50)
    told = "connected"
except BaseException as error:
    told = f"{type(error).__name__}: {error}"
print(f"{time.monotonic() - began:.0f} {told}")
PYTHON
export HOME="$folder" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
cat > "$folder/all.py" <<'PYTHON'
import os
import subprocess
import sys

import ray

client = sys.argv[1]


def ask(address, token):
    """Return the seconds that a client took, and what it was told."""
    command = [sys.executable, client, address]
    done = subprocess.run(
        command, env=os.environ | {"RAY_AUTH_TOKEN": token}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    seconds, _, told = done.stdout.strip().splitlines()[-1].partition(" ")
    return int(seconds), told


ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100_000_000, logging_level=50)
wrong = ask(ray.get_runtime_context().gcs_address, "fedcba9876543210")
ray.shutdown()
closed = ask("127.0.0.1:9", "0123456789abcdef")
print("wrong token:", wrong)
print("closed port:", closed)
sys.exit(not (wrong[0] > 10 and "token" not in wrong[1].lower() and closed[0] > 60))
PYTHON
RAY_AUTH_TOKEN=0123456789abcdef "$folder/venv/bin/python" "$folder/all.py" "$folder/client.py"
