import gzip
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from erc_models.data.asr_noise import Vocabulary
from erc_models.data.datasets import MELD_LABELS, Dialogue, Utterance
from erc_models.data.feature_store import FeatureSet
from erc_models.data.text_features import text_features
from erc_models.evaluation.evaluation_sets import windows_of
from erc_models.networks import checkpoint
from erc_models.networks.sentemocontext import SentEmoContext, SentEmoContextConfig
from erc_models.networks.text_encoder import TextEncoder
from erc_models.training import train
from erc_models.training.fine_tuning import (
    FineTuning,
    LiveText,
    SharedDropout,
    parameter_groups,
    prepare_encoder,
)
from erc_models.training.learner import Corpus, Learner
from erc_models.training.run_config import Training
from erc_models.training.trainer import train as fit
from erc_models.training.training_sets import corpus_dialogues, word_set

SETTINGS = FineTuning(past_turns=3, plain=0.0, noise=0.0, context_dropout=0.0, chunk=4, lr=1e-3)
HAPPY, SAD = ("I am so happy, yes!", "Yes, love is good."), ("No, I am sad.", "Why, oh why do I hate it?")


@pytest.fixture
def encoder(tiny_checkpoint: Path) -> TextEncoder:
    found = checkpoint.load(tiny_checkpoint).text_encoder
    assert found is not None
    return prepare_encoder(found.requires_grad_(True))


def dialogues(count: int, seed: int = 0) -> list[Dialogue]:
    """Two speakers who say something happy or sad, and now and then nothing."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        utterances = []
        for _ in range(rng.randint(2, 6)):
            happy = rng.random() < 0.5
            text = "" if rng.random() < 0.1 else rng.choice(HAPPY if happy else SAD)
            utterances.append(Utterance(rng.choice("AB"), text, "joy" if happy else "sadness"))
        made.append(Dialogue("tiny", f"d{i}", tuple(utterances)))
    return made


def corpus(count: int, settings: FineTuning = SETTINGS, seed: int = 0) -> Corpus:
    made = dialogues(count, seed)
    vocabulary = Vocabulary.of(u.text for d in made for u in d.utterances)
    return Corpus(word_set(made, MELD_LABELS, 32), LiveText(made, settings, vocabulary))


def test_undisturbed_words_give_the_frozen_features(encoder: TextEncoder) -> None:
    made = corpus(5)
    assert made.text is not None
    learner = Learner(SentEmoContext(SentEmoContextConfig(text_dim=32, audio_groups=(1,))), encoder).eval()
    with torch.no_grad():
        batch = made.text.fill(made.features.batch([3, 1]), [3, 1], encoder, None)
    for row, k in enumerate((3, 1)):
        d = dialogues(5)[k]
        frozen = text_features(encoder, windows_of(d, 3))
        said = torch.tensor([bool(u.text) for u in d.utterances])
        assert torch.equal(batch.x.text_mask[row, : len(said)], said)
        torch.testing.assert_close(batch.x.text[row, : len(said)][said], frozen, atol=1e-5, rtol=0)
    assert not learner.read(made, [3], None).x.text.isnan().any()


def test_noise_is_for_training_alone(encoder: TextEncoder) -> None:
    made = corpus(6, replace(SETTINGS, noise=1.0, max_wer=1.0))
    assert made.text is not None
    encoder.eval()
    clean, again, noisy = (
        made.text.fill(made.features.batch(range(6)), range(6), encoder, rng).x
        for rng in (None, None, random.Random(0))
    )
    assert torch.equal(clean.text, again.text)
    assert not torch.allclose(clean.text, noisy.text)


def test_dropout_takes_whole_features_of_a_text() -> None:
    torch.manual_seed(0)
    drop = SharedDropout(0.4)
    dropped = drop(torch.ones(8, 5, 100)) == 0
    assert torch.equal(dropped[:, 0], dropped[:, 4])
    assert 0.3 < float(dropped.float().mean()) < 0.5
    assert torch.equal(drop.eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))


def test_lower_layers_take_smaller_steps(encoder: TextEncoder) -> None:
    groups = parameter_groups(encoder, replace(SETTINGS, layer_decay=0.5))
    assert [group["lr"] for group in groups] == [0.0005, 0.001]
    learnt = {id(p) for group in groups for p in group["params"]}
    assert learnt == {id(p) for p in encoder.parameters() if p.requires_grad}
    assert not any(p.requires_grad for p in encoder.model.embeddings.parameters())


def test_triplets_reach_the_encoder(encoder: TextEncoder) -> None:
    made = corpus(8)
    network = SentEmoContext(SentEmoContextConfig(text_dim=32, audio_groups=(1,), width=16, embedding=8))
    learner = Learner(network, encoder).train()
    batch = learner.read(made, list(range(8)), random.Random(0))
    losses = network.learn(batch.x, batch.speaker, batch.label, lambda logits: logits.sum() * 0)
    losses["triplet"].backward()
    top = encoder.model.encoder.layer[-1].output.dense.weight
    assert top.grad is not None
    assert float(top.grad.abs().sum()) > 0


def test_encoder_and_network_learn_together(encoder: TextEncoder) -> None:
    before = [p.clone() for p in encoder.parameters()]
    network = SentEmoContext(SentEmoContextConfig(text_dim=32, audio_groups=(1,), width=16, embedding=8))
    settings = Training(epochs=6, batch_dialogues=8, batch_turns=24, lr=3e-3, warmup=0.1, ema=0.9, patience=9)
    dev = {"dev": corpus(20, seed=1)}
    trained = fit(Learner(network, encoder), corpus(60), dev, settings, tuning=SETTINGS)
    assert trained.encoder is not None
    assert trained.scores["dev:text"].accuracy > 80
    moved = [not torch.equal(a, b) for a, b in zip(before, trained.encoder.parameters(), strict=True)]
    assert any(moved)


def test_the_command_trains_an_encoder_from_a_corpus(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for split, count in (("train", 30), ("dev", 10)):
        (tmp_path / "meld").mkdir(exist_ok=True)
        with gzip.open(tmp_path / "meld" / f"{split}.jsonl.gz", "wt") as file:
            for d in dialogues(count):
                turns = [{"speaker": u.speaker, "text": u.text, "emotion": u.emotion} for u in d.utterances]
                file.write(json.dumps({"corpus": "meld", "dialogue": d.name, "turns": turns}) + "\n")
    (tmp_path / "tiny.toml").write_text(
        'architecture = "sentemocontext"\n[model]\nwidth = 16\nembedding = 8\n'
        '[data]\ntrain = ["meld_train"]\ndev = ["meld_dev"]\n'
        "[training]\nepochs = 1\n[text_encoder]\nlr = 1e-3\n"
    )
    out = tmp_path / "encoder"
    arguments = ["--config", str(tmp_path / "tiny.toml"), "--out", str(out), "--corpora", str(tmp_path)]
    train.main([*arguments, "--text-encoder", str(tiny_checkpoint / "text_encoder"), "--device", "cpu"])
    loaded = checkpoint.load(out)
    assert loaded.text_encoder is not None
    assert loaded.text_encoder.config.past_turns == 3
    again = train.load_text_encoder(out)
    for a, b in zip(again.parameters(), loaded.text_encoder.parameters(), strict=True):
        assert torch.equal(a.float(), b)
    with pytest.raises(ValueError, match="expected --corpora and --text-encoder"):
        train.main(arguments[:4])
    with pytest.raises(ValueError, match=r"friends_dev: expected a corpus at .*, found no such file"):
        corpus_dialogues("friends_dev", tmp_path)


def test_words_to_come_are_a_feature_set(tmp_path: Path) -> None:
    made = word_set(dialogues(4), ("sadness",), 8)
    made.save(tmp_path / "words.safetensors")
    again = FeatureSet.load(tmp_path / "words.safetensors")
    assert again.labels == ("sadness",)
    assert set(again.label.tolist()) == {0, -100}
