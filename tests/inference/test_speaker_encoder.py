"""Speaker encoders: Kaldi's filter banks, and CAM++ whatever the batch, the gain and the silence around."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from paths import CORPORA
from safetensors.numpy import load_file

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import DiarizationConfig
from stream_erc.exceptions import DeviceError, EngineUnavailable
from stream_erc.inference.filter_banks import filter_banks
from stream_erc.inference.onnx_network import shipped_network
from stream_erc.inference.speaker_encoder import CampplusEncoder, HubEncoder, load_encoder

SECOND = SAMPLE_RATE


def buzz(pitch_hz, seconds, seed=0):
    """Make a voice-like sound: harmonics with a little noise, (N,) float32."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    x = sum(np.sin(2 * np.pi * pitch_hz * k * t) / k for k in range(1, 20))
    return (0.1 * x + 0.005 * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def campplus():
    return CampplusEncoder()


# --- filter banks ---------------------------------------------------------------------------------


def kaldi_definition(samples):
    """Compute Kaldi's filter banks by their definition in float64, (T, 80)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), 400)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - 0.97 * before) * np.hanning(400) ** 0.85  # Povey's window
    power = np.abs(np.fft.rfft(frames, 512)) ** 2

    def mel(hz):
        return 1127 * np.log(1 + hz / 700)

    edges = np.linspace(mel(20.0), mel(8_000.0), 82)
    bins = mel(np.arange(257) * 16_000 / 512)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.clip(np.minimum(rising, falling), 0, None)  # (80, 257)
    filters[:, 256] = 0.0  # Kaldi leaves out the Nyquist frequency
    return np.log(np.maximum(power @ filters.T, np.finfo(np.float32).eps))


def test_filter_banks_are_those_of_kaldi():
    samples = buzz(140, 1.3)
    came = filter_banks(samples)
    assert came.shape == ((len(samples) - 400) // 160 + 1, 80) and came.dtype == np.float32
    np.testing.assert_allclose(came, kaldi_definition(samples), atol=2e-3)
    assert np.array_equal(came, filter_banks(samples))  # no dither
    assert filter_banks(samples[:399]).shape == (0, 80) and filter_banks(samples[:400]).shape == (1, 80)


# --- CAM++ ----------------------------------------------------------------------------------------


def test_vectors_are_read_only_and_of_unit_length_whatever_the_batch(campplus):
    batch = [buzz(120, 0.8), buzz(200, 3.0), buzz(90, 7.3), buzz(250, 0.8, seed=1), buzz(300, 0.8, seed=2)]
    together = campplus.embed(batch)
    for samples, vector in zip(batch, together, strict=True):
        assert vector.shape == (campplus.dim,) and vector.dtype == np.float32 and not vector.flags.writeable
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert np.allclose(campplus.embed([samples])[0], vector, atol=1e-5)


def test_one_pass_gives_the_vector_and_the_states(campplus):
    samples = buzz(140, 1.7)
    vector, states = campplus.hear(samples)
    assert np.allclose(vector, campplus.embed([samples])[0], atol=1e-5)
    assert states.shape == (len(campplus.state_names),) == (2816,) and np.isfinite(states).all()
    assert len(set(campplus.state_names)) == 2816
    assert campplus.state_names[0] == "CAM++_tdnn_mean_0"
    assert campplus.state_names[128 + 3] == "CAM++_tdnn_deviation_3"
    assert campplus.state_names[-1] == "CAM++_transit3_deviation_511"
    deviations = np.array(["deviation" in name for name in campplus.state_names])
    assert (states[deviations] >= 0).all() and (states[~deviations] < 0).any()


def test_gain_and_silence_around_speech_hardly_change_the_voice(campplus):
    speech = buzz(150, 2.0)
    padded = np.concatenate([np.zeros(SECOND // 5), speech, np.zeros(SECOND)]).astype(np.float32)
    a, b, c = campplus.embed([speech, padded, speech * np.float32(0.01)])
    assert a @ b > 0.99 and a @ c > 0.999
    np.testing.assert_allclose(campplus.hear(speech)[1], campplus.hear(speech * np.float32(8))[1], atol=1e-3)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        buzz(120, 0.003),
        buzz(120, 0.3),
        np.zeros(2 * SECOND, np.float32),
        np.full(SECOND, np.nan, np.float32),
    ],
    ids=["empty", "3 ms", "0.3 s", "silence", "NaN"],
)
def test_too_little_speech_gives_none_and_spoils_no_other(campplus, samples):
    good = buzz(120, 1.0)
    nothing, vector = campplus.embed([samples, good])
    assert nothing is None
    assert np.allclose(vector, campplus.embed([good])[0], atol=1e-5)
    assert campplus.embed([samples]) == [None]
    none, states = campplus.hear(samples)
    assert none is None and (states is None) == (len(samples) != round(0.3 * SECOND))


def test_threads_share_the_weights_and_agree(campplus):
    voices = [buzz(100 + 20 * k, 0.5 + 0.1 * k) for k in range(8)]
    expected = [campplus.hear(v) for v in voices]
    with ThreadPoolExecutor(4) as threads:
        came = list(threads.map(campplus.hear, voices))
    for (a, x), (b, y) in zip(expected, came, strict=True):
        assert np.array_equal(a, b) and np.array_equal(x, y)


def test_voices_of_real_people_are_told_apart(campplus):
    soundfile = pytest.importorskip("soundfile")
    folder = CORPORA / "speechocean762" / "wav"
    if not folder.is_dir():
        pytest.skip("no speech recordings beside the checkout")
    people = sorted(p for p in folder.iterdir() if len(list(p.glob("*.flac"))) >= 3)[:5]
    clips = [(p.name, soundfile.read(f, dtype="float32")[0]) for p in people for f in sorted(p.glob("*"))[:3]]
    vectors = np.stack(campplus.embed([samples for _, samples in clips]))
    similarity, names = vectors @ vectors.T, np.array([name for name, _ in clips])
    same = (names[:, None] == names) & ~np.eye(len(names), dtype=bool)
    assert similarity[same].mean() > similarity[names[:, None] != names].mean() + 0.4


def test_a_missing_or_another_network_is_one_clear_line(tmp_path):
    with pytest.raises(EngineUnavailable, match=r"expected the CAM\+\+ network, got no file"):
        CampplusEncoder(tmp_path / "model.onnx")
    shutil.copy(shipped_network("segmentation-3.0"), tmp_path / "model.onnx")
    stages = json.loads(shipped_network("campplus").with_name("config.json").read_text())["stages"]
    (tmp_path / "config.json").write_text(json.dumps({"stages": stages}))
    with pytest.raises(EngineUnavailable, match=r"expected the CAM\+\+ network with .*, got .*log_prob"):
        CampplusEncoder(tmp_path / "model.onnx")
    for name in ("model.onnx", "config.json"):
        shutil.copy(shipped_network("campplus").with_name(name), tmp_path / name)
    with pytest.raises(EngineUnavailable, match="expected the directions of a nuisance, got"):
        CampplusEncoder(tmp_path / "model.onnx")
    with pytest.raises(EngineUnavailable, match="expected the network none at"):
        shipped_network("none")


# --- encoders from the hub ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_xvector(tmp_path_factory):
    """Save a randomly initialised WavLM x-vector model in a folder."""
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    path = tmp_path_factory.mktemp("xvector")
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8, 8, 8), conv_stride=(5, 8, 8), conv_kernel=(10, 8, 8), num_feat_extract_layers=3,
        tdnn_dim=(8, 8, 8, 8, 12), xvector_output_dim=10, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    torch.manual_seed(0)
    WavLMForXVector(config).save_pretrained(path)
    Wav2Vec2FeatureExtractor().save_pretrained(path)
    return path


def test_hub_encoder_loads_a_folder(tiny_xvector):
    encoder = load_encoder(DiarizationConfig(encoder=str(tiny_xvector)), "cpu")
    assert isinstance(encoder, HubEncoder) and encoder.dim == 10 and encoder.name == str(tiny_xvector)
    batch = [buzz(120, 0.5), buzz(200, 2.0), buzz(120, 0.1), buzz(90, 12.0)]
    short, middle, nothing, long = encoder.embed(batch)
    assert nothing is None
    for vector in (short, middle, long):
        assert vector.shape == (10,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.allclose(middle, encoder.embed([batch[1]])[0], atol=1e-6)
    assert not np.allclose(short, middle, atol=1e-4)
    vector, states = encoder.hear(batch[1])
    assert np.array_equal(vector, middle) and states is None


def test_a_model_without_speaker_head_is_refused(tiny_xvector, tmp_path):
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    config = WavLMConfig.from_pretrained(tiny_xvector)
    WavLMModel(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(EngineUnavailable, match="without weights for"):
        HubEncoder(str(tmp_path), torch.device("cpu"))


def test_a_missing_encoder_is_one_clear_line(tmp_path):
    with pytest.raises(
        EngineUnavailable, match="expected campplus, or a transformers x-vector model"
    ) as caught:
        load_encoder(DiarizationConfig(encoder=str(tmp_path / "none")), "cpu")
    assert "\n" not in str(caught.value)


def test_cuda_without_cuda_is_a_device_error():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(DeviceError, match="expected a CUDA device"):
        load_encoder(DiarizationConfig(), "cuda")


def test_what_emotions_change_is_taken_out_of_a_vector():
    samples = buzz(140, 2.0)
    (plain,) = CampplusEncoder(project=False).embed([samples])
    (vector,) = CampplusEncoder().embed([samples])
    directions = load_file(shipped_network("campplus").with_name("nuisance.safetensors"))["directions"]
    np.testing.assert_allclose(directions @ directions.T, np.eye(len(directions)), atol=1e-5)
    np.testing.assert_allclose(directions @ vector, 0, atol=1e-6)
    expected = plain - (directions @ plain) @ directions
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)
