"""The shipped graphs equal the networks that they were exported from."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from erc_models.formats.text_windows import TextWindow
from paths import ROOT

from stream_erc.core.work import ClassifyTurn
from stream_erc.events import Features, Turn
from stream_erc.inference.emotion.graph_classifier import GraphClassifier
from stream_erc.inference.emotion.opening import open_classifier
from stream_erc.inference.emotion.shipped import shipped_models
from stream_erc.inference.emotion.torch_classifier import TorchClassifier

NAMES = [model.name for model in shipped_models()]
RNG = np.random.default_rng(11)


class Words:
    """In the place of a text encoder: random features for each text."""

    def __init__(self, dim):
        self.dim, self.known = dim, {}

    def __call__(self, text):
        return self.known.setdefault(text, RNG.normal(size=self.dim).astype(np.float32))

    def tokenize(self, windows: list[TextWindow]):
        return {"rows": torch.tensor(np.array([self(window.text) for window in windows]))}


class Read(torch.nn.Module):
    """A `Words` as torch's classifier calls its encoder."""

    def __init__(self, words):
        super().__init__()
        self.words, self.tokenize = words, words.tokenize

    def forward(self, rows):
        return rows


@pytest.fixture(scope="module", params=NAMES)
def pair(request):
    """A checkpoint in torch and as graphs, reading the same features for the same words."""
    plain, graphs = TorchClassifier(request.param), open_classifier(request.param, "cpu")
    assert isinstance(graphs, GraphClassifier)
    words = Words(graphs._text_dim)
    plain._text_encoder = Read(words)
    graphs._read = lambda works: np.array(
        [words(work.turn.read) if work.turn.read else np.zeros(words.dim, np.float32) for work in works]
    )
    return plain, graphs


def dialogue(spec, turns, speakers, seed):
    """Return turns with words, a voice, both, or (a cough) neither, of several speakers."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(turns):
        voice = None
        if spec is not None and rng.random() < 0.7:
            voice = rng.normal(size=spec.dim).astype(np.float32) * 3
            voice[rng.random(spec.dim) < 0.1] = np.nan
        text = f"words {i} of {seed}" if rng.random() < 0.8 else ""
        found.append((int(rng.integers(speakers)), text, voice))
    return found


def talk(classifier, turns):
    state, rows = None, []
    for i, (who, text, voice) in enumerate(turns):
        work = ClassifyTurn(i, Turn(i, who, text), Features(voice), (), state)
        ((emotion, state),) = classifier.classify([work])
        rows.append(list(emotion.probabilities.values()))
    return np.array(rows), state


def test_a_conversation_through_graphs_equals_one_through_torch(pair):
    plain, graphs = pair
    turns = dialogue(graphs.acoustic_spec, 40, 5, 1)
    (expected, before), (got, after) = talk(plain, turns), talk(graphs, turns)
    np.testing.assert_allclose(got, expected, atol=2e-5)
    arrays = {name: tensor.numpy() for name, tensor in before.tensors().items()}
    assert arrays.keys() == after.arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(after.arrays[name], array, atol=1e-3, err_msg=name)


def test_a_state_goes_from_one_to_the_other(pair):
    """A session that began on a machine with a GPU goes on at one without."""
    plain, graphs = pair
    turns = dialogue(graphs.acoustic_spec, 6, 3, 2)
    for first, second in ((plain, graphs), (graphs, plain)):
        _, state = talk(first, turns)
        moved = second.state_from_bytes(first.state_to_bytes(state))
        work = ClassifyTurn(6, Turn(6, 1, "words"), Features(None), (), None)
        rows = [
            list(
                classifier.classify([ClassifyTurn(6, work.turn, work.features, (), s)])[0][
                    0
                ].probabilities.values()
            )
            for classifier, s in ((first, state), (second, moved))
        ]
        np.testing.assert_allclose(rows[0], rows[1], atol=2e-5)


def test_conversations_in_one_batch_equal_each_alone(pair):
    _, graphs = pair
    talks = [dialogue(graphs.acoustic_spec, 8, speakers, 10 + speakers) for speakers in (1, 2, 6)]
    alone = [talk(graphs, turns)[0] for turns in talks]
    states = [None] * len(talks)
    for i in range(8):
        works = [
            ClassifyTurn(i, Turn(i, turns[i][0], turns[i][1]), Features(turns[i][2]), (), state)
            for turns, state in zip(talks, states, strict=True)
        ]
        found = graphs.classify(works)
        states = [state for _, state in found]
        for rows, (emotion, _) in zip(alone, found, strict=True):
            np.testing.assert_allclose(list(emotion.probabilities.values()), rows[i], atol=1e-5)


def test_the_encoder_in_integers_reads_what_the_network_reads():
    plain, graphs = TorchClassifier(NAMES[0]), open_classifier(NAMES[0], "cpu")
    past = ((1, "What happened to you?"), (0, "Nothing."))
    texts = ["I hate this!", "", "Oh my god, that is wonderful news.", "no", "so " * 200]
    works = [ClassifyTurn(i, Turn(i, 0, text), Features(None), past, None) for i, text in enumerate(texts)]
    expected, got = plain._inputs(works).text.detach().numpy(), graphs._read(works)
    assert not got[1].any()
    for ours, theirs in zip(got[[0, 2, 3, 4]], expected[[0, 2, 3, 4]], strict=True):
        assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.98
    alone = [graphs._read([work])[0] for work in works]
    np.testing.assert_array_equal(got, np.array(alone))


def test_graphs_run_without_torch():
    """What a replay on the CPU does with a checkpoint imports neither torch nor transformers."""
    code = (
        "import sys\n"
        "from stream_erc.core.work import ClassifyTurn\n"
        "from stream_erc.events import Features, Turn\n"
        "from stream_erc.inference.emotion.opening import open_classifier\n"
        "((emotion, state),) = open_classifier('si-lstm', 'cpu').classify("
        "[ClassifyTurn(0, Turn(0, 0, 'I hate this'), Features(None), (), None)])\n"
        "print(*sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
