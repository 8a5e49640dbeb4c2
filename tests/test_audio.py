import itertools

import numpy as np
import pytest
from g711 import to_alaw, to_mulaw
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_erc.audio import SAMPLE_RATE, Resampler, from_alaw, from_mulaw, from_pcm16, sanitize, to_pcm16
from stream_erc.exceptions import AudioError, ProtocolMisuse

EVERY_PCM16 = np.arange(-32_768, 32_768, dtype="<i2")


def tone(rate_hz: int, hz: float = 440.0, seconds: float = 1.0, channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz)
    return np.repeat(wave.astype(np.float32)[:, np.newaxis], channels, axis=1)


def resample(audio: np.ndarray, rate_hz: int, cuts: list[int]) -> np.ndarray:
    resampler = Resampler(rate_hz, audio.shape[1])
    edges = [0, *sorted(cuts), len(audio)]
    ready = [resampler.push(audio[a:b]) for a, b in itertools.pairwise(edges)]
    return np.concatenate([*ready, resampler.flush()])


def test_sanitize_bounds_samples_and_silences_what_is_no_number() -> None:
    dirty = np.array([np.nan, np.inf, -np.inf, 2.0, -2.0, 0.25], dtype=np.float32)
    clean = sanitize(dirty)
    assert clean.dtype == np.float32
    assert clean.tolist() == [0.0, 0.0, 0.0, 1.0, -1.0, 0.25]
    assert np.isnan(dirty[0]), "the caller's array must stay as it was"


def test_every_pcm16_value_survives_the_round_trip() -> None:
    samples = from_pcm16(EVERY_PCM16.tobytes())
    assert samples.dtype == np.float32
    assert samples.min() == -1.0 and samples.max() < 1.0
    assert to_pcm16(samples) == EVERY_PCM16.tobytes()


def test_full_scale_does_not_wrap_around() -> None:
    assert np.frombuffer(to_pcm16(np.array([1.0, 5.0, -5.0], np.float32)), "<i2").tolist() == [
        32767,
        32767,
        -32768,
    ]


def test_half_a_pcm16_sample_is_named() -> None:
    with pytest.raises(AudioError, match="even number of bytes, got 3 bytes"):
        from_pcm16(b"abc")


def test_mulaw_decodes_as_g711_says() -> None:
    """Values of the standard's table 2a, at 16 bits."""
    codes = {
        0xFF: 0,
        0x7F: 0,
        0xFE: 8,
        0x7E: -8,
        0x80: 32_124,
        0x00: -32_124,
        0xF0: 120,
        0xEF: 132,
        0x8F: 16_764,
    }
    decoded = from_mulaw(bytes(codes)) * 32_768
    assert decoded.tolist() == list(codes.values())


def test_mulaw_errs_by_at_most_half_a_step() -> None:
    samples = from_pcm16(EVERY_PCM16.tobytes()) * 32_768
    error = np.abs(from_mulaw(to_mulaw(samples / 32_768)) * 32_768 - samples)
    half_a_step = (np.abs(samples) + 132) / 32  # a segment of 16 steps begins at every power of two
    assert (error <= half_a_step).all()


def test_every_mulaw_code_survives_the_round_trip() -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # minus zero comes back as zero
    assert to_mulaw(from_mulaw(codes)) == codes


def test_alaw_decodes_as_g711_says() -> None:
    """Values of the standard's table 1a, at 16 bits."""
    codes = {
        0xD5: 8,
        0x55: -8,
        0xD4: 24,
        0xC5: 264,
        0xDA: 248,
        0xF5: 528,
        0xAA: 32_256,
        0x2A: -32_256,
        0xAB: 31_232,
        0x80: 5_504,
    }
    assert (from_alaw(bytes(codes)) * 32_768).tolist() == list(codes.values())


def test_alaw_errs_by_at_most_half_a_step() -> None:
    samples = from_pcm16(EVERY_PCM16.tobytes()) * 32_768
    error = np.abs(from_alaw(to_alaw(samples / 32_768)) * 32_768 - samples)
    assert (error <= np.maximum(8, np.abs(samples) / 32) + 512 * (np.abs(samples) > 32_256)).all()


def test_every_alaw_code_survives_the_round_trip() -> None:
    codes = bytes(range(256))
    assert to_alaw(from_alaw(codes)) == codes


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_a_tone_keeps_its_length_pitch_and_level(rate_hz: int, channels: int) -> None:
    got = resample(tone(rate_hz, channels=channels), rate_hz, [])
    assert got.dtype == np.float32 and got.shape == (SAMPLE_RATE,)
    middle = slice(2_000, -2_000)
    np.testing.assert_allclose(got[middle], tone(SAMPLE_RATE)[middle, 0], atol=2e-3)


def test_what_16_khz_cannot_hold_is_filtered_out() -> None:
    got = resample(tone(48_000, hz=11_000), 48_000, [])
    assert np.abs(got[2_000:-2_000]).max() < 1e-3


def test_channels_are_averaged() -> None:
    left_only = np.zeros((100, 4), dtype=np.float32)
    left_only[:, 0] = 0.8
    np.testing.assert_allclose(Resampler(SAMPLE_RATE, 4).push(left_only), 0.2, rtol=1e-6)


def test_16_khz_mono_passes_through_at_once() -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, 333).astype(np.float32)
    resampler = Resampler(SAMPLE_RATE)
    assert np.array_equal(resampler.push(audio), audio)
    assert resampler.flush().shape == (0,)


@settings(deadline=None, max_examples=40)
@given(
    rate_hz=st.sampled_from([8_000, 11_025, 16_000, 44_100, 48_000, 192_000]),
    channels=st.sampled_from([1, 2, 3, 8]),
    cuts=st.lists(st.integers(0, 20_000), max_size=12),
)
def test_chunking_does_not_change_a_bit(rate_hz: int, channels: int, cuts: list[int]) -> None:
    audio = np.random.default_rng(1).uniform(-1.2, 1.2, (20_000, channels)).astype(np.float32)
    assert np.array_equal(resample(audio, rate_hz, cuts), resample(audio, rate_hz, []))


def test_single_samples_do_not_change_a_bit() -> None:
    audio = np.random.default_rng(2).uniform(-1, 1, (3_000, 2)).astype(np.float32)
    assert np.array_equal(resample(audio, 44_100, list(range(3_000))), resample(audio, 44_100, []))


@pytest.mark.parametrize(
    ("rate_hz", "most_ms"),
    [
        (8_000, 30),
        (11_025, 84),
        (16_000, 0),
        (22_050, 40),
        (32_000, 58),
        (44_100, 40),
        (48_000, 37),
    ],
)
def test_the_lag_is_what_the_docstring_says(rate_hz: int, most_ms: int) -> None:
    resampler, given, ready, lags = Resampler(rate_hz), 0, 0, []
    for _ in range(200):
        given += rate_hz // 50
        ready += len(resampler.push(np.zeros(rate_hz // 50, np.float32)))
        lags.append(1_000 * (given / rate_hz - ready / SAMPLE_RATE))
    assert max(lags) <= most_ms + 0.1


def test_output_stays_in_range_and_nan_does_not_spread() -> None:
    square = np.sign(tone(48_000, hz=300))
    square[10_000] = np.nan
    got = resample(square, 48_000, [5_000])
    assert np.isfinite(got).all() and np.abs(got).max() <= 1.0


def test_three_milliseconds_come_out_whole() -> None:
    assert resample(tone(48_000, seconds=0.003), 48_000, []).shape == (48,)


def test_misuse_and_impossible_audio_are_named() -> None:
    with pytest.raises(AudioError, match="got 0"):
        Resampler(0)
    with pytest.raises(AudioError, match="at least one channel, got 0"):
        Resampler(48_000, 0)
    with pytest.raises(AudioError, match=r"\(N, 2\), got \(10,\)"):
        Resampler(48_000, 2).push(np.zeros(10, np.float32))
    resampler = Resampler(48_000)
    resampler.flush()
    with pytest.raises(ProtocolMisuse, match="after flush"):
        resampler.push(np.zeros(10, np.float32))
    assert resampler.flush().shape == (0,)
