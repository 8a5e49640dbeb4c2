"""The window of turns that the text encoder reads, as tokens.

The window is ``B: past [SEP] A: past [SEP] A: target``. Speakers are named relative to the target's speaker
("A"), never by their real names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from erc_models.formats.text import repair_text

MAX_CHARS = 4_000
"""Characters of a turn that are read at all: many more than its tokens have, and few enough to be quick."""

Split: TypeAlias = Callable[[list[str]], Sequence[Sequence[int]]]
"""Texts -> the ids of their tokens, without special tokens."""


@dataclass(frozen=True, slots=True)
class TextWindow:
    """A target turn, and the past turns as (speaker index, text), oldest first."""

    past: tuple[tuple[int, str], ...]
    speaker: int
    text: str


@dataclass(frozen=True)
class TextEncoderConfig:
    """Limits of a window.

    Attributes:
        past_turns: number of turns before the target that the encoder reads.
        max_past_tokens: token limit of all past turns together; the oldest turns are dropped first.
        max_target_tokens: the target is truncated to this many tokens.
    """

    past_turns: int = 4
    max_past_tokens: int = 96
    max_target_tokens: int = 96


@dataclass(frozen=True, slots=True)
class WindowTokens:
    """The ids of a window's tokens, and which of them are the target's, with the last separator."""

    ids: list[int]
    target: slice


@dataclass(frozen=True, slots=True)
class WindowTokenizer:
    """Turns windows into tokens.

    Attributes:
        split: the vocabulary.
        first, last: the ids of the special tokens before the first turn and after each turn.
        config: the limits.
    """

    split: Split
    first: int
    last: int
    config: TextEncoderConfig

    def __call__(self, windows: Sequence[TextWindow]) -> list[WindowTokens]:
        """Return the tokens of each window.

        Texts are repaired here as corpora are when they are read, so that a text means the same at run time.
        """
        texts: list[str] = []
        for window in windows:
            past = self._past(window)
            names = _relative_names(past, window.speaker)
            texts += [f"{names[who]}: {repair_text(text[:MAX_CHARS])}" for who, text in past]
            texts.append(f"A: {repair_text(window.text[:MAX_CHARS])}")
        pieces = iter(self.split(texts))
        found = []
        for window in windows:
            past_ids = [next(pieces) for _ in self._past(window)]
            target = list(next(pieces)[: self.config.max_target_tokens])
            budget, kept = self.config.max_past_tokens, []
            for ids in reversed(past_ids):
                if len(ids) + 1 > budget:
                    break
                budget -= len(ids) + 1
                kept.append(ids)
            head = [self.first]
            for ids in reversed(kept):
                head += [*ids, self.last]
            row = [*head, *target, self.last]
            found.append(WindowTokens(row, slice(len(head), len(row))))
        return found

    def _past(self, window: TextWindow) -> tuple[tuple[int, str], ...]:
        return window.past[-self.config.past_turns :] if self.config.past_turns else ()


def _relative_names(past: Sequence[tuple[int, str]], target_speaker: int) -> dict[int, str]:
    """Name the target's speaker A and the others B, C ... from the most recent backwards."""
    names = {target_speaker: "A"}
    for who, _ in reversed(past):
        names.setdefault(who, chr(ord("A") + min(len(names), 25)))
    return names


def windows(speakers: Sequence[int], texts: Sequence[str], past_turns: int) -> list[TextWindow]:
    """Return a window for each utterance of a dialogue, with past turns only."""
    turns = list(zip(speakers, texts, strict=True))
    return [
        TextWindow(tuple(turns[max(0, t - past_turns) : t]), who, text) for t, (who, text) in enumerate(turns)
    ]
