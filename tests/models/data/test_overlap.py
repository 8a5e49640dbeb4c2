"""Overlap: what is held out is found in training, and dropped, and nothing else is."""

import json
import random
import sys
from pathlib import Path

import pytest
from erc_models.data import overlap
from erc_models.data.datasets import Dialogue, Utterance
from erc_models.data.overlap import (
    measure,
    repeats,
    without_overlap,
    without_repeats,
    without_shared_utterances,
)
from erc_models.data.releases import read

WORDS = [f"w{k}" for k in range(400)]


def dialogue(name: str, *texts: str) -> Dialogue:
    return Dialogue("x", name, tuple(Utterance("AB"[k % 2], text) for k, text in enumerate(texts)))


def anything(name: str, seed: int, turns: int = 8) -> Dialogue:
    rng = random.Random(seed)
    return dialogue(name, *(" ".join(rng.choices(WORDS, k=8)) for _ in range(turns)))


HELD_OUT = [dialogue("h", "Oh, I'm so very HAPPY!", "Okay, me too.", "No, not in here")]


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("Oh I\u2019m so very happy...", True),
        ("oh I'm so very happy now", False),
        ("Okay me too", False),  # three words: anybody's
        ("No, not in here!", False),  # four
    ],
)
def test_a_dialogue_is_dropped_for_one_long_utterance(text: str, shared: bool) -> None:
    train = [anything("a", 1), dialogue("b", "Hello.", text)]
    assert without_shared_utterances(train, HELD_OUT) == (train[:1] if shared else train)


def test_the_least_number_of_words_is_a_choice() -> None:
    train = [dialogue("b", "okay, ME too")]
    assert without_shared_utterances(train, HELD_OUT, min_words=3) == []
    assert without_shared_utterances(train, HELD_OUT, min_words=4) == train


def changed(original: Dialogue, share: float) -> Dialogue:
    """The dialogue with this share of its turns said otherwise."""
    other = anything("other", 99)
    cut = round(len(original.utterances) * share)
    return Dialogue("x", "changed", original.utterances[cut:] + other.utterances[:cut])


def test_repeated_dialogues() -> None:
    train = [anything(str(k), k) for k in range(20)]
    same = dialogue("same", *(u.text.upper() + "!" for u in train[3].utterances))
    nearly, hardly = changed(train[5], 0.125), changed(train[7], 0.75)
    asked = [same, nearly, hardly, anything("new", 77)]
    assert repeats(asked, train, 1) == [True, False, False, False]
    assert repeats(asked, train) == [True, True, False, False]
    assert repeats(asked, train, 0.05) == [True, True, True, False]
    assert without_repeats(asked, train) == asked[2:]
    assert repeats(asked, []) == [False] * 4
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"share: expected above 0 and at most 1, got {share}"):
            repeats(asked, train, share)


def test_short_dialogues_repeat_only_word_for_word_and_empty_ones_never() -> None:
    train = [dialogue("a", "Hi.", "Hello."), dialogue("b", "...", "")]
    assert repeats([dialogue("c", "hi", "hello!"), dialogue("d", "Hi."), dialogue("e", "?!")], train) == [
        True,
        False,
        False,
    ]


def test_what_is_held_out_is_not_repeated_by_the_rest() -> None:
    dialogues = [anything(f"d{k}", k) for k in range(40)]
    dialogues += [dialogue(f"again {k}", *(u.text for u in d.utterances)) for k, d in enumerate(dialogues)]
    fit, held = overlap.held_out(dialogues, 0.25)
    assert len(fit) == 60
    assert not any(repeats(held, fit))
    assert 0 < len(held) < 20  # those whose copy was held out too
    assert overlap.held_out(dialogues, 0.25) == (fit, held)


def test_all_counts() -> None:
    train = [anything("a", 1), anything("b", 2), dialogue("c", "Oh I'm so very happy."), anything("d", 4)]
    held_out = [*HELD_OUT, changed(anything("", 2), 0.125), anything("new", 5)]
    found = measure(train, held_out)
    assert (found.train_dialogues, found.train_turns, found.held_out_dialogues) == (4, 25, 3)
    assert (found.sharing_dialogues, found.sharing_turns) == (2, 9)
    assert (found.long_utterances, found.known_utterances) == (17, 8)
    assert (found.same_dialogues, found.near_dialogues) == (0, 1)
    assert without_overlap(train, held_out) == [train[0], train[3]]
    assert found.left_dialogues == 2


def test_the_command_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{"speaker": u.speaker, "text": u.text} for u in HELD_OUT[0].utterances]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"dialogue": "a", "turns": turns}))
    arguments = ["overlap", "--train", str(path), "--held-out", str(path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        overlap.main()
        assert "training has: 1 of 1 (100.0%)" in capsys.readouterr().out
        patch.setattr(sys, "argv", [*arguments[:-1], str(tmp_path / "none")])
        with pytest.raises(SystemExit):
            overlap.main()
        assert "expected a corpus file or folder, got a path that does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(("train", "held_out"), [("meld", "emorynlp"), ("emorynlp", "meld")])
def test_one_show_in_two_corpora(data_dir: Path, train: str, held_out: str) -> None:
    mine = read(data_dir / train / "train.jsonl.gz")
    theirs = read(data_dir / held_out / "dev.jsonl.gz")
    found = measure(mine, theirs)
    assert found.known_utterances > 0.05 * found.long_utterances
    kept = without_overlap(mine, theirs)
    assert len(kept) == found.left_dialogues < len(mine)
    left = measure(kept, theirs)
    assert (left.known_utterances, left.sharing_dialogues, left.near_dialogues) == (0, 0, 0)
