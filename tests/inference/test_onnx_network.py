"""The networks of speakers that ship: what their configurations say, whole, and each row by itself."""

import hashlib
import json

import numpy as np
import pytest

from stream_erc.exceptions import EngineUnavailable
from stream_erc.inference import devices
from stream_erc.inference.onnx_network import CUDA, open_network, runs_on_gpu, shipped_network


@pytest.fixture(scope="module", params=["campplus", "segmentation-3.0"])
def name(request):
    return request.param


def test_the_weights_are_those_of_the_configuration(name):
    path = shipped_network(name)
    config = json.loads(path.with_name("config.json").read_text())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == config["sha256"]
    for beside in ("README.md", "LICENSE"):
        assert path.with_name(beside).is_file()


@pytest.mark.parametrize("frames", [1, 2, 57, 199, 200, 201, 430])
def test_campplus_takes_any_number_of_frames(frames):
    network = open_network(shipped_network("campplus"), "CAM++")
    x = np.random.default_rng(0).standard_normal((3, frames, 80), dtype=np.float32)
    together, states = network.run(["embedding", "states"], {"filter_banks": x})
    assert together.shape == (3, 192) and states.shape == (3, 2816)
    for k in range(3):
        (alone,) = network.run(["embedding"], {"filter_banks": x[k : k + 1]})
        np.testing.assert_allclose(alone[0], together[k], atol=1e-4)


def test_segmentation_gives_probabilities_for_each_frame():
    path = shipped_network("segmentation-3.0")
    network, config = (
        open_network(path, "segmentation"),
        json.loads(path.with_name("config.json").read_text()),
    )
    samples = config["window_samples"]
    x = 0.1 * np.random.default_rng(0).standard_normal((2, samples), dtype=np.float32)
    (found,) = network.run(["log_probabilities"], {"samples": x})
    frames = (samples - config["frame_length_samples"]) // config["frame_step_samples"] + 1
    assert found.shape == (2, frames, len(config["sets"])) == (2, 589, 7)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, atol=1e-5)
    (alone,) = network.run(["log_probabilities"], {"samples": x[1:]})
    np.testing.assert_allclose(alone[0], found[1], atol=1e-4)
    (louder,) = network.run(["log_probabilities"], {"samples": 5 * x[1:]})
    np.testing.assert_allclose(louder, alone, atol=1e-2)  # it normalises the level itself
    (short,) = network.run(["log_probabilities"], {"samples": x[:1, :8_000]})
    assert short.shape == (1, (8_000 - 991) // 270 + 1, 7)


@pytest.mark.skipif(runs_on_gpu(), reason="ONNX Runtime for CUDA is installed")
def test_without_onnxruntime_for_cuda_the_cpu_computes_and_says_so(caplog, monkeypatch):
    network = open_network(shipped_network("segmentation-3.0"), "segmentation", gpu=True)
    assert network.get_providers() == ["CPUExecutionProvider"]
    assert "segmentation runs on the CPU" in caplog.text and "onnxruntime-gpu" in caplog.text
    caplog.clear()
    open_network(shipped_network("segmentation-3.0"), "segmentation")
    assert not caplog.text
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "A GPU")
    assert devices.compute_devices()[1] == "cuda:0 (A GPU; voices on the CPU: without onnxruntime-gpu)"
    monkeypatch.setattr(devices, "runs_on_gpu", lambda: True)
    assert devices.compute_devices()[1] == "cuda:0 (A GPU)"


@pytest.mark.gpu
@pytest.mark.skipif(not runs_on_gpu(), reason="no ONNX Runtime for CUDA here")
def test_the_gpu_gives_what_the_cpu_gives():
    x = np.random.default_rng(0).standard_normal((1, 199, 80), dtype=np.float32)
    found = []
    for gpu in (False, True):
        network = open_network(shipped_network("campplus"), "CAM++", gpu=gpu)
        assert (CUDA in network.get_providers()) == gpu
        found.append(network.run(["embedding"], {"filter_banks": x})[0])
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)


def test_what_is_no_network_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(EngineUnavailable, match="expected the voice network, got no file"):
        open_network(path, "voice")
    path.write_bytes(b"weights" * 100)
    with pytest.raises(EngineUnavailable, match="expected the voice network, got") as caught:
        open_network(path, "voice")
    assert "\n" not in str(caught.value)
