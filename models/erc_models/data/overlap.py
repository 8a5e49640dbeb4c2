"""Repeats between sets of dialogues, so that nothing held out is trained on.

MELD and EmoryNLP come from the same show. Dialogues of one that share an utterance of five words or more with
a held-out set of the other, or nearly repeat a dialogue of it, are dropped (`without_overlap`). DailyDialog
repeats dialogues, exactly or nearly, across its splits (`without_repeats`): they are dropped from the
held-out set to get an unbiased figure, or from the training set to get an unbiased model.

``python -m erc_models.data.overlap --train FILE --held-out FILE`` prints the counts.
"""

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from erc_models.data.datasets import Dialogue, normalise
from erc_models.data.releases import read

MIN_WORDS = 5
"""Shorter utterances are too common to count as shared."""

PIECE_WORDS = 5
"""Dialogues are compared by their runs (n-grams) of this many words."""

NEARLY = 0.5
"""Two dialogues are nearly the same if they share this part of their runs (Jaccard)."""

HELD_OUT = 0.18
"""The share of a training set that `held_out` sets aside."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Counts of the overlap of a training set and a held-out set.

    Attributes:
        train_dialogues: dialogues of the training set.
        train_turns: turns of the training set.
        sharing_dialogues: training dialogues that share an utterance with the held-out set.
        sharing_turns: their turns.
        long_utterances: held-out utterances of `MIN_WORDS` or more.
        known_utterances: those that are in the training set.
        held_out_dialogues: dialogues of the held-out set.
        same_dialogues: those that are in the training set word for word.
        near_dialogues: those that are in the training set nearly or word for word.
        left_dialogues: training dialogues without overlap, see `without_overlap`.
    """

    train_dialogues: int
    train_turns: int
    sharing_dialogues: int
    sharing_turns: int
    long_utterances: int
    known_utterances: int
    held_out_dialogues: int
    same_dialogues: int
    near_dialogues: int
    left_dialogues: int

    def lines(self) -> list[str]:
        """Format the counts for people."""

        def share(part: int, whole: int) -> str:
            return f"{part} of {whole} ({100 * part / max(whole, 1):.1f}%)"

        sharing = share(self.sharing_dialogues, self.train_dialogues)
        known = share(self.known_utterances, self.long_utterances)
        same = share(self.same_dialogues, self.held_out_dialogues)
        return [
            f"held-out utterances of {MIN_WORDS} words or more that training has: {known}",
            f"training dialogues with one: {sharing}, turns: {share(self.sharing_turns, self.train_turns)}",
            f"held-out dialogues that training has word for word: {same}",
            f"the same or nearly: {share(self.near_dialogues, self.held_out_dialogues)}",
            f"training dialogues left without either: {share(self.left_dialogues, self.train_dialogues)}",
        ]


def long_utterances(dialogues: Sequence[Dialogue], min_words: int = MIN_WORDS) -> Counter[str]:
    """Count the normalised utterances of `min_words` or more."""
    texts = (normalise(u.text) for d in dialogues for u in d.utterances)
    return Counter(text for text in texts if text.count(" ") + 1 >= min_words)


def without_shared_utterances(
    dialogues: Sequence[Dialogue], held_out: Sequence[Dialogue], min_words: int = MIN_WORDS
) -> list[Dialogue]:
    """Drop the dialogues that share an utterance of `min_words` or more with the held-out ones."""
    secret = long_utterances(held_out, min_words).keys()
    return [d for d in dialogues if not any(normalise(u.text) in secret for u in d.utterances)]


def repeats(dialogues: Sequence[Dialogue], others: Sequence[Dialogue], share: float = NEARLY) -> list[bool]:
    """Return, for each dialogue, whether it is among the others.

    Args:
        dialogues: the dialogues to look for.
        others: the dialogues to search.
        share: the share of their runs that two dialogues must have in common; 1 for word for word.

    Raises:
        ValueError: `share` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: expected above 0 and at most 1, got {share}")
    words = {_words(d) for d in others} - {""}
    if share == 1:
        return [_words(d) in words for d in dialogues]
    where: dict[str, list[int]] = defaultdict(list)
    sizes = []
    for place, other in enumerate(words):
        pieces = _pieces(other)
        sizes.append(len(pieces))
        for piece in pieces:
            where[piece].append(place)
    return [_words(d) in words or _is_near(_pieces(_words(d)), where, sizes, share) for d in dialogues]


def _is_near(pieces: set[str], where: dict[str, list[int]], sizes: list[int], share: float) -> bool:
    common = Counter(place for piece in pieces for place in where.get(piece, ()))
    return any(n >= share * (len(pieces) + sizes[place] - n) for place, n in common.items())


def _words(dialogue: Dialogue) -> str:
    return " ".join(filter(None, (normalise(u.text) for u in dialogue.utterances)))


def _pieces(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + PIECE_WORDS]) for i in range(len(words) - PIECE_WORDS + 1)}


def without_repeats(
    dialogues: Sequence[Dialogue], others: Sequence[Dialogue], share: float = NEARLY
) -> list[Dialogue]:
    """Drop the dialogues that are among the others; see `repeats`."""
    found = repeats(dialogues, others, share)
    return [d for d, repeated in zip(dialogues, found, strict=True) if not repeated]


def without_overlap(train: Sequence[Dialogue], held_out: Sequence[Dialogue]) -> list[Dialogue]:
    """Drop the training dialogues that share a long utterance with a held-out one or nearly repeat it."""
    return without_repeats(without_shared_utterances(train, held_out), held_out)


def held_out(dialogues: Sequence[Dialogue], share: float = HELD_OUT) -> tuple[list[Dialogue], list[Dialogue]]:
    """Split a training set, always the same way: to fit on, and to choose on without repeats of the first."""
    chosen = set(random.Random(0).sample(range(len(dialogues)), round(share * len(dialogues))))
    fit = [d for i, d in enumerate(dialogues) if i not in chosen]
    return fit, without_repeats([d for i, d in enumerate(dialogues) if i in chosen], fit)


def measure(train: Sequence[Dialogue], held_out: Sequence[Dialogue]) -> Overlap:
    """Measure the overlap of a training set and a held-out set."""
    kept = without_shared_utterances(train, held_out)
    known = long_utterances(train).keys()
    secret = long_utterances(held_out)
    turns = sum(len(d.utterances) for d in train)
    return Overlap(
        train_dialogues=len(train),
        train_turns=turns,
        sharing_dialogues=len(train) - len(kept),
        sharing_turns=turns - sum(len(d.utterances) for d in kept),
        long_utterances=secret.total(),
        known_utterances=sum(count for text, count in secret.items() if text in known),
        held_out_dialogues=len(held_out),
        same_dialogues=sum(repeats(held_out, train, 1)),
        near_dialogues=sum(repeats(held_out, train)),
        left_dialogues=len(without_repeats(kept, held_out)),
    )


def main() -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True, help="a corpus file or folder")
    parser.add_argument("--held-out", type=Path, required=True, help="a corpus file or folder")
    args = parser.parse_args()
    try:
        train, held_out = read(args.train), read(args.held_out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print("\n".join(measure(train, held_out).lines()))


if __name__ == "__main__":
    main()
