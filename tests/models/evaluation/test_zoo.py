import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpora import talk, write
from erc_models.evaluation import metrics, reproduce, results, zoo
from erc_models.evaluation.metrics import Predictions
from erc_models.evaluation.network_facts import facts, step_times
from erc_models.evaluation.prediction import predict
from erc_models.networks.checkpoint import load
from erc_models.networks.si_lstm import SiLstm, SiLstmConfig
from erc_models.networks.streaming import state_bytes

SMALL = SiLstmConfig(text_dim=6, audio_groups=(4, 3), classes=3, width=8, feedforward=8, window=3)
LABELS = ("neutral", "joy", "anger")
LENGTHS = np.array([5, 3, 7, 6, 4, 8])


def said(seed: int, hit: float = 0.6) -> Predictions:
    """Random predictions of the same turns, right with probability `hit` and by chance."""
    rng, gold = np.random.default_rng(seed), np.random.default_rng(99).integers(0, 3, LENGTHS.sum())
    told = np.where(rng.random(len(gold)) < hit, gold, rng.integers(0, 3, len(gold)))
    dialogue = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    turn = np.concatenate([np.arange(length) for length in LENGTHS])
    return Predictions(0.1 + 0.7 * np.eye(3)[told], gold, dialogue, turn, LABELS)


def row(name: str, first_seed: int = 0, hit: float = 0.6, key: str = "meld_dev:text", **flags: bool) -> dict:
    """The results of three seeds of a small SI-LSTM."""
    return results.results_of(
        name,
        architecture="si_lstm",
        network=SiLstm(replace(SMALL, **flags)),
        sets={key: {seed: said(first_seed + seed, hit) for seed in range(3)}},
        text_encoder="tiny",
        text_parameters=1_234_567,
        config=f"{name}.toml",
    )


def test_results_keep_what_every_seed_said(tmp_path: Path) -> None:
    stored = results.load(results.store(row("one"), tmp_path))
    part = stored["sets"]["meld_dev:text"]
    seeds = [said(seed) for seed in range(3)]
    assert [results.decode(s["predicted"]).tolist() for s in part["seeds"].values()] == [
        s.predicted.tolist() for s in seeds
    ]
    f1 = [metrics.scores_of(s).weighted_f1 for s in seeds]
    value = part["scores"]["weighted_f1"]
    assert (value["mean"], value["sd"]) == pytest.approx((np.mean(f1), np.std(f1, ddof=1)), abs=1e-4)
    assert value["low"] < value["mean"] < value["high"]
    assert part["classes"]["joy"]["support"] == (seeds[0].gold == 1).sum()
    assert (part["corpus"], part["split"], part["condition"]) == ("meld", "dev", "text")
    assert part["seeds"]["1"]["course"]["turns"]["1"] == len(LENGTHS)
    matrices = results.matrices(part)
    assert matrices.shape == (3, 6, 3, 3)
    for matrix, seed in zip(matrices, seeds, strict=True):
        assert metrics.agreement(matrix.sum(0), LABELS)["weighted_f1"] == pytest.approx(
            metrics.scores_of(seed).weighted_f1
        )


def test_a_large_row_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 14, 1000)  # as DailyDialog dev
    n = int(lengths.sum())
    seeds = {}
    for seed in range(5):
        p = rng.random((n, 7))
        dialogue = np.repeat(np.arange(1000), lengths)
        turn = np.concatenate([np.arange(length) for length in lengths])
        seeds[seed] = Predictions(
            p / p.sum(1, keepdims=True), np.arange(n) % 7, dialogue, turn, tuple("nabcdef")
        )
    made = results.results_of(
        "large", architecture="si_lstm", network=SiLstm(SMALL), sets={"dailydialog_dev:text": seeds}
    )
    assert results.store(made, tmp_path).stat().st_size < 200_000


def test_a_set_that_has_only_text_stands_once() -> None:
    def sets(other: int) -> list[str]:
        found = {"meld_dev:all": {0: said(0)}, "meld_dev:text": {0: said(other)}}
        made = results.results_of("x", architecture="si_lstm", network=SiLstm(SMALL), sets=found)
        return list(made["sets"])

    assert sets(0) == ["meld_dev:text"]
    assert sets(1) == ["meld_dev:all", "meld_dev:text"]


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("meld_dev:text", ("meld", "dev", "", "text")),
        ("meld_train_plain:audio", ("meld", "train", "plain", "audio")),
        ("dev:all", ("dev", "dev", "", "all")),
        ("echoes:all", ("echoes", "", "", "all")),
    ],
)
def test_a_set_is_known_by_its_name(key: str, parts: tuple[str, ...]) -> None:
    made = results.set_results(key, {0: said(0)})
    assert (made["corpus"], made["split"], made["variant"], made["condition"]) == parts


def test_results_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'meld_dev:vision'"):
        results.set_results("meld_dev:vision", {0: said(0)})
    other = metrics.select(said(0), np.arange(LENGTHS.sum()) > 0)
    with pytest.raises(ValueError, match="same turns, got others for 4"):
        results.set_results("meld_dev:text", {0: said(0), 4: other})
    with pytest.raises(ValueError, match="no such file"):
        results.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="expected results of format 1"):
        results.load_all(tmp_path)


def test_what_is_said_of_a_network() -> None:
    network = SiLstm(SMALL)
    told = facts(network)
    assert told["parameters"] == sum(p.numel() for p in network.parameters())
    assert told["state_bytes"] == state_bytes(network.initial_state(1, 2))
    assert told["causal"] and told["network"] == json.loads(json.dumps(told["network"]))
    offline = facts(SiLstm(replace(SMALL, offline=True)))
    assert (offline["causal"], offline["state_bytes"]) == (False, None)


def readme(folder: Path) -> Path:
    path = folder / "README.md"
    names = ("conversations", "misheard", "dailydialog", "acted", "ablation")
    path.write_text(
        "# Zoo\n\n" + "\nwords\n".join(f"<!-- zoo:{n} -->\nold\n<!-- /zoo:{n} -->" for n in names) + "\nend\n"
    )
    return path


def run(folder: Path, *options: str) -> None:
    zoo.main(["--results", str(folder), "--readme", str(folder / "README.md"), *options])


def test_tables_are_written_between_their_markers_and_checked(tmp_path: Path) -> None:
    path = readme(tmp_path)
    results.store(row("si_lstm_meld"), tmp_path)
    results.store(row("better", hit=0.9), tmp_path)
    results.store(row("acted", key="acted_dev:audio"), tmp_path)
    with pytest.raises(SystemExit, match=r"run scripts/zoo"):
        run(tmp_path, "--check")
    assert "old" in path.read_text()
    run(tmp_path)
    run(tmp_path, "--check")
    text = path.read_text()
    assert text.startswith("# Zoo\n") and text.endswith("\nend\n") and "old" not in text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [line[0] for line in lines] == ["| model", "| better", "| si_lstm_meld", "| model", "| acted"]
    cells = dict(zip(lines[0], lines[2], strict=True))
    value = results.load(tmp_path / "si_lstm_meld.json")["sets"]["meld_dev:text"]["scores"]["weighted_f1"]
    shown = f"{value['mean']:.1f} ± {value['sd']:.1f} [{value['low']:.1f}, {value['high']:.1f}]"
    assert cells["weighted F1"] == shown
    assert (cells["reads"], cells["causal"], cells["seeds"], cells["step, ms"]) == ("text", "yes", "3", "-")
    assert cells["parameters"].endswith("+ 1.2 M")
    assert "weighted F1 65.70, accuracy 66.59 (TA, not causal;" in cells["paper, test split |"]
    assert text.count("No results stored.") == 3


def test_the_ablation_is_paired(tmp_path: Path) -> None:
    full = row("base", hit=0.9)
    rows = {
        "base": full,
        "base_lstm": row("base_lstm", 10, 0.4, speaker_state=False, joint_attention=False),
        "base_offline": row("base_offline", 20, 0.9, offline=True),
    }
    made = zoo.tables(rows)
    lines = {
        line.split(" | ")[0].strip("| "): line.split(" | ") for line in made["ablation"].splitlines()[2:]
    }
    assert list(lines)[2:] == ["LSTM", "SI-LSTM", "offline (bidirectional, whole dialogue)"]
    low, high = lines["LSTM"][5].split("[")[1].rstrip("]").split(", ")
    means = [
        np.mean([metrics.scores_of(said(s + b, h)).weighted_f1 for s in range(3)])
        for b, h in ((0, 0.9), (10, 0.4))
    ]
    assert lines["LSTM"][5].split()[0] == f"{means[1] - means[0]:+.2f}"
    assert float(low) < float(high) < 0
    assert lines["LSTM"][-1].strip(" |") == "62.98"
    assert lines["SI-LSTM"][5] == "-"
    assert lines["offline (bidirectional, whole dialogue)"][1] == "no"
    assert made["conversations"].count("| base") == 1
    rows["base_lstm"] = row("base_lstm")
    with pytest.raises(ValueError, match="base_lstm: expected a network with"):
        zoo.tables(rows)


def test_a_readme_without_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Zoo\n<!-- zoo:conversations -->\n")
    with pytest.raises(SystemExit, match="expected a line <!-- zoo:conversations -->"):
        run(tmp_path)


def test_step_times_are_measured_and_kept(tmp_path: Path) -> None:
    readme(tmp_path)
    results.store(row("si_lstm_meld"), tmp_path)
    results.store(row("whole", offline=True), tmp_path)
    assert step_times(results.load_all(tmp_path), runs=1, repeat=1).keys() == {"si_lstm_meld"}
    run(tmp_path, "--time")
    measured = results.load(tmp_path / "si_lstm_meld.json")["step_ms"]
    assert measured > 0
    results.store(row("si_lstm_meld", 5), tmp_path)  # trained again: the same network
    assert results.load(tmp_path / "si_lstm_meld.json")["step_ms"] == measured
    results.store(row("si_lstm_meld", literal_candidate=True), tmp_path)
    assert "step_ms" not in results.load(tmp_path / "si_lstm_meld.json")


def test_the_shipped_zoo_is_what_the_results_give() -> None:
    zoo.main(["--check"])


def test_a_row_is_reproduced(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, work, kept = tmp_path / "data", tmp_path / "work", tmp_path / "results"
    (data / "talk").mkdir(parents=True)
    (data / "other").mkdir()
    (work / "tiny").mkdir(parents=True)
    (work / "tiny" / "seed_3").symlink_to(tiny_checkpoint)
    for corpus, labels in (("talk", {}), ("other", {"labels": ("neutral", "powerful")})):
        lines = write(tmp_path / "lines", talk(**labels)).read_bytes()
        (data / corpus / "dev.jsonl.gz").write_bytes(gzip.compress(lines))
    places = [
        "--data",
        str(data),
        "--work",
        str(work),
        "--results",
        str(kept),
        "--cache",
        str(tmp_path / "cache"),
    ]
    reproduce.main(["tiny", *places, "--store"])
    stored = results.load(kept / "tiny.json")
    assert list(stored["sets"]) == ["talk_dev:text"]
    assert list(stored["sets"]["talk_dev:text"]["seeds"]) == ["3"]
    assert str(tmp_path) not in json.dumps(stored)
    capsys.readouterr()
    reproduce.main(["tiny", *places])
    assert "The row equals the stored one." in capsys.readouterr().out

    part = stored["sets"]["talk_dev:text"]["seeds"]["3"]
    part["predicted"] = "".join("1" if c == "0" else "0" for c in part["predicted"])
    results.store(stored, kept)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["tiny", *places])
    assert stopped.value.code == 1
    assert "The row differs from the stored one." in capsys.readouterr().out
    with pytest.raises(SystemExit, match="expected data to score tiny on"):
        reproduce.main(["tiny", *places, "--data", str(tmp_path / "nothing")])


def test_a_set_of_the_training_is_taken_from_its_features(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from erc_models.evaluation import evaluation_sets

    checkpoint = load(tiny_checkpoint)
    dialogues = [d for d in talk() if all(u.text for u in d.utterances)]
    audio = np.random.default_rng(0).normal(size=(sum(len(d.utterances) for d in dialogues), 88))
    features = evaluation_sets.featurise(checkpoint, dialogues, audio.astype(np.float32))
    features.save(tmp_path / "features" / "composed_dev.safetensors")
    places = reproduce.Places(tmp_path, tmp_path)
    found = reproduce.read_set("composed_dev", checkpoint, places)
    assert found is not None
    assert reproduce.read_set("acted_dev", checkpoint, places) is None
    given = reproduce.predict_conditions(checkpoint, "composed_dev", found)
    assert list(given) == ["composed_dev:all", "composed_dev:text", "composed_dev:audio"]
    expected = predict(checkpoint.network, features, "audio", checkpoint.calibration)
    np.testing.assert_array_equal(given["composed_dev:audio"].probabilities, expected.probabilities)
