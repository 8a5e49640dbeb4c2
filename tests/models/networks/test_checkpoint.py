import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from erc_models.formats.checkpoint_files import CheckpointProblem, build, resolve
from erc_models.formats.text_windows import TextEncoderConfig, TextWindow
from erc_models.networks.checkpoint import Checkpoint, load, save
from erc_models.networks.si_lstm import SiLstm, SiLstmConfig
from erc_models.networks.streaming import TurnInput
from erc_models.networks.text_encoder import TextEncoder
from safetensors.torch import load_file, save_file

CONFIG = SiLstmConfig(text_dim=16, audio_groups=(5, 2), classes=3, width=8, feedforward=8)
LABELS = ("neutral", "joy", "anger")
WINDOWS = [TextWindow(((0, "well hello"),), 1, "hello there"), TextWindow((), 0, "no")]


def tiny_text_encoder(folder: Path) -> TextEncoder:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", ":", "hello", "there", "no", "well"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    size = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return TextEncoder(BertModel(size), tokenizer, TextEncoderConfig(past_turns=2)).eval()


@pytest.fixture
def network() -> SiLstm:
    torch.manual_seed(0)
    model = SiLstm(CONFIG).eval()
    model.set_audio_normalisation(torch.tensor([1e5, 0, -3e6, 1, 2, 3, 4.0]), torch.arange(1, 8) * 1e5)
    return model


@pytest.fixture
def folder(network: SiLstm, tmp_path: Path) -> Path:
    about = {"dev": {"weighted_f1": 12.5}}
    kept = Checkpoint("", "si_lstm", network, LABELS, 1.5, {"acoustic": {"dim": 7}}, about=about)
    save(tmp_path / "tiny", kept, "# Tiny\n")
    return tmp_path / "tiny"


def turn() -> TurnInput:
    generator = torch.Generator().manual_seed(1)
    text, audio = torch.randn(1, 16, generator=generator), 1e5 * torch.randn(1, 7, generator=generator)
    return TurnInput(text, audio, torch.ones(1, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_saved_is_loaded(folder: Path, network: SiLstm) -> None:
    loaded = load(folder)
    assert (loaded.name, loaded.architecture, loaded.labels) == ("tiny", "si_lstm", LABELS)
    assert loaded.temperature == 1.5
    assert loaded.features == {"acoustic": {"dim": 7}}
    assert loaded.about == {"dev": {"weighted_f1": 12.5}}
    assert loaded.network.config == CONFIG
    assert (folder / "README.md").read_text() == "# Tiny\n"
    for name, weight in network.state_dict().items():
        got = loaded.network.state_dict()[name]
        assert got.dtype == torch.float32
        exact = weight if "audio_" in name else weight.half().float()
        torch.testing.assert_close(got, exact, rtol=0, atol=0)
    args = turn(), torch.zeros(1, dtype=torch.long)
    before, _ = network.step(*args, network.initial_state())
    after, _ = loaded.network.step(*args, loaded.network.initial_state())
    torch.testing.assert_close(after, before, atol=1e-2, rtol=0)


def test_weights_are_halves_on_disk_and_the_network_takes_no_gradient(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    assert {str(t.dtype) for name, t in stored.items() if "audio_" not in name} == {"torch.float16"}
    assert stored["reduce.audio_mean"].dtype == torch.float32
    loaded = load(folder)
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())


def test_temperatures_are_kept(folder: Path, network: SiLstm, tmp_path: Path) -> None:
    assert "temperatures" not in json.loads((folder / "config.json").read_text())
    assert load(folder).temperatures == {}
    others = {"100": (1.0, 2.0, 2.5), "111": (3.0, 3.0, 3.0)}
    save(tmp_path / "other", Checkpoint("", "si_lstm", network, LABELS, 1.5, temperatures=others), "")
    loaded = load(tmp_path / "other")
    assert (loaded.temperature, loaded.temperatures) == (1.5, others)
    logits, masks = torch.tensor([[0.0, 3.0, 0.0]]), torch.tensor([[True, False, False]])
    scaled = loaded.calibration.scale(logits, masks[:, 0], masks[:, 1:])
    torch.testing.assert_close(scaled, logits / 2)
    torch.testing.assert_close(
        load(folder).calibration.scale(logits, masks[:, 0], masks[:, 1:]), logits / 1.5
    )


def test_the_text_encoder_comes_back_with_its_tokenizer(network: SiLstm, tmp_path: Path) -> None:
    encoder = tiny_text_encoder(tmp_path)
    save(tmp_path / "with_text", Checkpoint("", "si_lstm", network, LABELS, text_encoder=encoder), "")
    loaded = load(tmp_path / "with_text").text_encoder
    assert loaded is not None
    assert loaded.config == TextEncoderConfig(past_turns=2)
    with torch.no_grad():
        expected = encoder(**encoder.tokenize(WINDOWS))
        got = loaded(**loaded.tokenize(WINDOWS))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=1e-2, rtol=0)
    assert next(encoder.model.parameters()).dtype == torch.float32  # saving left the original alone

    edit(tmp_path / "with_text", network={"text_dim": 99, "audio_groups": [5, 2], "classes": 3, "width": 8})
    with pytest.raises(CheckpointProblem, match="of shape"):
        load(tmp_path / "with_text")


def test_checkpoints_may_share_a_text_encoder(network: SiLstm, tmp_path: Path) -> None:
    encoder = tiny_text_encoder(tmp_path)
    kept = Checkpoint("", "si_lstm", network, LABELS, text_encoder=encoder)
    for name in ("one", "two"):
        save(tmp_path / name, kept, "# One of two\n", "../text_encoders/tiny")
    assert not (tmp_path / "one" / "text_encoder").exists()
    written = (tmp_path / "text_encoders" / "tiny" / "model.safetensors").stat().st_mtime_ns
    save(tmp_path / "three", kept, "# Third\n", "../text_encoders/tiny")
    assert (tmp_path / "text_encoders" / "tiny" / "model.safetensors").stat().st_mtime_ns == written
    for name in ("one", "two", "three"):
        loaded = load(tmp_path / name).text_encoder
        assert loaded is not None
        for a, b in zip(loaded.parameters(), encoder.parameters(), strict=True):
            torch.testing.assert_close(a, b.half().float(), rtol=0, atol=0)


def problem(folder: Path) -> str:
    with pytest.raises(CheckpointProblem) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_names_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "some-model").mkdir()
    (tmp_path / "some-model" / "config.json").write_text("{}")
    assert resolve("some-model", [tmp_path]) == tmp_path / "some-model"
    assert resolve(tmp_path) == tmp_path
    with pytest.raises(CheckpointProblem, match=r"shipped names \(some-model\), got 'other'"):
        resolve("other", [tmp_path])


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "model.safetensors, found no such file" in problem(folder)
    (folder / "config.json").unlink()
    assert "config.json" in problem(folder)


def test_damaged_files_are_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "expected safetensors" in problem(folder)
    (folder / "config.json").write_text("{")
    assert "expected JSON" in problem(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "oracle"}, ", got 'oracle'"),
        ({"format": 99}, "expected a checkpoint of format 1, got 99"),
        ({"labels": ["joy"]}, "expected 3 labels, got 1"),
        ({"temperature": 0}, "temperature above 0"),
        ({"temperatures": {"1": [1, 1, 1]}}, "expected 3 of 0 and 1 as a key, got '1'"),
        ({"temperatures": {"100": [1, 1]}}, "temperatures: expected 3 above 0"),
        ({"temperatures": {"100": "warm"}}, "usable configuration"),
        ({"network": {"widht": 8}}, "did you mean 'width'"),
        ({"network": {"width": "8"}}, "width: expected a int"),
        ({"network": {"text_dim": 16, "audio_groups": [5, 2], "width": 16}}, "of shape"),
        ({"text_encoder": {"past_turns": 2}}, "expected a text encoder in"),
    ],
)
def test_a_wrong_configuration_is_one_line(folder: Path, changes: dict, words: str) -> None:
    edit(folder, **changes)
    assert words in problem(folder)


def test_weights_that_are_not_numbers_are_refused(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    stored["fusion"][0] = float("nan")
    save_file(stored, folder / "model.safetensors")
    assert "NaN or infinity in fusion" in problem(folder)


def test_a_weight_beyond_half_precision_is_not_written(network: SiLstm, tmp_path: Path) -> None:
    with torch.no_grad():
        network.fusion[0] = 1e6
    with pytest.raises(CheckpointProblem, match="in fusion"):
        save(tmp_path / "big", Checkpoint("", "si_lstm", network, LABELS), "")


def test_build_reads_lists_and_whole_numbers() -> None:
    built = build(SiLstmConfig, {"audio_groups": [3, 4], "dropout": 0}, "here")
    assert built == replace(SiLstmConfig(), audio_groups=(3, 4), dropout=0.0)
