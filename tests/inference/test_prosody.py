"""Prosody: known signals give their known values."""

import numpy as np
import pytest

from stream_erc.events import Samples
from stream_erc.inference.prosody import DESCRIPTORS, LINES, measure, speech_span


def tone(f0: "float | np.ndarray", seconds: float = 1.0, level: float = 0.1) -> Samples:
    """Make ten harmonics of a steady or gliding pitch (Hz)."""
    n = int(seconds * 16_000)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0, n)) / 16_000
    return (level * sum(np.sin(k * phase) / k for k in range(1, 11))).astype(np.float32)


def measured(samples: Samples) -> dict[str, float]:
    return dict(zip(DESCRIPTORS, measure(samples).tolist(), strict=True))


@pytest.mark.parametrize("f0", [90.0, 140.0, 233.3, 420.0])
def test_pitch_of_a_steady_tone(f0: float) -> None:
    found = measured(tone(f0))
    assert found["avg_pitch"] == pytest.approx(f0, rel=0.005)
    assert found["pitch_std"] < 1
    assert found["pitch_range"] < 3


def test_pitch_of_a_glide() -> None:
    found = measured(tone(np.linspace(120, 240, 16_000)))
    assert found["avg_pitch"] == pytest.approx(180, rel=0.01)
    assert found["pitch_std"] == pytest.approx(120 / np.sqrt(12), rel=0.05)
    assert found["pitch_range"] == pytest.approx(120, rel=0.06)


def test_intensity_is_the_power_in_db() -> None:
    samples = tone(200.0)
    power = np.mean(samples.astype(np.float64) ** 2)
    assert measured(samples)["avg_intensity"] == pytest.approx(10 * np.log10(power / 4e-10), abs=0.2)


def test_gain_moves_the_intensity_alone() -> None:
    samples = tone(np.linspace(120, 240, 16_000)) * np.linspace(0.2, 1, 16_000, dtype=np.float32)
    loud, quiet = measured(samples), measured(samples * np.float32(0.1))
    assert loud.pop("avg_intensity") - quiet.pop("avg_intensity") == pytest.approx(20, abs=1e-3)
    assert loud == pytest.approx(quiet, rel=1e-3, nan_ok=True)  # no dips, no syllables


def test_silence_around_speech_does_not_count() -> None:
    padded = np.concatenate([np.zeros(6_400), tone(150.0), np.zeros(9_600)]).astype(np.float32)
    assert speech_span(padded) == (6_400, 22_400)
    assert measured(padded) == pytest.approx(measured(tone(150.0)), rel=1e-6)


def test_noise_lowers_the_harmonicity() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    clean, noisy = (measured(tone(200.0) + np.float32(a) * noise)["mean_hnr"] for a in (0.001, 0.05))
    assert clean > noisy + 10


@pytest.mark.parametrize("rate", [2, 3, 4])
def test_syllables_are_counted(rate: int) -> None:
    t = np.arange(32_000) / 16_000
    beats = (0.05 + np.sin(np.pi * rate * t) ** 2).astype(np.float32)
    slope, offset = LINES["articulation_rate"]
    expected = slope * rate + offset
    assert measured(tone(150.0, 2.0) * beats)["articulation_rate"] == pytest.approx(expected, abs=slope * 0.5)


@pytest.mark.parametrize("n", [0, 1, 319, 320, 1_599])
def test_too_little_sound_is_not_measured(n: int) -> None:
    assert np.isnan(measure(tone(150.0)[:n])).all()
    assert np.isnan(measure(np.zeros(n, dtype=np.float32))).all()


@pytest.mark.parametrize("n", [1_600, 1_700, 2_047, 2_400])
def test_a_short_sound_has_pitch(n: int) -> None:
    assert measured(tone(150.0)[:n])["avg_pitch"] == pytest.approx(150, rel=0.02)
