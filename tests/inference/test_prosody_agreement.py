"""Prosody agrees with Praat, on voices of the corpora and on a synthetic one; skipped without Praat."""

import csv
import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from paths import ROOT

from stream_erc.events import Samples
from stream_erc.inference.prosody import DESCRIPTORS, measure, speech_span

pytest.importorskip("parselmouth", reason="agreement with Praat needs praat-parselmouth (the extra 'train')")

PITCH = [DESCRIPTORS.index(name) for name in ("avg_pitch", "pitch_std", "pitch_range")]
LEAST_R = {
    "duration": 0.999,
    "avg_intensity": 0.999,
    "intensity_variation": 0.98,
    "avg_pitch": 0.98,
    "pitch_std": 0.9,
    "pitch_range": 0.85,
    "articulation_rate": 0.6,
    "mean_hnr": 0.9,
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts" / "evaluate_acoustics"
    loader = importlib.machinery.SourceFileLoader("evaluate_acoustics", str(path))
    spec = importlib.util.spec_from_loader("evaluate_acoustics", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def voice(seconds: float, rng: np.random.Generator) -> Samples:
    """Make four syllables per second of a gliding pitch with a little noise."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    f0 = 140 + 40 * np.sin(2 * np.pi * 0.7 * t) + 20 * t
    phase = 2 * np.pi * np.cumsum(f0) / 16_000
    wave = sum(np.sin(k * phase) / k for k in range(1, 16)) * (0.08 + np.sin(4 * np.pi * t) ** 2)
    return (0.05 * wave + 0.002 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.mark.parametrize("gain", [0.1, 1.0, 5.0])
def test_a_made_voice(script: ModuleType, gain: float) -> None:
    samples = voice(3.0, np.random.default_rng(0)) * np.float32(gain)
    start, end = speech_span(samples)
    ours, theirs = measure(samples), script.praat(samples[start:end])
    assert ours[:3] == pytest.approx(theirs[:3], abs=0.05)  # s, dB, dB
    assert ours[PITCH] == pytest.approx(theirs[PITCH], abs=0.5)  # Hz
    assert ours[7] == pytest.approx(theirs[7], abs=3)  # dB


def test_voices_of_the_corpora(script: ModuleType, data_dir: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="reading clips needs soundfile (the extra 'dev')")
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for folder in ("ravdess", "tess", "speechocean762"):
        with open(data_dir / folder / "labels.csv", newline="") as lines:
            files = [row["file"] for row in csv.DictReader(lines)]
        for file in rng.choice(files, 8, replace=False):
            samples = soundfile.read(data_dir / folder / file, dtype="float32")[0][: 5 * 16_000]
            start, end = speech_span(samples)
            ours.append(measure(samples))
            theirs.append(script.praat(samples[start:end]))
    mine, praat = np.array(ours, dtype=np.float64), np.array(theirs)
    for k, name in enumerate(DESCRIPTORS):
        known = np.isfinite(mine[:, k]) & np.isfinite(praat[:, k])
        assert known.sum() >= 20
        assert np.corrcoef(mine[known, k], praat[known, k])[0, 1] > LEAST_R[name], name
    assert np.median(np.abs(mine - praat)[:, PITCH], axis=0) == pytest.approx([0, 0, 0], abs=1.0)  # Hz
