import pytest

from stream_erc.config import EndpointingConfig
from stream_erc.core.turn_end import needed_silence_ms

CONFIG = EndpointingConfig(min_silence_ms=320, short_silence_ms=256, long_silence_ms=800)
SHORT, USUAL, LONG = 256, 320, 800


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("I am so happy.", "en", SHORT),
        ("Are you serious?", "en", SHORT),
        ("I went home because", "en", LONG),
        ("I went home, and.", "en", LONG),  # Whisper ends what is cut off with a full stop, too
        ("Well, um...", "en", LONG),
        ("My number is five five five.", "en", LONG),
        ("My number is 555 12", "en", LONG),
        ("There were two.", "en", SHORT),
        ("I have 3 of 4.", "en", SHORT),
        ("What is it like?", "en", SHORT),
        ("the train is late", "en", USUAL),  # PocketSphinx writes no punctuation
        ("the train is late because", "en", LONG),
        ("", "en", USUAL),
        (None, None, USUAL),
        ("Ich komme später.", "de", SHORT),
        ("Ich komme,", "de", LONG),
        ("Ich komme in", "de", USUAL),  # "in" is judged in English alone
        ("我不知道。", "zh", SHORT),
        ("はい、", "ja", LONG),
    ],
)
def test_the_words_say_how_long_a_pause_is(text, language, expected):
    assert needed_silence_ms(text, language, CONFIG) == expected


def test_a_given_silence_bounds_both_ways():
    fixed = EndpointingConfig(adaptive=False)
    assert needed_silence_ms("and", "en", fixed) == fixed.min_silence_ms
    quick, slow = EndpointingConfig(min_silence_ms=200), EndpointingConfig(min_silence_ms=1_000)
    assert needed_silence_ms("Yes.", "en", quick) == 200
    assert needed_silence_ms("and", "en", slow) == 1_000
