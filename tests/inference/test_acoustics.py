"""Acoustic features: openSMILE's own numbers at any gain, and NaN for silence."""

import dataclasses
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stream_erc.events import Samples
from stream_erc.exceptions import CheckpointError, EngineUnavailable
from stream_erc.inference.acoustics import (
    SET_DIMS,
    AcousticExtractor,
    FeatureSpec,
    check,
    hash_names,
    load_extractor,
    to_int16,
)
from stream_erc.inference.level import at_level, speech_level_dbfs
from stream_erc.inference.prosody import DESCRIPTORS, measure
from stream_erc.inference.speaker_encoder import CampplusEncoder


def voice(seconds: float = 1.0, f0: float = 140.0, level: float = 0.1, seed: int = 0) -> Samples:
    """Make a buzz with gliding pitch, syllables and breath: close enough to speech for every functional."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(f0 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * t)
    breath = 0.02 * np.random.default_rng(seed).standard_normal(len(t))
    return (level * (buzz * syllables + breath)).astype(np.float32)


@pytest.fixture(scope="module", params=sorted(SET_DIMS))
def extractor(request: pytest.FixtureRequest) -> AcousticExtractor:
    return AcousticExtractor(request.param)


@pytest.fixture(scope="module")
def egemaps() -> AcousticExtractor:
    return AcousticExtractor("eGeMAPSv02", prosody=DESCRIPTORS)


# --- the extractor --------------------------------------------------------------------------------


def test_the_sets_have_their_known_sizes(extractor: AcousticExtractor) -> None:
    assert len(extractor.names) == extractor.spec.dim == SET_DIMS[extractor.spec.set]
    assert len(set(extractor.names)) == len(extractor.names)
    assert extractor(voice()).shape == (extractor.spec.dim,)
    assert np.isfinite(extractor(voice())).all()


def test_numbers_are_those_of_the_opensmile_package(extractor: AcousticExtractor) -> None:
    import opensmile

    smile = opensmile.Smile(getattr(opensmile.FeatureSet, extractor.spec.set))
    as_recorded = AcousticExtractor(extractor.spec.set, level_dbfs=None)
    for seed in (1, 2):  # the second one through an openSMILE that has been reset
        samples = voice(seed=seed)
        expected = smile.process_signal(samples, 16_000)
        assert tuple(expected.columns) == extractor.names
        assert np.array_equal(as_recorded(samples), expected.to_numpy()[0])


@pytest.mark.parametrize("gain", [0.003, 0.25, 8.0])
def test_gain_changes_nothing(extractor: AcousticExtractor, gain: float) -> None:
    samples = voice(level=0.05)
    expected, came = extractor(samples), extractor(samples * np.float32(gain))
    scale = np.abs(expected) + 1e-3
    assert np.mean(np.abs(expected - came) / scale < 1e-2) > 0.99  # but for the last bits of 16


def test_a_segment_leaves_nothing_behind(extractor: AcousticExtractor) -> None:
    first = extractor(voice(seed=1))
    extractor(voice(2.5, f0=300))
    extractor(voice(0.05))
    assert np.array_equal(extractor(voice(seed=1)), first)


def test_threads_agree_with_one_thread(egemaps: AcousticExtractor) -> None:
    voices = [voice(0.4, f0=100 + 20 * k) for k in range(12)]
    expected = [egemaps(v) for v in voices]
    with ThreadPoolExecutor(4) as threads:
        came = list(threads.map(egemaps, voices))
    assert all(np.array_equal(a, b) for a, b in zip(expected, came, strict=True))


@pytest.mark.parametrize("n", [0, 1, 48, 959])
def test_less_than_60_ms_is_not_measured(extractor: AcousticExtractor, n: int) -> None:
    assert np.isnan(extractor(voice()[:n])).all()


def test_60_ms_is_measured(extractor: AcousticExtractor) -> None:
    assert np.isfinite(extractor(voice()[:960])).all()


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_silence_is_not_measured(egemaps: AcousticExtractor, level: float) -> None:
    assert np.isnan(egemaps(voice(level=level))).all()


def test_a_tone_has_prosody_only_as_far_as_it_can_be_measured(egemaps: AcousticExtractor) -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * np.float32(0.01)
    values = egemaps(noise)
    assert np.isfinite(values[:88]).all()
    measured = dict(zip(egemaps.names, values, strict=True))
    assert np.isnan([measured[n] for n in ("avg_pitch", "pitch_std", "pitch_range")]).all()
    assert measured["duration"] == pytest.approx(1.0)


def test_samples_that_are_no_numbers_count_as_silence(egemaps: AcousticExtractor) -> None:
    samples = voice()
    holes, zeros = samples.copy(), samples.copy()
    holes[3000:3100], zeros[3000:3100] = np.nan, 0.0
    assert np.array_equal(egemaps(holes), egemaps(zeros))
    holes[3000:3100] = np.inf
    assert np.isfinite(egemaps(holes)).all()


def test_full_scale_does_not_wrap_around() -> None:
    pcm = np.frombuffer(to_int16(np.array([-9, -1, 0, 0.5, 1, 9], dtype=np.float32)), dtype="<i2")
    assert pcm.tolist() == [-32768, -32768, 0, 16384, 32767, 32767]


def test_some_prosody_follows_the_functionals(egemaps: AcousticExtractor) -> None:
    some = AcousticExtractor("eGeMAPSv02", prosody=("mean_hnr", "duration"))
    all_of_it = dict(zip(egemaps.names, egemaps(voice()), strict=True))
    came = some(voice())
    assert some.spec.dim == 90
    assert came[88:].tolist() == [all_of_it["mean_hnr"], all_of_it["duration"]]


# --- voice states ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def campplus() -> CampplusEncoder:
    return CampplusEncoder()


@pytest.fixture(scope="module")
def whole(campplus: CampplusEncoder) -> AcousticExtractor:
    return AcousticExtractor(
        "eGeMAPSv02", voice_states="CAM++", prosody=DESCRIPTORS, speaker_encoder=campplus
    )


def test_voice_states_stand_between_functionals_and_prosody(
    whole: AcousticExtractor, egemaps: AcousticExtractor, campplus: CampplusEncoder
) -> None:
    samples = voice()
    came = whole(samples)
    assert whole.spec.dim == len(whole.names) == len(came) == 88 + 2816 + 8
    assert whole.spec.voice_states == "CAM++" and whole.names[88:-8] == campplus.state_names
    assert np.array_equal(came[:88], egemaps(samples)[:88])
    assert np.array_equal(came[88:-8], campplus.hear(samples)[1])
    assert np.array_equal(came[-8:], measure(samples))
    assert np.isfinite(came).all()
    louder = whole(samples * np.float32(8))  # whatever the gain
    np.testing.assert_allclose(louder[88:-8], came[88:-8], atol=1e-3)


def test_states_that_came_with_the_voice_vector_are_taken(whole: AcousticExtractor) -> None:
    samples, states = voice(), np.arange(2816, dtype=np.float32)
    assert np.array_equal(whole(samples, states)[88:-8], states)
    assert np.array_equal(whole(samples, states)[:88], whole(samples)[:88])


def test_without_functionals_opensmile_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    plain = AcousticExtractor(voice_states="CAM++", prosody=DESCRIPTORS)
    assert (plain.spec.set, plain.spec.opensmile, plain.spec.dim) == ("", "", 2816 + 8)
    assert np.isfinite(plain(voice())).all()
    assert FeatureSpec.from_dict(json.loads(json.dumps(plain.spec.to_dict()))) == plain.spec
    with pytest.raises(EngineUnavailable, match="functionals need the package opensmile"):
        AcousticExtractor("eGeMAPSv02")


def test_less_than_100_ms_has_functionals_but_no_voice_states(whole: AcousticExtractor) -> None:
    came = whole(voice()[:1_500])
    assert np.isfinite(came[:88]).all() and np.isnan(came[88:]).all()
    assert np.isfinite(whole(voice()[:1_600])[88:-8]).all()
    for samples in (voice(0.01), np.zeros(16_000, np.float32), np.full(16_000, np.nan, np.float32)):
        assert np.isnan(whole(samples)).all()


def test_threads_share_the_weights_and_agree(whole: AcousticExtractor) -> None:
    voices = [voice(0.4 + 0.1 * k, f0=100 + 20 * k) for k in range(8)]
    expected = [whole(v) for v in voices]
    with ThreadPoolExecutor(4) as threads:
        came = list(threads.map(whole, voices))
    for a, b in zip(expected, came, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)


# --- the level ------------------------------------------------------------------------------------


def test_speech_level_does_not_count_pauses() -> None:
    samples = voice()
    padded = np.concatenate([np.zeros(8_000), samples, np.zeros(16_000)]).astype(np.float32)
    assert speech_level_dbfs(padded) == pytest.approx(speech_level_dbfs(samples), abs=0.5)
    assert speech_level_dbfs(at_level(samples, -26.0)) == pytest.approx(-26.0, abs=1e-3)
    assert speech_level_dbfs(np.zeros(16_000, dtype=np.float32)) == -np.inf


# --- the specification ----------------------------------------------------------------------------

SPEC = FeatureSpec(
    set="eGeMAPSv02",
    level="functionals",
    sample_rate_hz=16_000,
    dim=88,
    names_sha256=hash_names(["a", "b"]),
    opensmile="2.6.0",
)


def test_a_spec_survives_json() -> None:
    spec = dataclasses.replace(SPEC, prosody=DESCRIPTORS, dim=96)
    assert FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert FeatureSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC
    hearing = dataclasses.replace(SPEC, voice_states="CAM++")
    assert FeatureSpec.from_dict(json.loads(json.dumps(hearing.to_dict()))) == hearing


def test_an_older_checkpoint_has_no_voice_states() -> None:
    table = SPEC.to_dict()
    del table["voice_states"]
    assert FeatureSpec.from_dict(table) == SPEC
    assert SPEC.voice_states == ""


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"set": "ComParE_2016"}, "expected set ComParE_2016, the runtime computes eGeMAPSv02"),
        ({"dim": 6373}, "expected dim 6373, the runtime computes 88"),
        ({"sample_rate_hz": 8000}, "expected sample_rate_hz 8000"),
        ({"names_sha256": "0" * 64}, "expected names_sha256 000000"),
        ({"opensmile": "2.5.1"}, "expected opensmile 2.5.1, the runtime computes 2.6.0"),
        ({"speech_level_dbfs": None}, "expected speech_level_dbfs none, the runtime computes -26.0"),
        ({"prosody": ("duration",)}, "expected prosody duration, the runtime computes none"),
        ({"voice_states": "CAM++"}, "expected voice_states CAM++, the runtime computes none"),
    ],
)
def test_a_checkpoint_of_other_features_is_refused(change: dict[str, object], shown: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        check(SPEC, dataclasses.replace(SPEC, **change))  # type: ignore[arg-type]
    assert shown in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_patch_release_of_opensmile_is_the_same() -> None:
    check(SPEC, dataclasses.replace(SPEC, opensmile="2.6.9"))


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ({}, "expected the keys set"),
        (SPEC.to_dict() | {"dim": "88"}, "dim: expected int, got '88'"),
        (SPEC.to_dict() | {"dim": True}, "dim: expected int, got True"),
        (SPEC.to_dict() | {"extra": 1}, "extra"),
        (SPEC.to_dict() | {"voice_states": None}, "voice_states: expected str, got None"),
    ],
)
def test_a_damaged_spec_is_refused(table: dict[str, object], shown: str) -> None:
    with pytest.raises(CheckpointError, match="feature spec") as caught:
        FeatureSpec.from_dict(table)
    assert shown in str(caught.value)


def test_voice_states_are_loaded_for_their_spec(whole: AcousticExtractor, campplus: CampplusEncoder) -> None:
    assert load_extractor(whole.spec, campplus).spec == whole.spec
    other = dataclasses.replace(whole.spec, voice_states="GE2E")  # of former checkpoints
    with pytest.raises(CheckpointError, match=r"voice states: expected none or CAM\+\+, got 'GE2E'"):
        load_extractor(other, campplus)


def test_an_extractor_is_loaded_for_its_spec_or_not_at_all(egemaps: AcousticExtractor) -> None:
    loaded = load_extractor(egemaps.spec)
    assert loaded.spec == egemaps.spec
    assert np.array_equal(loaded(voice()), egemaps(voice()))
    for change in ({"set": "IS09"}, {"names_sha256": "0" * 64}, {"prosody": ("speed",)}):
        with pytest.raises(CheckpointError):
            load_extractor(dataclasses.replace(egemaps.spec, **change))  # type: ignore[arg-type]
