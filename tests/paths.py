"""Places in the checkout, and the corpora beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
SAMPLE = ROOT / "stream_erc" / "sample"
CORPORA = ROOT.parent / "shared" / "data"
