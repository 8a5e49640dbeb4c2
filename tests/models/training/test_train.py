import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from erc_models.data.batching import (
    audio_statistics,
    class_weights,
    draw,
    drop_modalities,
    turn_batches,
)
from erc_models.data.feature_store import NO_LABEL, FeatureSet, concatenate
from erc_models.networks.checkpoint import load
from erc_models.networks.si_lstm import SiLstm, SiLstmConfig
from erc_models.networks.streaming import TurnInput
from erc_models.training import label_bias
from erc_models.training.learner import Corpus, Learner, fit_temperature, labelled_logits
from erc_models.training.run_config import Data, RunConfig, Training, read_config
from erc_models.training.train import Sources, main, run, write
from erc_models.training.trainer import Trained, train
from erc_models.training.training_sets import corpus_dialogues
from paths import ROOT

LABELS = ("calm", "cross")
CONFIG = SiLstmConfig(
    text_dim=4, audio_groups=(3, 2), classes=2, width=16, feedforward=16, heads=1, window=2, dropout=0.1
)
SETTINGS = Training(
    epochs=15, patience=15, batch_dialogues=16, lr=0.01, ema=0.9, label_smoothing=0.0, text_dropout=0.0,
    audio_dropout=0.0, group_dropout=0.0,
)  # fmt: skip


def echoes(dialogues: int, seed: int, corpus: str = "echo") -> FeatureSet:
    """Two speakers in random order; a turn's label is the sign that its speaker's previous turn carried.

    Anyone's previous turn will not do, nor will the turn itself: only who keeps the speakers apart learns it.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 10, (dialogues,), generator=generator)
    total = int(lengths.sum())
    sign = torch.randint(0, 2, (total,), generator=generator)
    speaker = torch.randint(0, 2, (total,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    label = torch.full((total,), NO_LABEL)
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        last: dict[int, int] = {}
        for row in range(start, end):
            who = int(speaker[row])
            label[row] = last.get(who, NO_LABEL)
            last[who] = int(sign[row])
    text = 0.1 * torch.randn(total, 4, generator=generator)
    text[:, 0] += 2.0 * sign - 1
    return FeatureSet(
        text=text,
        audio=100 + 7 * torch.randn(total, 5, generator=generator),
        text_mask=torch.ones(total, dtype=torch.bool),
        audio_mask=torch.rand(total, 2, generator=generator) > 0.3,
        speaker=speaker,
        label=label,
        offsets=offsets,
        corpus=torch.zeros(dialogues, dtype=torch.long),
        labels=LABELS,
        corpora=(corpus,),
        names=tuple(f"d{i}" for i in range(dialogues)),
        audio_groups=(3, 2),
        spec={"acoustic": {"dim": 5}},
    )


def fit(config: SiLstmConfig = CONFIG, settings: Training = SETTINGS, dialogues: int = 160) -> Trained:
    torch.manual_seed(0)
    dev = {"dev": Corpus(echoes(60, 1))}
    return train(Learner(SiLstm(config)), Corpus(echoes(dialogues, 0)), dev, settings, select=("dev:all",))


def test_it_learns_what_the_speaker_said_before() -> None:
    trained = fit()
    assert trained.scores["dev:all"].accuracy > 90
    assert trained.history[0]["loss"] > trained.history[-1]["loss"]
    assert trained.scores["dev:audio"].accuracy < 70  # the audio is noise


def test_a_seed_decides_everything() -> None:
    short = replace(SETTINGS, epochs=2)
    one, same, other = (fit(settings=replace(short, seed=s), dialogues=40) for s in (0, 0, 1))
    for a, b in zip(one.model.parameters(), same.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert one.history == same.history
    assert one.history != other.history


def test_it_stops_early_and_keeps_the_best_epoch() -> None:
    trained = fit(settings=replace(SETTINGS, epochs=50, patience=2, lr=1e-5, ema=0.999), dialogues=20)
    assert len(trained.history) < 50
    assert len(trained.history) == trained.best_epoch + 3
    best = max(record["chosen"] for record in trained.history)
    assert trained.history[trained.best_epoch]["chosen"] == best
    assert trained.scores["dev:all"].weighted_f1 == pytest.approx(best)


def test_features_are_stored_exactly(tmp_path: Path) -> None:
    features = echoes(5, 2)
    features.audio[0, 0] = float("nan")
    features.save(tmp_path / "deep" / "set.safetensors")
    loaded = FeatureSet.load(tmp_path / "deep" / "set.safetensors")
    for name, array in features._arrays().items():
        assert torch.equal(array.nan_to_num(-1.0), getattr(loaded, name).nan_to_num(-1.0)), name
    for name in ("labels", "corpora", "names", "audio_groups", "spec", "soft"):
        assert getattr(loaded, name) == getattr(features, name)


def test_what_is_no_feature_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        FeatureSet.load(tmp_path / "set.safetensors")
    (tmp_path / "set.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match="expected a feature set"):
        FeatureSet.load(tmp_path / "set.safetensors")
    with pytest.raises(ValueError, match=r"'audio' of shape \(\d+, 5\), got"):
        replace(echoes(3, 0), audio=torch.zeros(3, 5))


def test_padding_has_neither_modality_nor_label() -> None:
    features = echoes(6, 3)
    lengths = features.lengths()
    batch = features.batch(range(6))
    for row, length in enumerate(lengths):
        assert not batch.x.text_mask[row, length:].any()
        assert not batch.x.audio_mask[row, length:].any()
        assert (batch.label[row, length:] == NO_LABEL).all()
        first = int(features.offsets[row])
        assert torch.equal(batch.x.text[row, :length], features.text[first : first + length])
        assert torch.equal(batch.speaker[row, :length], features.speaker[first : first + length])


def test_joined_sets_keep_their_corpora() -> None:
    a, b = echoes(3, 0), echoes(2, 1, corpus="other")
    joined = concatenate([a, b, a])
    assert joined.corpora == ("echo", "other")
    assert joined.corpus.tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert len(joined) == 8
    assert joined.lengths() == a.lengths() + b.lengths() + a.lengths()
    ours, theirs = joined.batch([3, 4]), b.batch([0, 1])
    there = theirs.x.text_mask
    assert torch.equal(ours.x.text_mask, there)
    assert torch.equal(ours.x.audio[there], theirs.x.audio[there])
    with pytest.raises(ValueError, match="expected labels"):
        concatenate([a, replace(b, labels=("x", "y"))])


def test_audio_statistics_leave_out_what_was_not_measured() -> None:
    features = echoes(20, 4)
    mean, std = audio_statistics(features)
    holes = features.audio.clone()
    holes[~features.audio_mask[:, [0, 0, 0, 1, 1]]] = float("nan")
    again = audio_statistics(replace(features, audio=holes))
    torch.testing.assert_close(again, (mean, std))
    torch.testing.assert_close(mean, torch.full((5,), 100.0), atol=3, rtol=0)
    torch.testing.assert_close(std, torch.full((5,), 7.0), atol=2, rtol=0)


def test_rare_classes_weigh_more_and_corpora_as_told() -> None:
    features = echoes(10, 0)
    label = torch.zeros_like(features.label)
    label[: len(label) // 5] = 1
    features = replace(features, label=label)
    both = concatenate([features, replace(features, corpora=("other",))])
    weights = class_weights(both, 1.0, {"other": 0.5})
    count = torch.bincount(label).float()
    assert weights[0, 1] / weights[0, 0] == pytest.approx(float(count[0] / count[1]))
    assert float((weights[0] * count).sum() / count.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(weights[1], weights[0] / 2)
    with pytest.raises(ValueError, match="got nowhere"):
        class_weights(both, 0.5, {"nowhere": 1.0})


def test_dropping_modalities_never_empties_a_turn() -> None:
    torch.manual_seed(0)
    text, audio = torch.rand(200, 6) > 0.5, torch.rand(200, 6, 2) > 0.5
    x = TurnInput(torch.zeros(200, 6, 4), torch.zeros(200, 6, 5), text, audio)
    after = drop_modalities(x, 0.6, 0.6, 0.6)
    something = text | audio.any(2)
    assert torch.equal(after.text_mask | after.audio_mask.any(2), something)
    assert not (after.text_mask & ~text).any()
    assert not (after.audio_mask & ~audio).any()
    full = text & audio.all(2)
    kinds = {
        (bool(t), *map(bool, a))
        for t, a in zip(after.text_mask[full].tolist(), after.audio_mask[full].tolist(), strict=True)
    }
    assert len(kinds) == 7  # every combination but none at all


def test_batches_hold_every_dialogue_once_and_similar_lengths() -> None:
    import random

    lengths = [3, 30, 4, 29, 5, 31]
    parts = turn_batches(lengths, range(6), 3, None, random.Random(0))
    assert sorted(i for part in parts for i in part) == list(range(6))
    assert sorted(sorted(part) for part in parts) == [[0, 2, 4], [1, 3, 5]]


def test_a_batch_holds_no_more_turns_than_asked() -> None:
    import random

    lengths = [3, 9, 4, 50, 5, 6]
    parts = turn_batches(lengths, range(6), 4, 12, random.Random(0))
    assert sorted(i for part in parts for i in part) == list(range(6))
    assert all(sum(lengths[i] for i in part) <= 12 or len(part) == 1 for part in parts)
    assert [3] in parts


def test_balance_draws_dialogues_of_rare_labels_more_often() -> None:
    import random

    features = echoes(40, 0)
    label = torch.zeros_like(features.label)
    label[int(features.offsets[36]) :] = 1  # in the last four dialogues only
    features = replace(features, label=label)
    assert draw(features, 1.0, 0.0, random.Random(0)) == list(range(40))
    assert len(set(draw(features, 0.5, 0.0, random.Random(0)))) == 20
    rare = [sum(k >= 36 for k in draw(features, 10.0, balance, random.Random(0))) for balance in (0.5, 1.0)]
    assert 40 < rare[0] < rare[1]
    assert rare[1] == pytest.approx(200, rel=0.2)  # as many as of all the others together


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    corpus, dev = Corpus(echoes(40, 0)), {"dev": Corpus(echoes(20, 1))}

    def go(epochs: int, keep: Path | None) -> Trained:
        torch.manual_seed(5)
        return train(Learner(SiLstm(CONFIG)), corpus, dev, replace(SETTINGS, epochs=epochs), keep=keep)

    whole = go(4, None)
    go(2, tmp_path / "run.pt")
    resumed = go(4, tmp_path / "run.pt")
    assert resumed.history == whole.history
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    wider = SiLstm(replace(CONFIG, width=18))
    with pytest.raises(ValueError, match=r"run\.pt: expected a run of this configuration"):
        train(Learner(wider), corpus, dev, SETTINGS, keep=tmp_path / "run.pt")


def test_two_passes_agree_more_with_r_drop() -> None:
    settings = replace(SETTINGS, epochs=1, r_drop=1.0)
    trained = fit(replace(CONFIG, dropout=0.5), settings, dialogues=20)
    assert trained.history[0]["loss.r_drop"] > 0
    assert trained.history[0]["loss"] == pytest.approx(
        trained.history[0]["loss.emotion"] + trained.history[0]["loss.r_drop"]
    )


def test_temperature_undoes_overconfidence() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 3, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    assert fit_temperature(2.5 * logits, labels) == pytest.approx(2.5, rel=0.1)


def test_a_condition_scores_only_turns_that_it_can_read() -> None:
    features = echoes(10, 5)
    learner, corpus = Learner(SiLstm(CONFIG)), Corpus(features)
    labelled = features.label != NO_LABEL
    _, labels, rows = labelled_logits(learner, corpus, "text")
    assert rows.tolist() == labelled.nonzero().squeeze(1).tolist()
    assert torch.equal(labels, features.label[rows])
    heard = labelled & features.audio_mask.any(1)
    assert labelled_logits(learner, corpus, "audio")[2].tolist() == heard.nonzero().squeeze(1).tolist()


CONFIG_TOML = """
architecture = "si_lstm"
[model]
width = 16
feedforward = 16
[data]
train = ["train"]
dev = ["dev"]
corpus_weights = { echo = 2.0 }
[training]
epochs = 1
lr = 1
"""


def test_the_command_writes_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.toml").write_text(CONFIG_TOML.replace("lr = 1", "lr = 0.001"))
    echoes(20, 0).save(tmp_path / "train.safetensors")
    echoes(10, 1).save(tmp_path / "dev.safetensors")
    out = tmp_path / "echo-model"
    arguments = ["--config", str(tmp_path / "run.toml"), "--features", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    main()
    checkpoint = load(out)
    assert checkpoint.labels == LABELS
    assert checkpoint.features == {"acoustic": {"dim": 5}}
    assert checkpoint.network.config.audio_groups == (3, 2)
    assert set(checkpoint.about["dev"]) == {"dev:all", "dev:text", "dev:audio"}
    assert "| dev:all |" in (out / "README.md").read_text()


def test_a_bias_is_chosen_on_what_nothing_was_trained_on(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        CONFIG_TOML.replace("lr = 1", "lr = 0.001").replace('["dev"]', '["dev", "held"]')
    )
    for name, seed in (("train", 0), ("dev", 1), ("held", 2)):
        replace(echoes(20, seed), labels=("neutral", "cross")).save(tmp_path / f"{name}.safetensors")
    plain = read_config(tmp_path / "run.toml")
    sources = Sources(features=tmp_path)
    before, dev = run(plain, sources)
    decided = replace(plain, data=replace(plain.data, decide="held:text"))
    after, _ = run(decided, sources)
    assert isinstance(before.model, SiLstm) and isinstance(after.model, SiLstm)
    logits, labels, _ = labelled_logits(Learner(before.model), dev["held"], "text")
    bias = label_bias.choose(logits.double().numpy(), labels.numpy(), ("neutral", "cross"))
    torch.testing.assert_close(after.model.head.bias - before.model.head.bias, torch.from_numpy(bias).float())
    worth = [np.mean([getattr(t.scores["held:text"], name) for name in label_bias.CHOSEN_BY])
             for t in (before, after)]  # fmt: skip
    assert worth[1] >= worth[0]
    wrong = replace(plain, data=replace(plain.data, decide="hold:text"))
    with pytest.raises(ValueError, match="decide: expected SET:CONDITION with one of dev, held"):
        run(wrong, sources)


@pytest.mark.parametrize("architecture", ["si_lstm", "sentemocontext"])
def test_a_voice_is_learned_beside_words_that_stay(architecture: str, tmp_path: Path) -> None:
    echoes(30, 0).save(tmp_path / "train.safetensors")
    echoes(20, 1).save(tmp_path / "dev.safetensors")
    model = {"width": 16, "feedforward": 16, "heads": 1, "window": 2, "dropout": 0.1}
    data = Data(train=("train",), dev=("dev",), select=("dev:all",))
    settings = replace(SETTINGS, epochs=2, weight_decay=0.1)
    config = RunConfig(architecture, model, data, settings)
    former, dev = run(config, Sources(features=tmp_path))
    write(tmp_path / "former", config, former, dev, Sources(), None, "text_encoder")
    for name in ("train", "dev"):
        heard = FeatureSet.load(tmp_path / f"{name}.safetensors")
        # the new voice has one feature more
        audio = torch.cat([heard.audio, heard.audio[:, :1] + heard.label[:, None]], 1)
        replace(heard, audio=audio, audio_groups=(3, 3)).save(tmp_path / f"{name}.safetensors")
    words = str(tmp_path / "former")
    after, _ = run(config, Sources(features=tmp_path, words=words))
    turns = TurnInput(
        torch.randn(3, 6, 4),
        torch.zeros(3, 6, 5),
        torch.ones(3, 6, dtype=torch.bool),
        torch.zeros(3, 6, 2) > 0,
    )
    more = replace(turns, audio=torch.zeros(3, 6, 6))
    speaker = torch.randint(0, 2, (3, 6))
    kept = load(tmp_path / "former").network
    with torch.no_grad():
        assert torch.equal(after.model.eval()(more, speaker), kept(turns, speaker))
        more = replace(more, audio=torch.randn(3, 6, 6), audio_mask=torch.ones(3, 6, 2, dtype=torch.bool))
        assert not torch.equal(after.model(more, speaker), kept(turns, speaker))
    rows = dict(after.model.named_parameters())["reduce.norm.gain"]
    before = dict(kept.named_parameters())["reduce.norm.gain"]
    assert torch.equal(rows[0], before[0]) and not torch.equal(rows[1], before[1])
    other = replace(config, architecture="sentemocontext" if architecture == "si_lstm" else "si_lstm")
    with pytest.raises(ValueError, match="--words: expected a checkpoint of"):
        run(other, Sources(features=tmp_path, words=words))


def test_a_split_has_two_parts_and_dev_one_without_repeats(tmp_path: Path) -> None:
    (tmp_path / "talk").mkdir()
    said = [f"this is what the dialogue of number {i} says and no other" for i in range(50)]
    lines = {
        "train": said,
        "dev": [said[3], "here is one that training has not got at all"],
    }
    for split, texts in lines.items():
        rows = [
            {
                "corpus": "talk",
                "dialogue": f"{split}_{i}",
                "turns": [{"speaker": "A", "text": text, "emotion": "joy"}],
            }
            for i, text in enumerate(texts)
        ]
        packed = gzip.compress("\n".join(map(json.dumps, rows)).encode())
        (tmp_path / "talk" / f"{split}.jsonl.gz").write_bytes(packed)

    def names(name: str) -> list[str]:
        return [dialogue.name for dialogue in corpus_dialogues(name, tmp_path)]

    fit, held = names("talk_train_fit"), names("talk_train_held")
    assert (len(fit), len(held)) == (41, 9)
    assert sorted(fit + held) == sorted(names("talk_train"))
    assert names("talk_train_held") == held  # always the same
    assert names("talk_dev_new") == ["dev_1"]
    with pytest.raises(ValueError, match="expected a corpus at"):
        names("talk_test")


def test_a_configuration_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(CONFIG_TOML)
    config = read_config(path)
    assert config.data == Data(train=("train",), dev=("dev",), corpus_weights={"echo": 2.0})
    assert config.training == Training(epochs=1, lr=1.0)
    for wrong, words in [
        (CONFIG_TOML.replace("epochs", "epoch"), "did you mean 'epochs'"),
        (CONFIG_TOML.replace("width", "breadth"), "got 'breadth'"),
        (CONFIG_TOML.replace("[data]", "[date]"), "got date"),
        (CONFIG_TOML.replace('"si_lstm"', '"oracle"'), "got 'oracle'"),
    ]:
        path.write_text(wrong)
        with pytest.raises(ValueError, match=words):
            read_config(path)


def test_the_shipped_configurations_are_readable() -> None:
    folder = ROOT / "models" / "configs"
    found = [read_config(path) for path in folder.glob("*.toml")]
    assert found
    assert all(config.data.train and config.data.dev for config in found)
