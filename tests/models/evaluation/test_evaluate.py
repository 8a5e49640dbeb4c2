import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import talk, write
from erc_models.data import datasets
from erc_models.data.datasets import MELD_LABELS, Dialogue, Utterance
from erc_models.data.feature_store import FeatureSet
from erc_models.data.text_features import text_features
from erc_models.evaluation import evaluation_sets
from erc_models.evaluation.evaluate import evaluate, main
from erc_models.evaluation.evaluation_report import Request, as_json
from erc_models.evaluation.prediction import predict, readable
from erc_models.formats.text_windows import TextWindow
from erc_models.networks.checkpoint import ARCHITECTURES, Checkpoint, load, save
from erc_models.networks.si_lstm import SiLstm

from stream_erc.core.work import ClassifyTurn
from stream_erc.events import Features, Turn
from stream_erc.inference.emotion.opening import open_classifier


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return load(tiny_checkpoint)


def voices(dialogues: list[Dialogue], width: int, seed: int = 0) -> np.ndarray:
    """Random voices for two turns in three."""
    rng = np.random.default_rng(seed)
    turns = sum(len(d.utterances) for d in dialogues)
    audio = rng.normal(size=(turns, width)).astype(np.float32)
    audio[::3] = np.nan
    return audio


def test_scored_is_what_the_runtime_says_turn_by_turn(checkpoint: Checkpoint, tiny_checkpoint: Path) -> None:
    dialogues = [d for d in talk() if all(u.text for u in d.utterances)]  # the runtime skips what has nothing
    audio = voices(dialogues, 88)
    features = evaluation_sets.featurise(checkpoint, dialogues, audio)
    found = predict(checkpoint.network, features, "all", checkpoint.calibration)

    classifier = open_classifier(tiny_checkpoint, "cpu")
    expected, row = [], 0
    for dialogue in dialogues:
        state: object = None
        past: tuple[tuple[int, str], ...] = ()
        for t, (who, u) in enumerate(zip(dialogue.speaker_ids(), dialogue.utterances, strict=True)):
            voice = None if np.isnan(audio[row]).all() else audio[row]
            [(emotion, state)] = classifier.classify(
                [ClassifyTurn(t, Turn(t, who, u.text), Features(voice), past, state)]
            )
            past = (*past, (who, u.text))[-8:]
            expected.append(list(emotion.probabilities.values()))
            row += 1
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert found.lengths().tolist() == [len(d.utterances) for d in dialogues]


def test_the_prosody_of_a_corpus_is_its_voice(checkpoint: Checkpoint) -> None:
    spec = {"acoustic": {"prosody": ["avg_pitch", "duration"]}}
    config = replace(checkpoint.network.config, audio_groups=(88, 2))
    hearing = replace(checkpoint, network=SiLstm(config), features=spec)
    known = tuple(float(i) for i in range(len(datasets.DESCRIPTORS)))
    unknown = (np.nan,) * len(datasets.DESCRIPTORS)
    utterances = tuple(Utterance("p", "oh no", "joy", prosody=p) for p in (known, unknown, None))
    dialogues = [Dialogue("c", "d", utterances)]
    audio = evaluation_sets.voices_of(hearing, dialogues)
    assert audio[0, 88:].tolist() == [datasets.DESCRIPTORS.index(n) for n in spec["acoustic"]["prosody"]]
    assert np.isnan(audio[0, :88]).all() and np.isnan(audio[1:]).all()
    features = evaluation_sets.featurise(hearing, dialogues, audio)
    assert features.audio_mask.tolist() == [[False, True], [False, False], [False, False]]


def test_what_a_condition_hides_is_not_read(checkpoint: Checkpoint) -> None:
    dialogues = talk()
    audio = voices(dialogues, 88)
    features = evaluation_sets.featurise(checkpoint, dialogues, audio)
    other = evaluation_sets.featurise(checkpoint, dialogues, -audio)
    text, same = (predict(checkpoint.network, f, "text") for f in (features, other))
    np.testing.assert_array_equal(text.probabilities, same.probabilities)
    heard, different = (predict(checkpoint.network, f, "all") for f in (features, other))
    assert np.abs(heard.probabilities - different.probabilities).max() > 1e-4
    assert readable(features, "text").sum() == sum(len(d.utterances) for d in dialogues) - 2
    with pytest.raises(ValueError, match="expected one of all, text, audio, got 'vision'"):
        predict(checkpoint.network, features, "vision", scored=readable(features, "all"))


def test_a_window_holds_the_turns_that_had_words() -> None:
    dialogue = Dialogue(
        "c", "d", tuple(Utterance(who, text) for who, text in [("a", "1"), ("b", ""), ("b", "2")])
    )
    assert evaluation_sets.windows_of(dialogue, 4) == [
        TextWindow((), 0, "1"),
        TextWindow(((0, "1"),), 1, "2"),
    ]
    assert evaluation_sets.windows_of(dialogue, 0)[1].past == ()


def test_labels_of_other_names_are_mapped_and_unknown_ones_told(tmp_path: Path) -> None:
    mapped = evaluation_sets.with_labels(talk(labels=("no_emotion", "happiness", "fear")), MELD_LABELS)
    assert {u.emotion for d in mapped for u in d.utterances} == {"neutral", "joy", "fear", None}
    with pytest.raises(
        ValueError, match=r"expected emotions of the checkpoint \(neutral, .*\), got powerful"
    ):
        evaluation_sets.with_labels(talk(labels=("neutral", "powerful")), MELD_LABELS)


def test_features_are_computed_once(checkpoint: Checkpoint, tmp_path: Path) -> None:
    encoder = checkpoint.text_encoder
    assert encoder is not None
    windows = [w for d in talk() for w in evaluation_sets.windows_of(d, 3)]
    plain = text_features(encoder, windows)
    first = text_features(encoder, windows, tmp_path, size=5)
    torch.testing.assert_close(first, plain, atol=1e-5, rtol=0)
    [kept] = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    assert torch.equal(text_features(encoder, windows, tmp_path), first)
    assert kept.stat().st_mtime_ns == before
    text_features(encoder, windows[1:], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_speaker_swaps_move_a_share_of_the_turns_within_their_dialogue() -> None:
    dialogues = talk(200)
    assert evaluation_sets.swapped(dialogues, 0.0, 0) == dialogues
    moved = evaluation_sets.swapped(dialogues, 0.4, 0)
    assert moved == evaluation_sets.swapped(dialogues, 0.4, 0) != evaluation_sets.swapped(dialogues, 0.4, 1)
    changed = total = 0
    for before, after in zip(dialogues, moved, strict=True):
        speakers = {u.speaker for u in before.utterances}
        for a, b in zip(before.utterances, after.utterances, strict=True):
            assert b.speaker in speakers and (a.text, a.emotion) == (b.text, b.emotion)
            if len(speakers) > 1:
                changed += a.speaker != b.speaker
                total += 1
    assert changed / total == pytest.approx(0.4, abs=0.05)


def test_one_speaker_has_all_turns_of_a_dialogue() -> None:
    dialogues = talk(20)
    merged = evaluation_sets.merged(dialogues)
    for before, after in zip(dialogues, merged, strict=True):
        assert {u.speaker for u in after.utterances} == {before.utterances[0].speaker}
        told = [[(u.text, u.emotion, u.prosody) for u in d.utterances] for d in (before, after)]
        assert told[0] == told[1]


def test_misheard_words_keep_everything_else() -> None:
    dialogues = talk(40)
    heard = evaluation_sets.misheard(dialogues, 0.3, 0)
    flat = [
        (a, b)
        for d, e in zip(dialogues, heard, strict=True)
        for a, b in zip(d.utterances, e.utterances, strict=True)
    ]
    assert all((a.speaker, a.emotion) == (b.speaker, b.emotion) for a, b in flat)
    different = np.mean([a.text.strip("?!") != b.text for a, b in flat])
    assert 0.2 < different < 0.9
    assert {a.text.strip("?!") for a, _ in flat} >= {
        u.text for d in evaluation_sets.misheard(dialogues, 0.0, 0) for u in d.utterances
    }


def test_clips_are_read_alone_and_together(checkpoint: Checkpoint, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 60
    columns = {
        "functionals_egemaps": rng.normal(size=(n, 88)),
        "prosody": rng.normal(size=(n, 8)),
        "label": np.arange(n) % 7,
        "speaker": np.array([f"actor_{i % 2}" for i in range(n)]),
        "text": np.array(["oh no"] * n),
        "augmentation": np.array(["plain", "plain", "random1"] * (n // 3)),
        "split": np.array(["dev"] * 54 + ["train"] * 6),
    }
    path = tmp_path / "clips.npz"
    np.savez(path, **columns)
    dialogues, audio = evaluation_sets.clips(path, checkpoint)
    keep = [i for i in range(54) if i % 3 < 2]
    np.testing.assert_array_equal(audio, columns["functionals_egemaps"][keep].astype(np.float32))
    assert [d.utterances[0].emotion for d in dialogues] == [MELD_LABELS[i % 7] for i in keep]
    joined, rows = evaluation_sets.together(dialogues, audio, 0)
    assert [len(d.utterances) for d in joined] == [10, 8, 10, 8]
    assert all(len({u.speaker for u in d.utterances}) == 1 for d in joined)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, audio.tolist()))

    alone, together = evaluate(checkpoint, Request(path, ("audio",)))
    assert (alone.part, together.part, alone.modalities) == ("alone", "together", ("audio",))
    assert alone.predictions.turn.max() == 0
    assert together.predictions.turn.max() == 9
    np.savez(path, **{name: c for name, c in columns.items() if name != "functionals_egemaps"})
    with pytest.raises(ValueError, match="expected acoustic features of clips with functionals_egemaps"):
        evaluation_sets.clips(path, checkpoint)


def test_voices_are_found_by_dialogue_and_a_feature_set_is_scored_itself(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    dialogues = talk()
    audio = voices(dialogues, 88)
    path = tmp_path / "set.safetensors"
    evaluation_sets.featurise(checkpoint, dialogues, audio).save(path)
    found = evaluation_sets.voices_from(path, dialogues[::-1], (88,))
    lengths = [len(d.utterances) for d in dialogues]
    np.testing.assert_array_equal(found[: lengths[-1]], audio[-lengths[-1] :])
    with pytest.raises(ValueError, match="turns of dialogue elsewhere, got none"):
        evaluation_sets.voices_from(path, [Dialogue("talk", "elsewhere", dialogues[0].utterances)], (88,))
    with pytest.raises(ValueError, match=r"expected groups of \(8,\) acoustic features, got \(88,\)"):
        evaluation_sets.voices_from(path, dialogues, (8,))

    corpus = write(tmp_path / "talk.jsonl", dialogues)
    [heard] = evaluate(checkpoint, Request(corpus, audio=path))
    [stored] = evaluate(checkpoint, Request(path))
    np.testing.assert_allclose(heard.predictions.probabilities, stored.predictions.probabilities, atol=1e-6)
    assert heard.modalities == ("text", "audio")
    with pytest.raises(ValueError, match="need a corpus"):
        evaluate(checkpoint, Request(path, wer=(0.1,)))
    other = FeatureSet.load(path)
    object.__setattr__(other, "labels", MELD_LABELS[::-1])
    other.save(path)
    with pytest.raises(ValueError, match="expected labels"):
        evaluate(checkpoint, Request(path))


def test_changed_data_are_scored_on_the_same_turns(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = write(tmp_path / "talk.jsonl", talk(20))
    request = Request(path, ("text",), wer=(0.9,), swaps=(0.4,), one_speaker=True)
    clean, heard, swapped, merged = evaluate(checkpoint, request)
    changes = (heard.change, swapped.change, merged.change)
    assert changes == ("WER 90%", "speaker swaps 40%", "one speaker")
    for other in (heard, swapped, merged):
        np.testing.assert_array_equal(other.predictions.gold, clean.predictions.gold)
        assert np.abs(other.predictions.probabilities - clean.predictions.probabilities).max() > 1e-4
    with pytest.raises(ValueError, match="something to read in condition 'audio', got none"):
        evaluate(checkpoint, Request(path, ("audio",)))


def test_conditions_are_compared_in_pairs(checkpoint: Checkpoint, tmp_path: Path) -> None:
    dialogues = [d for d in talk(12) if all(u.text for u in d.utterances)]
    path = write(tmp_path / "talk.jsonl", dialogues)
    evaluation_sets.featurise(checkpoint, dialogues, voices(dialogues, 88)).save(tmp_path / "a.safetensors")
    request = Request(path, ("all", "text"), tmp_path / "a.safetensors", wer=(0.3,))
    stored = as_json(checkpoint, request, evaluate(checkpoint, request), "the command")
    assert [(d["of"], d["change"]) for d in stored["differences"]] == [
        ("all less text", ""),
        ("all less text", "WER 30%"),
    ]
    values = {(r["condition"], r["change"]): r["scores"]["weighted_f1"]["value"] for r in stored["results"]}
    first = stored["differences"][0]["scores"]["weighted_f1"]
    assert first["mean"] == pytest.approx(values["all", ""] - values["text", ""])
    assert first["low"] <= first["mean"] <= first["high"]


def test_the_command_line_prints_and_stores(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, store = write(tmp_path / "talk.jsonl", talk()), tmp_path / "stored.json"
    arguments = [
        "--checkpoint",
        str(tiny_checkpoint),
        "--data",
        str(data),
        "--cache",
        str(tmp_path / "cache"),
    ]
    main([*arguments, "--store", str(store)])
    printed = capsys.readouterr().out
    assert "weighted F1" in printed and "By class" in printed and "First correct label" in printed
    main([*arguments, "--store", str(store), "--json"])
    stored = json.loads(capsys.readouterr().out)
    assert stored == json.loads(store.read_text())
    assert len(stored["data_sha256"]) == 64
    assert str(tmp_path) not in store.read_text()
    result = stored["results"][0]
    assert (result["modalities"], result["dialogues"]) == (["text"], 6)
    assert np.sum(result["confusion"]) == result["turns"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data", "nowhere.jsonl"], "nowhere.jsonl: expected a corpus"),
        (["--checkpoint", "nobody", "--data", "{data}"], "got 'nobody'"),
        (["--data", "{other}"], "got powerful"),
        (["--data", "{data}", "--condition", "vision"], "expected some of all, text, audio, got 'vision'"),
        (["--data", "{data}", "--wer", "0,150"], "expected percentages from 0 to 100, got '0,150'"),
    ],
)
def test_what_cannot_be_scored_is_told_in_one_line(
    arguments: list[str], told: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "talk.jsonl", talk())
    write(tmp_path / "other.jsonl", talk(labels=("neutral", "powerful")))
    places = {"data": str(tmp_path / "talk.jsonl"), "other": str(tmp_path / "other.jsonl")}
    with pytest.raises(SystemExit) as stopped:
        main(["--checkpoint", str(tiny_checkpoint), *(a.format(**places) for a in arguments)])
    message = f"{stopped.value.code}\n{capsys.readouterr().err}"
    assert told in message
    assert "Traceback" not in message


def test_who_speaks_is_scored_where_the_network_tells_it(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, sizes = ARCHITECTURES["speaker_multitask"]
    config = sizes(text_dim=32, audio_groups=checkpoint.network.config.audio_groups, classes=7, width=8)
    folder = tmp_path / "teller"
    save(
        folder,
        replace(checkpoint, architecture="speaker_multitask", network=network(config).eval()),
        "# Teller\n",
    )
    arguments = ["--checkpoint", str(folder), "--data", str(write(tmp_path / "talk.jsonl", talk()))]
    main([*arguments, "--cache", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)["speaker_task"]
    asked = sum(max(0, sum(bool(u.text) for u in d.utterances) - 1) for d in talk())
    assert told["turns"] == asked
    assert 0 <= told["accuracy"] <= 100
    main([*arguments, "--cache", str(tmp_path)])
    assert f"Speaker task ({asked} turns)" in capsys.readouterr().out
