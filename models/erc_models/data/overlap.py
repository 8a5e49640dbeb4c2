"""What one set of dialogues repeats of another, so that nothing held out is trained on.

MELD and EmoryNLP come from the same show: dialogues of one that share an utterance of five words or more with
a held-out set of the other are dropped, and those that repeat a dialogue of it nearly (`without_overlap`).
DailyDialog repeats dialogues, whole or nearly so, across its splits (`without_repeats`): the held-out side is
dropped where a figure is to be free of them, the training side where a model is.

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
"""Utterances of fewer words are said by everybody."""

PIECE_WORDS = 5
"""Dialogues are compared by their runs of so many words."""

NEARLY = 0.5
"""Two dialogues are nearly the same when they have this share of their runs in common (Jaccard)."""

HELD_OUT = 0.18
"""The share of a training set that `held_out` keeps from it."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Counts of what a training set and a held-out set share.

    Attributes:
        train_dialogues: of the training set.
        train_turns: of the training set.
        sharing_dialogues: training dialogues with an utterance that is held out.
        sharing_turns: their turns.
        long_utterances: held-out utterances of `MIN_WORDS` or more.
        known_utterances: of those, the ones in the training set.
        held_out_dialogues: of the held-out set.
        same_dialogues: of those, in the training set word for word.
        near_dialogues: of those, in the training set nearly or word for word.
        left_dialogues: training dialogues with neither, see `without_overlap`.
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
        """As a person reads it."""

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
    """The utterances of `min_words` or more, normalised, with their counts."""
    texts = (normalise(u.text) for d in dialogues for u in d.utterances)
    return Counter(text for text in texts if text.count(" ") + 1 >= min_words)


def without_shared_utterances(
    dialogues: Sequence[Dialogue], held_out: Sequence[Dialogue], min_words: int = MIN_WORDS
) -> list[Dialogue]:
    """The dialogues that have no utterance of `min_words` or more in common with the held-out ones."""
    secret = long_utterances(held_out, min_words).keys()
    return [d for d in dialogues if not any(normalise(u.text) in secret for u in d.utterances)]


def repeats(dialogues: Sequence[Dialogue], others: Sequence[Dialogue], share: float = NEARLY) -> list[bool]:
    """Which dialogues are among the others.

    Args:
        dialogues: the ones asked about.
        others: where they are looked for.
        share: of the runs of words of both that they have in common; 1 for word for word.

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
    """The dialogues that are not among the others; see `repeats`."""
    found = repeats(dialogues, others, share)
    return [d for d, repeated in zip(dialogues, found, strict=True) if not repeated]


def without_overlap(train: Sequence[Dialogue], held_out: Sequence[Dialogue]) -> list[Dialogue]:
    """The training dialogues that neither share a long utterance with a held-out one nor repeat it nearly."""
    return without_repeats(without_shared_utterances(train, held_out), held_out)


def held_out(dialogues: Sequence[Dialogue], share: float = HELD_OUT) -> tuple[list[Dialogue], list[Dialogue]]:
    """A training set in two, always the same: to fit on; to choose on, without what the first repeats."""
    chosen = set(random.Random(0).sample(range(len(dialogues)), round(share * len(dialogues))))
    fit = [d for i, d in enumerate(dialogues) if i not in chosen]
    return fit, without_repeats([d for i, d in enumerate(dialogues) if i in chosen], fit)


def measure(train: Sequence[Dialogue], held_out: Sequence[Dialogue]) -> Overlap:
    """What a training set and a held-out set share."""
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
    """The command line; see the module's docstring."""
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
