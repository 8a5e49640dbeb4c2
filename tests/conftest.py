"""How tests are shared out among workers, and fixtures of several files, as a tiny checkpoint."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from paths import CORPORA

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, here and in what the tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

LONGEST = (
    "clients/test_web.py",
    "clients/test_desktop.py",
    "clients/test_python.py",
    "clients/test_agents.py",
    "server/test_connection.py",
    "server/test_stores.py",
    "cli/test_main.py",
    "inference/test_asr.py",
)
"""Files that take long, which workers begin with, so that none is left over at the end."""

WORDS = "i you he she we am are is so very not do what why no yes oh god happy sad hate love hello".split()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers of ``-n auto``: two for each processor, since many tests wait."""
    return min(2 * (os.cpu_count() or 1), 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give whole files to workers, but the tests of an ``xdist_group`` together to one."""
    if config.option.dist != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class ByFileAndGroup(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = super()._split_scope(nodeid)
            return nodeid.partition("::")[0] if group == nodeid else group

    return ByFileAndGroup(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have workers begin with groups and the longest files."""
    if not getattr(config.option, "loadgroup", False):  # set in workers
        return
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    last = len(order)
    items.sort(key=lambda item: -1 if item.get_closest_marker("xdist_group") else order.get(item.path, last))


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
    from erc_models.networks import checkpoint
    from erc_models.networks.si_lstm import SiLstm, SiLstmConfig
    from erc_models.networks.text_encoder import TextEncoder, TextEncoderConfig
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
