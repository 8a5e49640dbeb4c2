"""The text encoder, which reads the target turn with a few speaker-prefixed past turns.

A window (`erc_models.formats.text_windows`) goes through a transformers model; the target's tokens carry
token type 1 and the text feature is the mean of their last hidden states, so the past informs the vector but
only the target is described by it (the CoMPM / EmoBERTa recipe with past turns only).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from erc_models.formats.text_windows import TextEncoderConfig, TextWindow, WindowTokenizer


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
        """Return token ids, attention mask and target mask, each (B, T)."""
        vocabulary = self.tokenizer
        first, last = vocabulary.cls_token_id, vocabulary.sep_token_id
        rows = WindowTokenizer(
            lambda texts: vocabulary(texts, add_special_tokens=False)["input_ids"],
            vocabulary.bos_token_id if first is None else first,
            vocabulary.eos_token_id if last is None else last,
            self.config,
        )(windows)
        length = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), length), vocabulary.pad_token_id or 0)  # (B, T)
        attention = torch.zeros(len(rows), length, dtype=torch.long)
        target = torch.zeros(len(rows), length, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            attention[i, : len(row.ids)] = 1
            target[i, row.target] = 1
        return {"input_ids": ids, "attention_mask": attention, "target_mask": target}

    def forward(self, input_ids: Tensor, attention_mask: Tensor, target_mask: Tensor) -> Tensor:
        """Return the text features (B, D) of tokenised windows."""
        kinds = {"token_type_ids": target_mask} if self._typed else {}
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, **kinds).last_hidden_state
        weight = target_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * weight).sum(1) / weight.sum(1)
