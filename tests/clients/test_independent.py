"""A client that knows only docs/protocol.md (JavaScript, `ws`): it streams, is cut, resumes, reconciles."""

import json
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from fakes import conversation
from paths import ROOT
from serving import serve

from stream_erc.audio import SAMPLE_RATE, to_pcm16

FOLDER = ROOT / "tests" / "clients" / "independent"
NAMES = "agent,caller"
EVENTS = {"turn.final", "turn.revised", "turn.failed", "speaker.updated", "session.closed"}

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules" / "ws").is_dir(),
        reason="npm install in tests/independent has not been run",
    ),
]


def run(*arguments: object) -> list[dict]:
    """What a script of the client was told that lasts."""
    events = Path(str(arguments[-1]))
    command = ["node", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=FOLDER, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(line) for line in events.read_text().splitlines()]
    moment = ("seq", "created_at", "latency_ms", "session_id")
    return [{k: v for k, v in m.items() if k not in moment} for m in told if m["type"] in EVENTS]


def test_it_hears_the_same_however_often_it_is_cut(tmp_path: Path) -> None:
    talk = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900)] * 3)
    recording = tmp_path / "talk.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(to_pcm16(talk))
    with serve() as running:
        common = ("client.mjs", running.socket_url, recording, "--pace", "replay")
        whole = run(*common, "--events", tmp_path / "whole.jsonl")
        cut = run(*common, "--cut", 4, "--events", tmp_path / "cut.jsonl")
    assert [m["event_id"] for m in whole] == list(range(1, len(whole) + 1))
    assert whole[-1]["turns"] == 12
    assert cut == whole


def test_it_sends_a_call_of_two_channels(tmp_path: Path) -> None:
    agent, caller = conversation([(1.0, 200), (0.8, 200)] * 3), conversation([(1.4, 900)] * 4, gap=0.3)
    longest = max(len(agent), len(caller))
    call = np.stack([np.pad(side, (0, longest - len(side))) for side in (agent, caller)], axis=1)
    recording = tmp_path / "call.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(to_pcm16(call))
    with serve() as running:
        common = ("client.mjs", running.socket_url, recording, "--pace", "replay", "--channels", NAMES)
        whole = run(*common, "--events", tmp_path / "whole.jsonl")
        cut = run(*common, "--cut", 3, "--events", tmp_path / "cut.jsonl")
    turns = [m for m in whole if m["type"] == "turn.final"]
    assert {(m["channel"], m["speaker"]) for m in turns} == {(0, "agent"), (1, "caller")} and len(turns) == 10
    assert whole[-1]["audio_ms"] == round(longest / 16)
    assert cut == whole


def test_it_says_the_turns_that_it_knows(tmp_path: Path) -> None:
    with serve() as running:
        whole = run("texts.mjs", running.socket_url, "--events", tmp_path / "whole.jsonl")
        cut = run("texts.mjs", running.socket_url, "--cut", 1, "--events", tmp_path / "cut.jsonl")
    assert {"turn.final", "turn.revised", "speaker.updated", "session.closed"} <= {m["type"] for m in whole}
    assert cut == whole
