"""The planning script against queueing theory, and the document against the script."""

import importlib.util
import subprocess
import sys
from importlib.machinery import SourceFileLoader

import numpy as np
import pytest
from paths import ROOT

SCRIPT = ROOT / "scripts" / "capacity"
_loader = SourceFileLoader("capacity", str(SCRIPT))
_spec = importlib.util.spec_from_loader("capacity", _loader)
assert _spec is not None
capacity = importlib.util.module_from_spec(_spec)
_loader.exec_module(capacity)


def test_erlang_c_has_its_known_values() -> None:
    assert capacity.erlang_c(1, 0.7) == pytest.approx(0.7)
    assert capacity.erlang_c(2, 1.0) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (2, 1.4), (16, 12.8)])
def test_the_queue_waits_as_erlang_says(servers: int, load: float) -> None:
    chance, count = np.random.default_rng(3), 200_000
    waited = capacity.waits(servers, chance.exponential(1 / load, count), chance.exponential(1.0, count))
    expected = capacity.erlang_c(servers, load)
    assert (waited > 0).mean() == pytest.approx(expected, rel=0.05)
    assert waited.mean() == pytest.approx(expected / (servers - load), rel=0.1)


def test_the_document_has_what_the_script_prints() -> None:
    printed = subprocess.check_output([sys.executable, str(SCRIPT)], text=True)
    assert printed in (ROOT / "docs" / "capacity.md").read_text("utf-8")
