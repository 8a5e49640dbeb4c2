"""Simulated errors of a speech recognizer, to train and test on transcripts like a recognizer's.

Words are deleted, replaced by words that sound alike, or followed by inserted words. The word error rate is
an average over many turns: as with a real recognizer some turns are untouched and others garbled (the rate of
a turn is drawn from a beta distribution), and short turns are sometimes lost entirely. Casing and punctuation
are removed too.

Words that sound alike have the same or nearly the same Metaphone key (Philips, 1990, by jellyfish). The most
similarly spelled and most frequent ones are preferred, as a recognizer's language model does.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from jellyfish import jaro_winkler_similarity, metaphone

from erc_models.data.datasets import WORD, normalise

FILLERS = ("uh", "um", "oh", "well", "like", "so", "hmm", "yeah")
"""Fillers to insert."""

WEAK_WORDS = frozenset(
    "a an the of to in on at for and or but that is are was it its he she i you we they do did have has had "
    "be been will would can just not with as if uh um oh well hmm ah eh yeah y'know".split()
)
"""Unstressed words and fillers, whose errors are more often deletions."""

DELETED_WEAK, DELETED, INSERTED = 0.5, 0.15, 0.15
"""Shares of the errors: deletions of weak and of other words, insertions; the rest are substitutions."""

EVENNESS = 4.0
"""Concentration of the beta distribution of the turns' rates; a lower one gives more extreme turns."""

SHORT_WORDS, EMPTIED = 3, 0.25
"""Turns of at most this many words are lost entirely, with this share of the error rate."""

SOUNDS_ALIKE = 0.85
"""Share of substitutions by a word that sounds alike; the others are by a frequent word."""

_NEAR = 8  # candidates for a word
_URN = 4096
_WORDS = re.compile(WORD)
_DRAWN_OUT = re.compile(r"(.)\1\1")  # "nooo", which recognizers do not write
_WRITTEN = re.compile(rf"({WORD})([^\w\s]*)")


class Vocabulary:
    """The words of a corpus and, computed on demand, the words that sound like each.

    Args:
        counts: counts of the normalised words.

    Raises:
        ValueError: there are no words.
    """

    def __init__(self, counts: Counter[str]) -> None:
        if not counts:
            raise ValueError("vocabulary: expected the words of a corpus, got none")
        self._counts = counts
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for word in sorted(counts):
            if not _DRAWN_OUT.search(word):
                self._by_key[metaphone(word)].append(word)
        self._keys: dict[str, set[str]] = defaultdict(set)  # a key with one sound left out -> such keys
        for key in self._by_key:
            for shorter in _shortened(key):
                self._keys[shorter].add(key)
        self._near: dict[str, tuple[str, ...]] = {}
        self._frequent = self._by_frequency()

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """Collect the words of texts."""
        return cls(Counter(word for text in texts for word in normalise(text).split()))

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, word: str) -> bool:
        return word in self._counts

    def near(self, word: str) -> tuple[str, ...]:
        """Return the words that sound like `word`, the more similar ones repeated; none if nothing does."""
        found = self._near.get(word)
        if found is None:
            found = self._near[word] = self._find(word)
        return found

    def substitute(self, word: str, rng: random.Random) -> str:
        """Draw a word that sounds like `word`, or any frequent one."""
        near = self.near(word)
        if near and rng.random() < SOUNDS_ALIKE:
            return near[int(rng.random() * len(near))]
        other = self.any(rng)
        return other if other != word else FILLERS[word == FILLERS[0]]

    def any(self, rng: random.Random) -> str:
        """Draw a word by its frequency."""
        return self._frequent[int(rng.random() * len(self._frequent))]

    def _find(self, word: str) -> tuple[str, ...]:
        key = metaphone(word)
        keys = {other for shorter in _shortened(key) for other in self._keys.get(shorter, ())}
        same = self._by_key.get(key, [])

        def score(other: str, sound: float) -> float:
            return sound + jaro_winkler_similarity(word, other) + 0.05 * self._counts[other].bit_length()

        scores = {o: score(o, 0.0) for k in keys - {key} for o in self._by_key[k]}
        scores |= {o: score(o, 0.5) for o in same}
        scores.pop(word, None)
        best = sorted(scores, key=lambda other: (-scores[other], other))[:_NEAR]
        return tuple(other for place, other in enumerate(best) for _ in range(_NEAR - place))

    def _by_frequency(self) -> tuple[str, ...]:
        """Return the words, each repeated in proportion to its count."""
        total = sum(self._counts.values())
        drawn: list[str] = []
        share = 0.0
        for word, count in sorted(self._counts.items(), key=lambda item: (-item[1], item[0])):
            share += _URN * count / total * (not _DRAWN_OUT.search(word))
            drawn += [word] * (round(share) - len(drawn))
        return tuple(drawn) or FILLERS


def _shortened(key: str) -> Iterator[str]:
    """Yield a phonetic key and, if it is longer than one sound, the key without each of its sounds."""
    yield key
    if len(key) > 1:
        yield from (key[:i] + key[i + 1 :] for i in range(len(key)))


def corrupt(
    text: str, wer: float, rng: random.Random, vocabulary: Vocabulary, *, written: float = 0.0
) -> str:
    """Corrupt a turn's text as a recognizer might.

    Args:
        text: the turn's words.
        wer: the word error rate over many turns, 0 to 1.
        rng: the only source of randomness.
        vocabulary: source of wrong words.
        written: the share of turns that keep casing and punctuation.

    Returns:
        The recognised words, in lower case and without punctuation unless `written`; empty if all are lost.

    Raises:
        ValueError: `wer` is out of range.
    """
    if not 0 <= wer <= 1:
        raise ValueError(f"word error rate: expected 0 to 1, got {wer}")
    text = text.replace("\u2019", "'")
    keep = written > 0 and rng.random() < written
    words = _WORDS.findall(text.lower())
    if not words:
        return ""
    rate = rng.betavariate(EVENNESS * wer, EVENNESS * (1 - wer)) if 0 < wer < 1 else wer
    if len(words) <= SHORT_WORDS:
        lost = EMPTIED * rate
        if rng.random() < lost:
            return ""
        rate = (rate - lost) / (1 - lost)  # so that the overall rate stays the same
    heard, said_at = _mishear(words, rate, rng, vocabulary)
    return _dress(heard, said_at, _WRITTEN.findall(text)) if keep else " ".join(heard)


def _mishear(
    words: list[str], rate: float, rng: random.Random, vocabulary: Vocabulary
) -> tuple[list[str], list[int]]:
    """Return the recognised words and the place of each among the spoken ones (-1: inserted)."""
    heard: list[str] = []
    said_at: list[int] = []
    inserted = False  # since the last correct word: a deletion would join an insertion to a substitution
    for place, word in enumerate(words):
        chance = rng.random()
        if chance >= rate:
            heard.append(word)
            said_at.append(place)
            inserted = False
            continue
        kind = chance / rate  # uniform again
        deleted = DELETED_WEAK if word in WEAK_WORDS else DELETED
        if kind < deleted and not inserted:
            continue
        insertion = kind >= 1 - INSERTED
        heard.append(word if insertion else vocabulary.substitute(word, rng))
        said_at.append(place)
        if insertion:
            heard.append(_extra(word, rng, vocabulary))
            said_at.append(-1)
        inserted = inserted or insertion
    return heard, said_at


def _extra(word: str, rng: random.Random, vocabulary: Vocabulary) -> str:
    """Draw a word to insert: a filler, the last word again, or a frequent one."""
    chance = rng.random()
    if chance < 0.4:
        return FILLERS[int(chance / 0.4 * len(FILLERS))]
    return word if chance < 0.5 else vocabulary.any(rng)


def _dress(heard: list[str], said_at: list[int], written: list[tuple[str, str]]) -> str:
    """Give words the casing and punctuation of the spoken words in their places."""
    dressed = []
    for word, place in zip(heard, said_at, strict=True):
        if place < 0:
            dressed.append(word)
            continue
        said, mark = written[place]
        if word == said.lower():
            word = said
        elif said[0].isupper():
            word = word[0].upper() + word[1:]
        dressed.append(word + mark)
    return " ".join(dressed)
