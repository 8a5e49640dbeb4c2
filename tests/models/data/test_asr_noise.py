"""Simulated recognizer errors: the word error rate asked for, deterministic, and only what was asked."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

jiwer = pytest.importorskip("jiwer", reason="counting word errors needs jiwer (the extra 'evaluate')")
pytest.importorskip("jellyfish", reason="words that sound alike need jellyfish (the extra 'train')")

from erc_models.data.asr_noise import Vocabulary, corrupt  # noqa: E402
from erc_models.data.datasets import normalise, read_jsonl  # noqa: E402

WORDS = (
    "there their they're great grade love leave live hate hat sorry sure angry hungry wedding waiting what "
    "that i'm you are really so never know no now meet meat right write the a to of happened yesterday"
).split()
RATES = (0.05, 0.1, 0.2, 0.35, 0.5)


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    rng = random.Random(0)
    made = [" ".join(rng.choices(WORDS, k=rng.randint(1, 16))) for _ in range(2_000)]
    return [text[0].upper() + text[1:] + rng.choice(".?!") for text in made]


@pytest.fixture(scope="module")
def vocabulary(sentences: list[str]) -> Vocabulary:
    return Vocabulary.of(sentences)


def achieved(texts: Sequence[str], wer: float, vocabulary: Vocabulary, written: float = 0.0) -> float:
    rng = random.Random(1)
    said = [normalise(text) for text in texts]
    heard = [normalise(corrupt(text, wer, rng, vocabulary, written=written)) for text in texts]
    pairs = [pair for pair in zip(said, heard, strict=True) if pair[0]]
    return float(jiwer.wer([a for a, _ in pairs], [b for _, b in pairs]))


@pytest.mark.parametrize("written", [0.0, 1.0])
@pytest.mark.parametrize("wer", RATES)
def test_the_rate_is_met(sentences: list[str], vocabulary: Vocabulary, wer: float, written: float) -> None:
    assert achieved(sentences, wer, vocabulary, written) == pytest.approx(wer, abs=0.02)


def test_the_rate_is_met_on_a_corpus(data_dir: Path) -> None:
    train, dev = (
        [u.text for d in read_jsonl(data_dir / "meld" / f"{split}.jsonl.gz") for u in d.utterances]
        for split in ("train", "dev")
    )
    words = Vocabulary.of(train)
    assert [achieved(dev, wer, words) for wer in RATES] == pytest.approx(RATES, abs=0.02)


def test_the_ends_of_the_range(sentences: list[str], vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    assert all(corrupt(text, 0, rng, vocabulary) == normalise(text) for text in sentences[:100])
    assert all(corrupt(text, 0, rng, vocabulary, written=1) == text for text in sentences[:100])
    assert achieved(sentences, 1, vocabulary) > 0.9
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"word error rate: expected 0 to 1, got"):
            corrupt("hello", wrong, rng, vocabulary)


def test_the_same_state_hears_the_same(sentences: list[str]) -> None:
    def heard(seed: int) -> list[str]:
        words, rng = Vocabulary.of(sentences), random.Random(seed)
        return [corrupt(text, 0.4, rng, words) for text in sentences]

    assert heard(7) == heard(7) != heard(8)


def test_turns_differ_and_short_ones_are_lost(vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    long = "what happened to you there was never right and I'm really sorry so leave the wedding"
    rates = [jiwer.wer(normalise(long), corrupt(long, 0.3, rng, vocabulary)) for _ in range(500)]
    assert sum(rate == 0 for rate in rates) > 25
    assert sum(rate > 0.6 for rate in rates) > 25
    lost = sum(not corrupt("No!", 0.3, rng, vocabulary) for _ in range(1_000))
    assert 30 < lost < 200


def test_wrong_words_sound_alike(vocabulary: Vocabulary) -> None:
    assert set(vocabulary.near("there")[:12]) <= {"their", "they're"}
    assert vocabulary.near("meet")[0] == "meat"
    assert "great" not in vocabulary.near("great")
    assert "grade" in vocabulary.near("grate")  # a word never seen
    assert "there" in vocabulary
    assert "grate" not in vocabulary


@pytest.mark.parametrize("text", ["", "...", " \t", "?!"])
def test_no_words_stay_none(text: str, vocabulary: Vocabulary) -> None:
    assert corrupt(text, 0.5, random.Random(0), vocabulary) == ""
    assert corrupt(text, 0.5, random.Random(0), vocabulary, written=1) == ""


def test_words_that_are_no_english(vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    for text in ("これは 何 ですか", "naïve über-cool 100%", "x", "e\u2019er so"):
        for _ in range(50):
            corrupt(text, 0.9, rng, vocabulary, written=0.5)


def test_one_word_is_a_vocabulary_and_none_is_not() -> None:
    rng = random.Random(0)
    single = Vocabulary.of(["no no"])
    assert all(corrupt("no", 1, rng, single) != "no" for _ in range(50))
    with pytest.raises(ValueError, match="expected the words of a corpus, got none"):
        Vocabulary.of(["...", ""])


def test_normalised_words() -> None:
    assert normalise("I\u2019m -- 'so' sorry, y'know? Mm-hmm... 3,000!") == "i'm so sorry y'know mm hmm 3 000"


def test_it_keeps_up_with_training(sentences: list[str], vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    began = time.process_time()
    for text in sentences:
        corrupt(text, 0.35, rng, vocabulary)
    per_second = len(sentences) / (time.process_time() - began)
    assert per_second > 5_000  # several times as many on an idle machine
