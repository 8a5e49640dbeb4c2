"""scripts/run.py: the everyday scripts on systems without a POSIX shell."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from paths import ROOT

SCRIPT = ROOT / "scripts" / "run.py"
VENV = (ROOT / "scripts" / "_venv").read_text(encoding="utf-8")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with an environment of its own, whose commands are written down and not run."""
    spec = importlib.util.spec_from_file_location("run_script", SCRIPT)
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path)
    monkeypatch.setattr(module, "PYTHON", tmp_path / "python")
    (tmp_path / "python").touch()
    module.ran = []
    module.codes = {}

    def record(command: Sequence[object], cwd: Path) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command[1:]]
        module.ran.append((words, cwd))
        return subprocess.CompletedProcess(words, module.codes.get(words[1], 0))

    monkeypatch.setattr(module.subprocess, "run", record)
    return module


@pytest.mark.parametrize("stage", ["runtime", "desktop", "dev"])
def test_it_installs_what_the_shell_scripts_install_and_only_once(script: Any, stage: str) -> None:
    script.set_up(stage)
    script.set_up(stage)
    packages, torch, ours = (words[4:] for words, _ in script.ran)
    assert packages == ["--require-hashes", "--no-deps", "-r", f"locks/{stage}.txt"]
    assert torch[:2] == ["-c", "constraints.txt"] and torch[2].startswith("torch==")
    assert ours[:2] == ["--no-deps", "--no-build-isolation"]
    assert f'{stage}) targets="{" ".join(ours[2:])}" ;;' in VENV
    assert {tuple(words[:4]) for words, _ in script.ran} == {("-m", "pip", "install", "--quiet")}
    assert {folder for _, folder in script.ran} == {ROOT}
    (script.VENV / f"set-up.{stage}.sha256").write_text("of older lists", encoding="utf-8")
    script.set_up(stage)
    assert len(script.ran) == 6


def test_every_script_of_the_readme_has_its_counterpart(script: Any, tmp_path: Path) -> None:
    script.main(["demo", "--out", str(tmp_path / "x"), "--speakers", "2"])
    replay, _ = script.ran[-1]
    assert replay[:3] == ["-m", "stream_erc", "replay"] and replay[-2:] == ["--speakers", "2"]
    assert str(tmp_path / "x" / "report.html") in replay and (tmp_path / "x").is_dir()
    for name, command in (("live", "serve"), ("desktop", "desktop")):
        script.main([name, "--verbose"])
        assert script.ran[-1][0] == ["-m", "stream_erc", command, "--verbose"]
    pytest_options = re.search(r"-m pytest (.*) \"", (ROOT / "scripts" / "test").read_text(encoding="utf-8"))
    assert pytest_options
    script.main(["test", "-x"])
    assert " ".join(script.ran[-1][0]) == f"-m pytest {pytest_options[1]} -x"
    script.ran.clear()
    script.main(["check"])
    assert [words[1] for words, _ in script.ran] == ["ruff", "ruff", "mypy", "mypy", "pytest"]
    linted, _ = script.ran[0]
    assert str(ROOT / "scripts" / "load_test") in linted and str(ROOT / "scripts" / "demo") not in linted


def test_it_ends_with_the_first_command_that_fails(script: Any) -> None:
    script.set_up("dev")
    script.codes = {"mypy": 3}
    with pytest.raises(SystemExit) as ended:
        script.main(["check"])
    assert ended.value.code == 3 and script.ran[-1][0] == ["-m", "mypy"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "expected one of demo, replay, live, desktop, test, lint, check, got nothing"),
        (["dmeo"], "got dmeo"),
    ],
)
def test_it_says_what_it_expects(arguments: list[str], told: str) -> None:
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and told in done.stderr
