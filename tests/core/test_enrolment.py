"""Known voices: measuring them, and enrolling them in a conversation."""

import numpy as np
import pytest
from fakes import LoudnessVad, silence, tone

from stream_erc.audio import SAMPLE_RATE
from stream_erc.core.enrolment import measure_voice
from stream_erc.events import Samples, Vector
from stream_erc.exceptions import VoicesError


def embed(samples: Samples) -> Vector | None:
    """Return a vector that tells whether the pitch is low or high."""
    if len(samples) < 0.4 * SAMPLE_RATE:
        return None
    low = np.abs(np.fft.rfft(samples, SAMPLE_RATE)).argmax() < 500
    return np.array([low, not low], np.float32)


def pieces(audio: Samples, size: int) -> list[Samples]:
    return [audio[at : at + size] for at in range(0, len(audio), size)]


def test_only_speech_is_measured_weighted_by_its_length() -> None:
    audio = np.concatenate([silence(3), tone(3, 200), silence(4), tone(1, 900), silence(9)])
    mean, speech_s = measure_voice(pieces(audio, 1_000), LoudnessVad(), embed)
    assert speech_s == pytest.approx(4, abs=0.2)
    np.testing.assert_allclose(mean, np.array([3, 1]) / np.sqrt(10), atol=0.03)
    for size in (511, 512, len(audio)):
        again, _ = measure_voice(pieces(audio, size), LoudnessVad(), embed)
        np.testing.assert_array_equal(again, mean)


def test_long_speech_is_measured_in_parts() -> None:
    mean, speech_s = measure_voice([tone(70, 200)], LoudnessVad(), embed)
    assert speech_s == pytest.approx(70, abs=0.5)
    np.testing.assert_allclose(mean, [1, 0])


@pytest.mark.parametrize(
    "audio", [silence(5), silence(0), tone(0.6, 200), np.full(80_000, np.nan, np.float32)]
)
def test_a_clip_without_speech_is_refused(audio: Samples) -> None:
    with pytest.raises(VoicesError, match="expected a clip with at least 1 s of speech, got 0"):
        measure_voice([audio], LoudnessVad(), embed)
