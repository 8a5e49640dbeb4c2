"""`scripts/benchmark_gpu` on the CPU, small: the figures that it writes where there is a GPU."""

import json
import os
import subprocess
import sys

from paths import ROOT

COMMAND = [sys.executable, str(ROOT / "scripts" / "benchmark_gpu"), "--device", "cpu", "--small"]


def test_every_part_writes_its_figures(tiny_checkpoint, tmp_path):
    out = tmp_path / "figures" / "gpu.json"
    parts = ("--only", "equality", "batches", "emotion", "voices")
    command = [*COMMAND, "--model", str(tiny_checkpoint), "--out", str(out), "--live", "1,3", *parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert figures["equality"]["same_labels"] == 1.0 and figures["equality"]["largest_difference"] < 1e-4
    assert set(figures["batches"]) == {"1", "4"}
    for count in ("1", "3"):
        assert 0 < figures["emotion"][count]["p50_ms"] <= figures["emotion"][count]["p99_ms"]
    assert figures["voices"]["cpu"]["campplus_3s_ms"] > 0


def test_a_part_that_fails_is_told_and_the_others_are_measured(tiny_checkpoint, tmp_path):
    out = tmp_path / "gpu.json"
    parts = ("--whisper", str(tmp_path), "--only", "whisper", "batches")
    command = [*COMMAND, "--model", str(tiny_checkpoint), "--out", str(out), *parts]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 1, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert "expected a Whisper model" in figures["whisper"]["error"]
    assert figures["batches"]["1"]["ms"] > 0
