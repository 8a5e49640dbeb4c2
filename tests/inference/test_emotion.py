import json
import shutil

import numpy as np
import pytest
import torch

from stream_erc.core.work import ClassifyTurn
from stream_erc.events import Features, Turn
from stream_erc.exceptions import CheckpointError, DeviceError
from stream_erc.inference.devices import compute_devices, on_gpu
from stream_erc.inference.emotion.graph_classifier import GraphClassifier
from stream_erc.inference.emotion.opening import open_classifier
from stream_erc.inference.emotion.torch_classifier import TorchClassifier

VOICE = np.random.default_rng(0).normal(size=88).astype(np.float32)


@pytest.fixture(scope="module", params=["torch", "graphs"])
def classifier(request):
    """A checkpoint in torch, and as graphs."""
    found = open_classifier(
        request.getfixturevalue({"torch": "tiny_checkpoint", "graphs": "tiny_graphs"}[request.param]), "cpu"
    )
    assert isinstance(found, TorchClassifier if request.param == "torch" else GraphClassifier)
    return found


def turn(index, speaker, text, state=None, past=(), voice=None):
    return ClassifyTurn(index, Turn(index, speaker, text), Features(voice), past, state)


def talk(classifier, turns):
    """Classify turns one after the other; return (emotions, states)."""
    state, past, emotions, states = None, (), [], []
    for i, (speaker, text, voice) in enumerate(turns):
        ((emotion, state),) = classifier.classify([turn(i, speaker, text, state, past, voice)])
        past = (*past, (speaker, text))[-8:]
        emotions.append(emotion)
        states.append(state)
    return emotions, states


TALK = [
    (0, "hello", None),
    (1, "what do you hate?", VOICE),
    (0, "", VOICE),
    (0, "i am so happy!", -VOICE),
    (1, "oh no", None),
]


def vector(emotion):
    return np.array(list(emotion.probabilities.values()))


def test_probabilities_are_of_the_labels_and_sum_to_one(classifier):
    for emotion in talk(classifier, TALK)[0]:
        assert tuple(emotion.probabilities) == classifier.labels
        assert vector(emotion).sum() == pytest.approx(1, abs=1e-5)
        assert (
            emotion.confidence == emotion.probabilities[emotion.label] == max(emotion.probabilities.values())
        )


def test_batches_of_conversations_equal_one_by_one(classifier):
    """Property 4: the other turns in a batch do not matter."""
    other = [
        (0, "why?", VOICE),
        (1, "so very sad", None),
        (2, "", VOICE * 2),
        (1, "yes", VOICE),
        (2, "i love you", None),
    ]
    alone = [talk(classifier, talked)[0] for talked in (TALK, other)]
    states, pasts = [None, None], [(), ()]
    for i, pair in enumerate(zip(TALK, other, strict=True)):
        works = [
            turn(i, who, text, state, past, voice)
            for (who, text, voice), state, past in zip(pair, states, pasts, strict=True)
        ]
        results = classifier.classify(works)
        states = [state for _, state in results]
        pasts = [(*past, (who, text)) for past, (who, text, _) in zip(pasts, pair, strict=True)]
        for (emotion, _), expected in zip(results, (alone[0][i], alone[1][i]), strict=True):
            np.testing.assert_allclose(vector(emotion), vector(expected), atol=1e-5)


def test_classifying_leaves_the_given_state_as_it_was(classifier):
    """Property 5: a provisional classification leaves no trace."""
    _, states = talk(classifier, TALK[:2])
    before = classifier.state_to_bytes(states[-1])
    first = classifier.classify([turn(2, 0, "oh god", states[-1])])[0][0]
    assert classifier.state_to_bytes(states[-1]) == before
    assert classifier.classify([turn(2, 0, "oh god", states[-1])])[0][0] == first


def test_a_state_survives_bytes_bit_for_bit(classifier):
    """Property 7, for the conversation state."""
    emotions, states = talk(classifier, TALK)
    blob = classifier.state_to_bytes(states[2])
    state = classifier.state_from_bytes(blob)
    past = tuple((who, text) for who, text, _ in TALK[:3])
    ((again, _),) = classifier.classify([turn(3, 0, TALK[3][1], state, past, TALK[3][2])])
    assert again == emotions[3]
    with pytest.raises(CheckpointError, match="expected a conversation state"):
        classifier.state_from_bytes(b"nonsense")


def test_words_voice_speaker_and_history_each_matter(classifier):
    base = vector(talk(classifier, TALK)[0][-1])
    for change in (
        [*TALK[:-1], (1, "i love you", None)],
        [*TALK[:-1], (1, "oh no", VOICE)],
        [*TALK[:-1], (0, "oh no", None)],
        [(0, "i hate you", None), *TALK[1:]],
    ):
        assert np.abs(vector(talk(classifier, change)[0][-1]) - base).max() > 1e-6


def test_a_missing_voice_is_not_a_voice_of_zeros(classifier):
    absent, zeros = (
        vector(classifier.classify([turn(0, 0, "hello", voice=v)])[0][0])
        for v in (None, np.zeros(88, np.float32))
    )
    unmeasured = vector(
        classifier.classify([turn(0, 0, "hello", voice=np.full(88, np.nan, np.float32))])[0][0]
    )
    assert np.abs(absent - zeros).max() > 1e-6
    np.testing.assert_array_equal(absent, unmeasured)


def test_what_a_turn_has_decides_how_sure_it_is(tiny_checkpoint, tmp_path):
    folder = tmp_path / "calibrated"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config["temperatures"] = {"10": [0.25] * 7, "01": [2.0] * 7}  # of words alone, of a voice alone
    (folder / "config.json").write_text(json.dumps(config))
    calibrated = talk(open_classifier(folder, "cpu"), TALK)[0]
    plain = talk(open_classifier(tiny_checkpoint, "cpu"), TALK)[0]
    for (_, text, voice), ours, before in zip(TALK, calibrated, plain, strict=True):
        temperature = {(True, False): 0.25, (False, True): 2.0, (True, True): 0.5}[
            bool(text), voice is not None
        ]
        power = vector(before) ** (0.5 / temperature)  # the tiny checkpoint's own temperature is 0.5
        np.testing.assert_allclose(vector(ours), power / power.sum(), rtol=1e-4)
        assert ours.label == before.label


def test_a_checkpoint_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"expected a checkpoint's folder or one of the shipped names \(.*got 'nope'"
    ):
        open_classifier("nope", "cpu")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_classifier(tmp_path, "cpu")


@pytest.mark.parametrize("harm", ["truncated", "labels", "encoder"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tiny_checkpoint, tmp_path, harm):
    folder = tmp_path / "harmed"
    shutil.copytree(tiny_checkpoint, folder)
    if harm == "truncated":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif harm == "labels":
        config = json.loads((folder / "config.json").read_text())
        config["labels"] = ["joy"]
        (folder / "config.json").write_text(json.dumps(config))
    else:
        shutil.rmtree(folder / "text_encoder")
    with pytest.raises(CheckpointError) as caught:
        open_classifier(folder, "cpu")
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)


@pytest.mark.parametrize("harm", ["weights", "encoder", "tokens"])
def test_damaged_graphs_are_refused_in_one_line(tiny_graphs, tmp_path, harm):
    folder = tmp_path / "harmed"
    shutil.copytree(tiny_graphs, folder)
    (encoder,) = folder.rglob("encoder.onnx")
    path = {
        "weights": folder / "model.safetensors",
        "encoder": encoder.parent / "model.safetensors",
        "tokens": encoder.parent / "tokenizer.json",
    }[harm]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(CheckpointError) as caught:
        open_classifier(folder, "cpu")
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)


def test_graphs_of_other_settings_are_left_aside(tiny_graphs, tmp_path):
    """The calibration is within the graph: with another one the checkpoint runs with torch."""
    folder = tmp_path / "changed"
    shutil.copytree(tiny_graphs, folder)
    assert isinstance(open_classifier(folder, "cpu"), GraphClassifier)
    config = json.loads((folder / "config.json").read_text())
    config["temperature"] = 2.0
    (folder / "config.json").write_text(json.dumps(config))
    assert isinstance(open_classifier(folder, "cpu"), TorchClassifier)


@pytest.mark.parametrize("name", ["step.onnx", "voice.onnx"])
def test_a_graph_that_is_cut_off_is_left_aside(tiny_graphs, tmp_path, name):
    folder = tmp_path / "cut"
    shutil.copytree(tiny_graphs, folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) * 2 // 3])
    assert isinstance(open_classifier(folder, "cpu"), TorchClassifier)


def test_devices():
    assert compute_devices()[0].startswith("cpu")
    assert not on_gpu("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="expected a CUDA device"):
            on_gpu("cuda")
