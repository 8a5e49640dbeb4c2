"""Channels become mono without cancelling each other, for any chunking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_erc.audio import AudioError, Resampler, SeparateChannels
from stream_erc.mixing import Mixer, film_gains

RATE = 16_000


def noise(seconds, seed, rate=RATE):
    return (0.2 * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype(np.float32)


def mixed(left, right, sizes=(1600,), rate=RATE):
    mixer, parts, at, k = Mixer(rate, 2), [], 0, 0
    both = np.stack([left, right], axis=1)
    while at < len(both):
        size = sizes[k % len(sizes)]
        parts.append(mixer.push(both[at : at + size]))
        at, k = at + size, k + 1
    return np.concatenate(parts)


def level(samples):
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def test_a_signal_in_opposite_phase_does_not_cancel():
    voice = noise(3, 1)
    heard = mixed(voice, -voice)
    assert level(heard[RATE // 10 :]) == pytest.approx(level(voice[RATE // 10 :]), rel=1e-3)
    assert np.array_equal(heard[RATE // 10 :], voice[RATE // 10 :])
    assert level(mixed(voice, np.float32(-0.6) * voice)[RATE // 10 :]) > 0.79 * level(voice)


def test_other_channels_are_averaged_as_they_are():
    left, right = noise(3, 1), noise(3, 2)
    for other in (left, right, np.zeros_like(left), np.float32(-0.2) * left + right):
        assert np.array_equal(mixed(left, other), (left + other) / np.float32(2))


def test_the_sign_follows_a_recording_that_changes():
    voice = noise(12, 3)
    sign = np.where(np.arange(len(voice)) < 6 * RATE, np.float32(-1), np.float32(1))
    heard = mixed(voice, sign * voice)
    assert np.array_equal(heard[8 * RATE :], voice[8 * RATE :])  # and it is no longer inverted


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from([1, 7, 319, 320, 321, 5000]), min_size=1, max_size=6), st.booleans())
def test_any_chunking_gives_the_same_samples(sizes, inverted):
    left = noise(0.5, 4)
    right = -left if inverted else noise(0.5, 5)
    assert np.array_equal(mixed(left, right, sizes), mixed(left, right))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_separate_channels_are_converted_as_if_each_were_alone(rate):
    channels = [noise(1, seed, rate) for seed in range(3)]
    both, alone = SeparateChannels([Resampler(rate) for _ in channels]), [Resampler(rate) for _ in channels]
    call = np.stack(channels, axis=1)
    heard = np.concatenate([*(both.push(call[at : at + 777]) for at in range(0, rate, 777)), both.flush()])
    for number, one in enumerate(alone):
        expected = np.concatenate([one.push(channels[number]), one.flush()])
        assert np.array_equal(heard[:, number], expected)
    with pytest.raises(AudioError, match=r"shape \(N, 3\), got \(10, 2\)"):
        SeparateChannels([Resampler(rate) for _ in channels]).push(call[:10, :2])


# --- films ----------------------------------------------------------------------------------------

FIVE_ONE = ("FL", "FR", "FC", "LFE", "BL", "BR")


def db(gain: float) -> float:
    return float(20 * np.log10(max(gain, 1e-9)))


@pytest.mark.parametrize(
    ("layout", "wanted_db"),
    [
        (FIVE_ONE, (-3, -3, 0, None, -6, -6)),
        (("FL", "FR", "FC", "LFE", "SL", "SR"), (-3, -3, 0, None, -6, -6)),
        (("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"), (-3, -3, 0, None, -6, -6, -6, -6)),
        (("FL", "FR", "FC"), (-3, -3, 0)),
        (("FL", "FR", "FC", "BC"), (-3, -3, 0, -6)),
        (("FL", "FR", "LFE"), (-6, -6, None)),
        (("FL", "FR", "BL", "BR"), (-6, -6, -9, -9)),
    ],
)
def test_a_film_is_mixed_by_bs775(layout: tuple[str, ...], wanted_db: tuple[float | None, ...]) -> None:
    for channel, wanted in enumerate(wanted_db):
        samples = np.zeros((1_000, len(layout)), np.float32)
        samples[:, channel] = 0.5
        mixed = Mixer(16_000, len(layout), film_gains(layout)).push(samples)
        assert np.allclose(mixed, mixed[0])
        if wanted is None:
            assert mixed[0] == 0
        else:
            assert db(mixed[0] / 0.5) == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize(
    "layout", [("FL", "FR"), ("NONE",) * 6, ("FC",), ("FL", "FR", "NONE"), ("A1", "A2", "A3")]
)
def test_channels_without_a_place_in_a_film_are_alike(layout: tuple[str, ...]) -> None:
    assert film_gains(layout) is None


@pytest.mark.parametrize("layout", [("FL", "FR", "LFE"), ("FL", "FR", "BL", "BR"), FIVE_ONE])
def test_inverted_fronts_of_a_film_do_not_cancel(layout: tuple[str, ...]) -> None:
    wave = 0.5 * np.sin(np.arange(32_000) / 7).astype(np.float32)
    samples = np.zeros((32_000, len(layout)), np.float32)
    samples[:, 0], samples[:, 1] = wave, -wave
    mixed = Mixer(16_000, len(layout), film_gains(layout)).push(samples)
    assert np.sqrt(np.mean(mixed[16_000:] ** 2)) > 0.9 * np.sqrt(np.mean(wave**2))


def test_chunks_change_no_sample_of_a_film() -> None:
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (9_000, 6)).astype(np.float32)
    whole = Mixer(16_000, 6, film_gains(FIVE_ONE)).push(samples)
    mixer = Mixer(16_000, 6, film_gains(FIVE_ONE))
    parts = [mixer.push(samples[first : first + 77]) for first in range(0, 9_000, 77)]
    assert np.array_equal(np.concatenate(parts), whole)
