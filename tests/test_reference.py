"""The reference pages, as `scripts/reference` makes them from the docstrings."""

import subprocess
import sys
from pathlib import Path

from paths import ROOT


def test_the_reference_is_made_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "reference"), "--out", str(tmp_path)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    library = (tmp_path / "stream_erc.html").read_text(encoding="utf-8")
    assert "Ctrl-C" in library and "labels_from" in library  # of listen and recognize, which are lazy
    assert (tmp_path / "stream_erc" / "core" / "session.html").is_file()
    assert (tmp_path / "stream_erc_client.html").is_file()
    assert not (tmp_path / "stream_erc" / "cli.html").exists()
