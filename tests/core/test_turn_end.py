import pytest

from stream_erc.config import EndpointingConfig
from stream_erc.core.turn_end import needed_silence_ms
from stream_erc.events import Hypothesis

CONFIG = EndpointingConfig(min_silence_ms=320, short_silence_ms=256, long_silence_ms=800)
SHORT, USUAL, LONG = 256, 320, 800


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("I am so happy.", "en", SHORT),
        ("Are you serious?", "en", SHORT),
        ("The next one.", "en", SHORT),
        ("I went home because", "en", LONG),
        ("I went home, and.", "en", LONG),  # Whisper ends some of what is cut off with a full stop
        ("Well, um...", "en", LONG),
        ("This is going", "en", LONG),
        ("My number is five five five.", "en", LONG),
        ("My number is 555 12", "en", LONG),
        ("We live at number 8", "en", USUAL),
        ("There were two.", "en", SHORT),
        ("What did you do that with?", "en", SHORT),
        ("", "en", USUAL),
        ("Ich komme später.", "de", SHORT),
        ("Ich komme,", "de", LONG),
        ("Das war mein Will.", "de", SHORT),
        ("我不知道。", "zh", SHORT),
        ("はい、", "ja", LONG),
    ],
)
def test_the_words_say_how_long_a_pause_is(text, language, expected):
    assert needed_silence_ms(Hypothesis(text, language=language, punctuated=True), CONFIG) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("the train is late", USUAL), ("the train is late because", LONG)]
)
def test_a_recognizer_without_punctuation_is_judged_by_words(text, expected):
    assert needed_silence_ms(Hypothesis(text, language="en"), CONFIG) == expected


def test_a_given_silence_bounds_both_ways():
    fixed = EndpointingConfig(adaptive=False)
    assert needed_silence_ms(Hypothesis("and"), fixed) == fixed.min_silence_ms
    quick, slow = EndpointingConfig(min_silence_ms=200), EndpointingConfig(min_silence_ms=1_000)
    assert needed_silence_ms(Hypothesis("Yes."), quick) == 200
    assert needed_silence_ms(Hypothesis("and"), slow) == 1_000
    assert needed_silence_ms(None, CONFIG) == 320
