"""The text encoder, which reads the target turn with a few speaker-prefixed past turns.

The window ``B: past [SEP] A: past [SEP] A: target`` goes through a transformers model; the target's
tokens carry token type 1 and the text feature is the mean of their last hidden states, so the past
informs the vector but only the target is described by it (the CoMPM / EmoBERTa recipe with past turns
only). Speakers are named relative to the target's speaker ("A"), never by their real names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from erc_models.networks.text import repair_text

MAX_CHARS = 4_000
"""Characters of a turn that are read at all: many more than its tokens have, and few enough to be quick."""


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


class TextEncoder(nn.Module):
    """A transformers encoder with mean pooling over the target's tokens.

    Args:
        model: any `transformers` encoder (BERT, RoBERTa, MiniLM ...).
        tokenizer: its fast tokenizer.
        config: the window.
    """

    def __init__(self, model, tokenizer, config: TextEncoderConfig) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.dim: int = model.config.hidden_size
        self._typed = getattr(model.config, "type_vocab_size", 0) >= 2

    @classmethod
    def from_pretrained(cls, name: str | Path, config: TextEncoderConfig) -> "TextEncoder":
        """Load any transformers encoder by hub name or local path (RoBERTa-large, MiniLM ...)."""
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        return cls(AutoModel.from_pretrained(name), AutoTokenizer.from_pretrained(name), config)

    def tokenize(self, windows: Sequence[TextWindow]) -> dict[str, Tensor]:
        """Return token ids, attention mask and target mask, each (B, T).

        Texts are repaired here as corpora are when they are read, so that a text means the same at run time.
        """
        tok = self.tokenizer
        cls_id = tok.cls_token_id if tok.cls_token_id is not None else tok.bos_token_id
        sep_id = tok.sep_token_id if tok.sep_token_id is not None else tok.eos_token_id
        texts: list[str] = []
        for window in windows:
            past = window.past[-self.config.past_turns :] if self.config.past_turns else ()
            names = _relative_names(past, window.speaker)
            texts += [f"{names[who]}: {repair_text(text[:MAX_CHARS])}" for who, text in past]
            texts.append(f"A: {repair_text(window.text[:MAX_CHARS])}")
        pieces = iter(tok(texts, add_special_tokens=False)["input_ids"])
        rows: list[tuple[list[int], list[int]]] = []
        for window in windows:
            count = min(len(window.past), self.config.past_turns)
            past_ids = [next(pieces) for _ in range(count)]
            target = next(pieces)[: self.config.max_target_tokens]
            budget, kept = self.config.max_past_tokens, []
            for ids in reversed(past_ids):
                if len(ids) + 1 > budget:
                    break
                budget -= len(ids) + 1
                kept.append(ids)
            head = [cls_id]
            for ids in reversed(kept):
                head += [*ids, sep_id]
            rows.append((head, target))
        length = max(len(head) + len(target) + 1 for head, target in rows)
        ids = torch.full((len(rows), length), tok.pad_token_id or 0)  # (B, T)
        attention = torch.zeros(len(rows), length, dtype=torch.long)
        target_mask = torch.zeros(len(rows), length, dtype=torch.long)
        for i, (head, target) in enumerate(rows):
            row = [*head, *target, sep_id]
            ids[i, : len(row)] = torch.tensor(row)
            attention[i, : len(row)] = 1
            target_mask[i, len(head) : len(row)] = 1
        return {"input_ids": ids, "attention_mask": attention, "target_mask": target_mask}

    def forward(self, input_ids: Tensor, attention_mask: Tensor, target_mask: Tensor) -> Tensor:
        """Return the text features (B, D) of tokenised windows."""
        kinds = {"token_type_ids": target_mask} if self._typed else {}
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, **kinds).last_hidden_state
        weight = target_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * weight).sum(1) / weight.sum(1)


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
