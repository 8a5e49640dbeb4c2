"""The networks of speakers that ship: what their configurations say, whole, and each row by itself."""

import hashlib
import json

import numpy as np
import pytest

from stream_erc.exceptions import EngineUnavailable
from stream_erc.inference.onnx_network import open_network, shipped_network


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


def test_what_is_no_network_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(EngineUnavailable, match="expected the voice network, got no file"):
        open_network(path, "voice")
    path.write_bytes(b"weights" * 100)
    with pytest.raises(EngineUnavailable, match="expected the voice network, got") as caught:
        open_network(path, "voice")
    assert "\n" not in str(caught.value)
