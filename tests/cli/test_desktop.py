"""The server of a window, which a stand-in for the window talks to."""

import subprocess
import sys
from pathlib import Path

import pytest

from stream_erc.cli import desktop, main
from stream_erc.config import Config, EngineConfig
from stream_erc.exceptions import InputError
from stream_erc.inference.engine import Engine

READS_A_LINE = "import sys; print(sys.stdin.readline(), file=sys.stderr, end='')"


def test_a_window_is_told_of_models_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window stops listening to its host at ``ready``, so all models are loaded before."""
    asked: list[bool] = []

    def load(*_: object, warm: bool = True, **__: object) -> Engine:
        asked.append(warm)
        raise InputError("no models today")

    monkeypatch.setattr(Engine, "load", load)
    window = subprocess.Popen(
        [sys.executable, "-c", READS_A_LINE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    config = Config(engine=EngineConfig(model=str(tmp_path)))
    desktop._serve(config, window, main._engines, [])  # not `serve_window`, which may end the whole process
    with window:
        assert window.stderr is not None and window.stderr.read() == b"failed no models today\n"
    assert asked == [True]
