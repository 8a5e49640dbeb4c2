#!/bin/sh
# Guess: environment variables that are set before `ray.init()` hold for the cluster that it starts.
# Truth: RAY_AUTH_MODE is read by this process when `ray` is imported, and by the processes of the cluster when they
#   start. Set in between, the cluster asks for a token which this process does not send: `ray.init()` starts a
#   cluster, cannot connect to it, and fails after some seconds.
# Hurts: programs that set the mode in their main function, after some library has imported ray.
# Seen: ray 2.60.0, on 2026-11-30. The cluster that fails is ended.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ray==2.60.0
cat > "$folder/start.py" <<'PYTHON'
import os
import sys

if sys.argv[1] == "before":
    os.environ["RAY_AUTH_MODE"] = "token"
import ray

os.environ["RAY_AUTH_MODE"] = "token"
try:
    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100_000_000, logging_level=50)
    print("connected")
except Exception as error:
    print("failed:", type(error).__name__, str(error)[-400:].replace("\n", " "))
finally:
    ray.shutdown()
PYTHON
export HOME="$folder" RAY_AUTH_TOKEN=0123456789abcdef RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_MODE
before=$("$folder/venv/bin/python" "$folder/start.py" before 2>"$folder/log")
after=$("$folder/venv/bin/python" "$folder/start.py" after 2>"$folder/log")
echo "set before the import: $before"
echo "set after the import:  $after"
test "$before" = connected
case "$after" in "failed: "*) ;; *) exit 1 ;; esac
