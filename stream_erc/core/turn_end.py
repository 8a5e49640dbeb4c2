"""The silence that ends a turn, from its words: a pause after "because" is seldom the end.

Pure functions of a transcript. `scripts/evaluate_endpointing` measures cut-off turns against delay.
"""

import re

from stream_erc.config import EndpointingConfig

OPEN_WORDS = frozenset(
    """
    a about after all although an and any are as at be because been before but by can could did do does each
    either every for from get gets getting had has have he her his how i if in into is it's i'm like my
    neither nor of on one or our she should since so some such than that the their then there these they this
    those though through till to uh uhm um unless until very was we we're were what when where whether which
    while who whose why will with without would you you're your
    """.split()
)
"""English words that seldom end a sentence: articles, conjunctions, prepositions, pronouns, fillers."""

NUMBERS = frozenset("zero oh one two three four five six seven eight nine ten double triple".split())
"""Words of which dictated numbers are made."""

OPEN_ENDS = (",", "-", "–", "—", "...", "…", "、", "،", ":")  # noqa: RUF001
CLOSED_ENDS = (".", "!", "?", "。", "！", "？", "؟", "।")  # noqa: RUF001


def needed_silence_ms(text: str | None, language: str | None, config: EndpointingConfig) -> int:
    """Return the silence that ends a turn after `text`, in milliseconds.

    Args:
        text: the words so far; None if they could not be recognized.
        language: ISO 639-1 code; words are judged in English alone, punctuation in any language.
        config: the bounds.
    """
    if not config.adaptive or text is None:
        return config.min_silence_ms
    longest = max(config.long_silence_ms, config.min_silence_ms)
    text = text.strip()
    words = re.findall(r"[\w'-]+", text.lower())
    if not words or text.endswith(OPEN_ENDS):
        return longest if words else config.min_silence_ms
    if language in (None, "en") and (_is_dictation(words) or _is_open(words[-1], text)):
        return longest
    if text.endswith(CLOSED_ENDS):
        return min(config.short_silence_ms, config.min_silence_ms)
    return config.min_silence_ms


def _is_dictation(words: list[str]) -> bool:
    """Return whether the text ends with two numbers or more, as somebody does who dictates one."""
    number = [word in NUMBERS or word.replace("-", "").isdecimal() for word in words[-2:]]
    return len(number) == 2 and all(number)


def _is_open(word: str, text: str) -> bool:
    """Return whether the last word seldom ends a sentence; a question may end with most of them."""
    return word in OPEN_WORDS and not text.endswith(("?", "!"))
