"""The adapters of Pipecat and LiveKit Agents in environments of their own, with the tested versions.

Neither framework is in the project's environment: Pipecat's dependencies contradict its pins. So each test
makes an environment from `clients/agents/constraints-NAME.txt` and runs the framework's tests of
`test_agents.py` in it, with the clients installed as a user would. It skips where PyPI cannot be reached.
"""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from paths import ROOT

AGENTS = ROOT / "clients" / "agents"
RELEASES = {"pipecat": "pipecat-ai", "livekit": "livekit-agents"}
TEST_TOOLS = ("pytest", "hypothesis", "soundfile", "soxr")
PYTHON_3_11 = sys.version_info[:2] == (3, 11)


def run(*command: object, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run a command from the checkout; return its exit code and output."""
    words = [str(word) for word in command]
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    quiet.pop("PYTHONPATH", None)
    return subprocess.run(words, cwd=ROOT, env=quiet, capture_output=True, text=True, **options)  # type: ignore[call-overload]


def reachable(distribution: str) -> bool:
    """Return whether pip's index, PyPI or a mirror, answers within a few seconds."""
    asked = (sys.executable, "-m", "pip", "--retries", "0", "--timeout", "8", "index", "versions")
    return run(*asked, distribution).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON_3_11, reason="the pinned versions were tested on Python 3.11")
@pytest.mark.parametrize("name", RELEASES)
def test_the_adapter_works_with_the_tested_release(name: str, tmp_path: Path) -> None:
    if not reachable(RELEASES[name]):
        pytest.skip("PyPI cannot be reached")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pins = AGENTS / f"constraints-{name}.txt"
    targets = (ROOT / "clients" / "python", f"{AGENTS}[{name}]")
    made = run(python, "-m", "pip", "install", "--no-compile", "-c", pins, *targets, *TEST_TOOLS)
    assert made.returncode == 0, made.stderr[-3000:]
    checked = run(python, "-m", "pip", "check")
    assert checked.returncode == 0, checked.stdout
    done = run(python, "-m", "pytest", "-q", "-m", "not slow", "-k", name, "tests/clients/test_agents.py")
    summary = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.fullmatch(r"\d+ passed, \d+ deselected.*", summary), summary  # none is skipped


@pytest.mark.parametrize("name", RELEASES)
def test_the_readme_names_the_tested_release(name: str) -> None:
    pins = (AGENTS / f"constraints-{name}.txt").read_text(encoding="utf-8")
    (version,) = re.findall(rf"^{RELEASES[name]}==(\S+)$", pins, flags=re.M)
    readme = (AGENTS / "README.md").read_text(encoding="utf-8")
    assert f"`{RELEASES[name]}` {version}" in readme and f"constraints-{name}.txt" in readme
    (websockets,) = re.findall(r"^websockets==(\d+)", pins, flags=re.M)
    assert int(websockets) >= 15  # what the client needs
