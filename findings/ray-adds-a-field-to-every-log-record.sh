#!/bin/sh
# Guess: `import ray` sets up loggers of its own, and leaves the log records of the rest of the program alone.
# Truth: it replaces the record factory of `logging`, so that every record of every logger has one more attribute,
#   `_ray_timestamp_ns`, from the import on, also where `ray.init` is never called.
# Hurts: JSON formatters that print whatever is in a record and not in a plain one (`extra`): each line of the whole
#   program gets a field of Ray's.
# Seen: ray 2.60.0, on 2026-11-30.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ray==2.60.0
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys


def fields():
    """Return the attributes of a record of a logger that has nothing to do with Ray."""
    return set(vars(logging.getLogger("mine").makeRecord("mine", 20, "file", 1, "hello", (), None)))


before = fields()
import ray

added = fields() - before
print("added by the import:", added or "nothing")
sys.exit(added != {"_ray_timestamp_ns"})
PYTHON
