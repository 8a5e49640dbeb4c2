#!/bin/sh
# Guess: names that the text format has no room for, such as "asr.seconds", are refused at once; or two metrics that
#   would come out under one name are.
# Truth: prometheus_client takes the name and writes a dot as an underscore. Beside a metric that is called
#   "asr_seconds" the registry sees no double, and the page has two metrics of one name with different values and two
#   TYPE lines.
# Hurts: whoever uses OpenTelemetry's dotted names beside Prometheus' own: of a series that stands on a page twice, a
#   scraper can keep one value at most.
# Seen: prometheus_client 0.26.0, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q prometheus_client==0.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from prometheus_client import CollectorRegistry, Gauge, generate_latest

registry = CollectorRegistry()
Gauge("asr.seconds", "By one library.", registry=registry).set(1)
Gauge("asr_seconds", "By another.", registry=registry).set(2)
page = generate_latest(registry).decode()
print(page, end="")
samples = [line for line in page.splitlines() if not line.startswith("#")]
try:
    Gauge("asr_seconds", "Once more.", registry=registry)
    refused = False
except ValueError as error:
    print(f"The same name a second time: {error}")
    refused = True
sys.exit(not (samples == ["asr_seconds 1.0", "asr_seconds 2.0"] and page.count("# TYPE asr_seconds gauge") == 2 and refused))
PYTHON
