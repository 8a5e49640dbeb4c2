"""The silence that ends a turn, from its words: a pause after "because" is seldom the end.

A pure function of a transcript. Whisper ends most sentences with punctuation and leaves it out where one is
cut off, so punctuation tells most. `scripts/evaluate_endpointing` measures cut-off turns against delay.
"""

import re

from stream_erc.config import EndpointingConfig
from stream_erc.events import Hypothesis

OPEN_WORDS = frozenset(
    """
    a although an and because but if my of or our than the their to uh uhm um unless until very when whereas
    whether which while with without your
    """.split()
)
"""English words that do not end a sentence, whatever is written after them."""

NUMBERS = frozenset("zero oh one two three four five six seven eight nine ten double triple".split())
"""Words of which dictated numbers are made."""

OPEN_ENDS = (",", "-", "–", "—", "...", "…", "、", "،", ":")  # noqa: RUF001
CLOSED_ENDS = (".", "!", "?", "。", "！", "？", "؟", "।")  # noqa: RUF001


def needed_silence_ms(heard: Hypothesis | None, config: EndpointingConfig) -> int:
    """Return the silence that ends a turn after these words, in milliseconds.

    Args:
        heard: the words so far; None if they could not be recognized. Single words are judged in English
            alone, punctuation in any language.
        config: the bounds.
    """
    usual = config.min_silence_ms
    if not config.adaptive or heard is None:
        return usual
    short, long = min(config.short_silence_ms, usual), max(config.long_silence_ms, usual)
    text = heard.text.strip()
    words = re.findall(r"[\w'-]+", text.lower())
    if not words:
        return usual
    numbers = [word in NUMBERS or word.replace("-", "").isdecimal() for word in words[-2:]]
    dictated = len(numbers) == 2 and all(numbers)
    open_word = heard.language in (None, "en") and words[-1] in OPEN_WORDS and not text.endswith(("?", "!"))
    if dictated or open_word or text.endswith(OPEN_ENDS):
        return long
    if text.endswith(CLOSED_ENDS):
        return short
    return long if heard.punctuated and not numbers[-1] else usual
