import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_erc.inference.asr_guards import (
    DecodedWindow,
    collapse_repeats,
    compression_ratio,
    credible_text,
    is_loop,
    is_silence_phrase,
    is_silent,
    too_long,
)


def tone(level: float, seconds: float = 0.5) -> np.ndarray:
    return (level * np.sin(np.arange(int(16_000 * seconds)) * 0.2)).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "silent"),
    [
        (np.zeros(0, np.float32), True),
        (np.full(319, 0.9, np.float32), True),  # less than a frame
        (np.zeros(16_000, np.float32), True),
        (np.full(16_000, 0.3, np.float32), True),  # a DC offset
        (tone(0.0005), True),
        (tone(0.003), False),
        (np.concatenate([np.zeros(16_000, np.float32), tone(0.1, 0.05)]), False),
    ],
)
def test_energy_floor(samples, silent):
    assert is_silent(samples) is silent


@pytest.mark.parametrize(
    ("text", "collapsed"),
    [
        ("", ""),
        ("No, no, no! I said no.", "No, no, no! I said no."),
        ("No no no no, really.", "No no no no, really."),
        ("no " * 8, "no"),
        ("I know. " + "Thank you. " * 20, "I know. Thank you."),
        ("thank you Thank you, thank you. THANK YOU", "thank you"),
        ("We went to the store and the store and the store and the store and", "We went to the store and"),
        ("Aaaaah!", "Aaaaah!"),
        ("hahahahahahahahahaha stop", "ha stop"),
        ("謝謝觀看謝謝觀看謝謝觀看謝謝觀看謝謝觀看謝謝觀看謝謝觀看謝謝觀看", "謝謝觀看"),
        ("It cost 1000000000000 dollars", "It cost 1000000000000 dollars"),
        ("- - - - - - - - - -", "-"),
    ],
)
def test_collapse_repeats(text, collapsed):
    assert collapse_repeats(text) == collapsed


@given(st.lists(st.sampled_from(["a", "b", "no,", "No", "well."]), max_size=40).map(" ".join))
def test_collapse_only_drops_words(text):
    words, kept = text.split(), iter(text.split())
    assert all(word in kept for word in collapse_repeats(text).split())
    assert len(collapse_repeats(text).split()) == len(words) or len(words) >= 8


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("I was going to tell you about it, but you never listen to me anyway.", False),
        (" no, no, no ", False),
        ("and then I was " * 12, True),
        ("abcdefgh" * 40, True),
        ("", False),
    ],
)
def test_is_loop(text, loop):
    assert is_loop(text) is loop


def test_compression_ratio_of_nothing_and_of_a_loop():
    assert compression_ratio("") == 0
    assert compression_ratio("Kids are talking by the door") < 1.2
    assert compression_ratio("okay " * 60) > 2.4


@pytest.mark.parametrize(
    "text", ["Thank you for watching!", " thanks for watching. ", "I'll see you next time.", "You"]
)
def test_silence_phrases(text):
    assert is_silence_phrase(text)


@pytest.mark.parametrize("text", ["", "Thank you for coming.", "you too", "watching"])
def test_other_phrases(text):
    assert not is_silence_phrase(text)


def test_too_long():
    assert not too_long("I really don't want to talk about this now", 1.5)
    assert too_long("I really don't want to talk about this now", 0.4)


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        (DecodedWindow(" What do you mean?", 1.2, -0.2, 0.05), "What do you mean?"),
        (DecodedWindow(" What do you mean?", 1.2, -0.2, 0.9), "What do you mean?"),  # sure of its words
        (DecodedWindow(" What do you mean?", 1.2, -1.4, 0.1), "What do you mean?"),  # mumbled, but speech
        (DecodedWindow(" What do you mean?", 1.2, -1.4, 0.9), ""),
        (
            DecodedWindow(" Thank you for watching!", 2.0, -0.2, 0.01),
            "Thank you for watching!",
        ),  # said clearly
        (DecodedWindow(" Thank you for watching!", 2.0, -0.2, 0.5), ""),
        (DecodedWindow(" Thank you for watching!", 2.0, -0.9, 0.01), ""),
        (DecodedWindow(" Thank you. Thank you. Thank you. Thank you.", 5.0, -0.3, 0.5), ""),  # a loop of it
        (DecodedWindow(" " + "Oh my God, " * 30, 3.0, -0.1, 0.01), "Oh my God,"),
        (
            DecodedWindow(" one two three four five six seven eight nine" * 9, 30.0, -0.1, 0.01),
            "",
        ),  # a long loop
        (DecodedWindow(" I really don't want to talk about this now.", 0.4, -0.3, 0.1), ""),
        (DecodedWindow(" ...", 1.0, -0.3, 0.1), ""),
        (DecodedWindow("", 1.0, 0.0, 0.0), ""),
    ],
)
def test_believable(heard, text):
    assert credible_text(heard) == text


@pytest.mark.parametrize(
    ("text", "logprob", "no_speech", "heard"),
    [
        ("Vielen Dank.", -0.8, 0.2, False),
        ("Vielen Dank.", -0.2, 0.1, True),
        ("Sous-titrage Société Radio-Canada", -0.5, 0.4, False),
        ("ご視聴ありがとうございました", -0.4, 0.5, False),
        ("Untertitel der Amara.org-Community", -0.1, 0.1, False),
        ("Субтитры сделал DimaTorzok", -0.1, 0.1, False),
        ("ТРЕВОЖНАЯ МУЗЫКА", -0.39, 0.86, False),
        ("JR東日本E233系電車", -0.39, 0.77, False),
        ("Ich bin hier.", -0.2, 0.86, True),
        ("Ich bin hier.", -2.1, 0.5, False),
        ("Ich bin hier.", -1.4, 0.4, True),
    ],
)
def test_sentences_are_invented_in_every_language(text, logprob, no_speech, heard):
    assert bool(credible_text(DecodedWindow(text, 2.0, logprob, no_speech))) is heard
