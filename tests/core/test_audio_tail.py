import numpy as np
import pytest

from stream_erc.core.audio_tail import AudioTail
from stream_erc.core.vad import WINDOW

RATE = 16_000


def tail(samples: np.ndarray, position: int = 0) -> AudioTail:
    held = AudioTail(position)
    for first in range(0, len(samples), WINDOW):
        held.push(samples[first : first + WINDOW])
    return held


def voice(seconds: float) -> np.ndarray:
    at = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 150 * at) + 0.1 * np.sin(2 * np.pi * 900 * at)).astype(np.float32)


@pytest.mark.parametrize("pause_s", [0.3, 1.71, 3.0])
def test_the_quietest_place_is_the_pause(pause_s: float) -> None:
    samples = voice(4.0)
    samples[round(pause_s * RATE) : round((pause_s + 0.1) * RATE)] *= 0.01
    assert tail(samples, 5_120).quietest(5_120, 5_120 + 4 * RATE) == pytest.approx(
        5_120 + (pause_s + 0.05) * RATE, abs=0.02 * RATE
    )


def test_a_hiss_is_not_quiet() -> None:
    """Weaker than the pause's hum, but all in the high frequencies, as a fricative is."""
    samples = voice(2.0)
    noise = np.random.default_rng(0).standard_normal(RATE // 10)
    samples[RATE // 2 : RATE // 2 + RATE // 10] = np.diff(0.01 * noise, prepend=0)
    samples[RATE : RATE + RATE // 10] *= 0.1
    weak, hum = samples[RATE // 2 : RATE // 2 + 1_600], samples[RATE : RATE + 1_600]
    assert np.square(weak).sum() < np.square(hum).sum()
    assert tail(samples).quietest(0, 2 * RATE) == pytest.approx(1.05 * RATE, abs=0.02 * RATE)


def test_the_last_of_equals_and_too_little_audio() -> None:
    assert tail(np.zeros(RATE, np.float32)).quietest(0, RATE) == RATE - 6 * 128
    assert tail(voice(1.0)).quietest(100, 300) == 200
