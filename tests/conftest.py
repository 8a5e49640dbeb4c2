"""How tests are shared out among workers, and fixtures of several files, as a tiny checkpoint."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from paths import CORPORA

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, here and in what the tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

REAL_ENGINE, RECONNECTING = "the real engine", "the web page, losing nothing"
TOGETHER = {
    "test_desktop.py::test_the_sample_with_the_real_engine": REAL_ENGINE,
    "test_web.py::test_the_sample_with_the_real_engine": REAL_ENGINE,
    "test_openai.py::test_the_sample_with_the_real_engine": REAL_ENGINE,
    "test_openai.py::test_a_long_recording_does_not_hold_up_a_short_one": REAL_ENGINE,
    "test_python.py::test_the_example_of_the_readme_runs": REAL_ENGINE,
    "test_live_equals_replay.py::test_property_2_live_equals_replay": REAL_ENGINE,
    "test_channels.py::test_words_and_features_are_those_of_each_channel_alone": REAL_ENGINE,
    "test_channels.py::test_a_turn_is_classified_after_the_turns_of_the_other_channel": REAL_ENGINE,
    "test_web.py::test_cut_connections_lose_nothing": RECONNECTING,
    "test_web.py::test_a_reload_shows_everything_again_and_sends_what_was_kept": RECONNECTING,
    "test_web.py::test_a_reload_while_a_file_plays_says_what_is_missing": RECONNECTING,
    "test_web.py::test_a_session_that_is_taken_over_is_left_alone": RECONNECTING,
    "test_web.py::test_a_server_that_restarts_without_the_session_is_said_so": RECONNECTING,
}
"""Tests that one worker runs, since they share what is costly or would keep a worker at one file for long."""

LONGEST = (
    REAL_ENGINE,
    "tests/clients/test_web.py",
    "tests/clients/test_desktop.py",
    "tests/clients/test_frameworks.py",
    "tests/clients/test_agents.py",
    "tests/clients/test_python.py",
    RECONNECTING,
    "tests/cli/test_main.py",
    "tests/server/test_stores.py",
    "tests/inference/test_asr.py",
    "tests/server/test_connection.py",
    "tests/api/test_replay.py",
)
"""What workers begin with, so that nothing long is left over at the end."""

WORDS = "i you he she we am are is so very not do what why no yes oh god happy sad hate love hello".split()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers of ``-n auto``: two for each processor, since many tests wait."""
    return min(2 * (os.cpu_count() or 1), 8)


def share_of(nodeid: str) -> str:
    """Return what the test belongs to that one worker runs as a whole: a row of `TOGETHER`, or its file."""
    path, _, test = nodeid.partition("::")
    return TOGETHER.get(f"{Path(path).name}::{test.partition('[')[0]}", path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out by `share_of`."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class LoadShareScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

    return LoadShareScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have workers begin with what takes longest."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {share: number for number, share in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(share_of(item.nodeid), len(place)))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The corpora beside the checkout; tests that read them skip where there are none."""
    if not CORPORA.is_dir():
        pytest.skip("the corpora (../shared/data) are not here")
    return CORPORA


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights, a two-layer text encoder and eGeMAPS functionals."""
    import torch
    from erc_models.data.datasets import MELD_LABELS
    from erc_models.formats.text_windows import TextEncoderConfig
    from erc_models.networks import checkpoint
    from erc_models.networks.si_lstm import SiLstm, SiLstmConfig
    from erc_models.networks.text_encoder import TextEncoder
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from stream_erc.inference.acoustics import AcousticExtractor

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ":",
        ".",
        "?",
        "!",
        *WORDS,
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    vocabulary += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"]
    words = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    words.write_text("\n".join(dict.fromkeys(vocabulary)))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    bert = BertModel(BertConfig(vocab_size=len(vocabulary), **sizes))
    encoder = TextEncoder(bert, BertTokenizerFast(str(words)), TextEncoderConfig(past_turns=3))
    spec = AcousticExtractor("eGeMAPSv02").spec
    network = SiLstm(SiLstmConfig(text_dim=32, audio_groups=(spec.dim,), classes=7, width=16, heads=2))
    made = checkpoint.Checkpoint(
        name="tiny",
        architecture="si_lstm",
        network=network,
        labels=MELD_LABELS,
        temperature=0.5,
        features={"acoustic": spec.to_dict()},
        text_encoder=encoder,
        about={"summary": "random weights"},
    )
    checkpoint.save(folder, made, "# tiny\n")
    return folder


@pytest.fixture(scope="session")
def tiny_graphs(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with its graphs."""
    from erc_models.export.graphs import export

    folder = tmp_path_factory.mktemp("graphs") / "tiny"
    shutil.copytree(tiny_checkpoint, folder)
    export(folder)
    return folder
