"""Fixtures that several test files share: a tiny checkpoint that loads and runs like a real one."""

from pathlib import Path

import pytest
from paths import CORPORA

WORDS = "i you he she we am are is so very not do what why no yes oh god happy sad hate love hello".split()


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
