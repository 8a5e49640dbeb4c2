"""Fine-tuning of a text encoder together with a conversation network.

`LiveText` replaces frozen features: it computes the text features of a batch of dialogues from their words,
with gradients, and sometimes from words with simulated recognition errors.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from erc_models.data.asr_noise import Vocabulary, corrupt
from erc_models.data.datasets import Dialogue
from erc_models.data.feature_store import DialogueBatch
from erc_models.formats.text_windows import TextWindow, windows
from erc_models.networks.text_encoder import TextEncoder


@dataclass(frozen=True)
class FineTuning:
    """Settings of the encoder's training and input.

    Attributes:
        past_turns, max_past_tokens, max_target_tokens: of the window, see `TextEncoderConfig`.
        lr: learning rate of the encoder.
        layer_decay: each layer's learning rate is this multiple of the next layer's.
        plain: share of dialogues without casing and punctuation.
        noise: share of dialogues with simulated recognition errors, at a word error rate drawn between 0 and
            `max_wer`.
        max_wer: see `noise`.
        context_dropout: probability that older turns of a window are left out.
        single_turns: train on single turns, with the window's words as the only context, so that a batch has
            turns of many dialogues; for networks without memory.
        chunk: number of windows encoded at once.
    """

    past_turns: int = 3
    max_past_tokens: int = 64
    max_target_tokens: int = 96
    lr: float = 1e-4
    layer_decay: float = 1.0
    plain: float = 0.2
    noise: float = 0.15
    max_wer: float = 0.5
    context_dropout: float = 0.1
    single_turns: bool = False
    chunk: int = 32


class SharedDropout(nn.Module):
    """Dropout with one mask for all tokens of a text (Gal and Ghahramani, 2016).

    On a CPU the random numbers of token-wise dropout take up to a fifth of a training step.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of (B, L, D) in training."""
        if not self.training or self.p == 0:
            return x
        mask = torch.rand(x.shape[0], 1, x.shape[-1], device=x.device) >= self.p
        return x * (mask / (1 - self.p)).to(x.dtype)


def prepare_encoder(encoder: TextEncoder) -> TextEncoder:
    """Prepare an encoder for training, in place: cheap dropout, frozen word embeddings."""
    for module in list(encoder.model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout):
                # no dropout on attention weights: their mask would be the largest of all
                setattr(module, name, nn.Dropout(0.0) if hasattr(module, "query") else SharedDropout(child.p))
    encoder.model.embeddings.requires_grad_(False)
    return encoder.float()


def parameter_groups(encoder: TextEncoder, settings: FineTuning) -> list[dict]:
    """Return AdamW's parameter groups of the encoder, with lower learning rates for lower layers."""
    layers = encoder.model.config.num_hidden_layers
    groups: dict[int, list[nn.Parameter]] = {}
    for name, parameter in encoder.model.named_parameters():
        if parameter.requires_grad:
            parts = name.split(".")
            level = int(parts[parts.index("layer") + 1]) if "layer" in parts else layers - 1
            groups.setdefault(level, []).append(parameter)
    return [
        {"params": found, "lr": settings.lr * settings.layer_decay ** (layers - 1 - level)}
        for level, found in sorted(groups.items())
    ]


class LiveText:
    """The words of a set's dialogues.

    Args:
        dialogues: in the order of the feature set.
        settings: the window and the corruption of words in training.
        vocabulary: source of wrong words; None: words are never corrupted.
    """

    def __init__(
        self, dialogues: Sequence[Dialogue], settings: FineTuning, vocabulary: Vocabulary | None = None
    ) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self._texts = [[u.text for u in d.utterances] for d in dialogues]
        self._speakers = [d.speaker_ids() for d in dialogues]
        # the dialogue, first turn and number of turns of each row of a batch
        self._rows = [(k, 0, len(texts)) for k, texts in enumerate(self._texts)]

    def by_turn(self) -> "LiveText":
        """Return the text for a set of single turns (`FeatureSet.by_turn`), each with its past."""
        apart = copy.copy(self)
        apart._rows = [(k, turn, 1) for k, _, turns in self._rows for turn in range(turns)]
        return apart

    def fill(
        self, batch: DialogueBatch, dialogues: Sequence[int], encoder: TextEncoder, rng: random.Random | None
    ) -> DialogueBatch:
        """Add the text features (B, T, D) to a batch.

        Args:
            batch: the batch.
            dialogues: indices of its dialogues (of its turns after `by_turn`).
            encoder: the encoder; gradients flow if they are enabled.
            rng: source of randomness for corrupting words; None leaves the words as they are.
        """
        device = batch.x.text_mask.device
        rows, places = [], []
        for row, index in enumerate(dialogues):
            k, first, turns = self._rows[index]
            start = max(0, first - self.settings.past_turns)
            texts = self._heard(self._texts[k][start : first + turns], rng)
            speakers = self._speakers[k][start : first + turns]
            for turn, window in enumerate(windows(speakers, texts, self.settings.past_turns), start - first):
                if turn >= 0 and window.text:
                    rows.append(self._shortened(window, rng))
                    places.append((row, turn))
        b, t = batch.x.text_mask.shape
        text = torch.zeros(b * t, encoder.dim, device=device)
        mask = torch.zeros(b * t, dtype=torch.bool, device=device)
        # windows of similar length together: padding costs as much as words
        order = sorted(
            range(len(rows)), key=lambda i: len(rows[i].text) + sum(len(p) for _, p in rows[i].past)
        )
        found = []
        for first in range(0, len(order), self.settings.chunk):
            part = [rows[i] for i in order[first : first + self.settings.chunk]]
            tokens = {name: value.to(device) for name, value in encoder.tokenize(part).items()}
            found.append(encoder(**tokens).float())
        if found:
            index = torch.tensor([places[i][0] * t + places[i][1] for i in order], device=device)
            text = text.index_copy(0, index, torch.cat(found))
            mask[index] = True
        x = replace(batch.x, text=text.view(b, t, -1), text_mask=batch.x.text_mask & mask.view(b, t))
        return replace(batch, x=x)

    def _heard(self, texts: list[str], rng: random.Random | None) -> list[str]:
        if rng is None or self.vocabulary is None:
            return texts
        chance = rng.random()
        if chance < self.settings.plain:
            return [corrupt(text, 0.0, rng, self.vocabulary) for text in texts]
        if chance < self.settings.plain + self.settings.noise:
            wer = rng.uniform(0, self.settings.max_wer)
            return [corrupt(text, wer, rng, self.vocabulary) for text in texts]
        return texts

    def _shortened(self, window: TextWindow, rng: random.Random | None) -> TextWindow:
        past = tuple((who, said) for who, said in window.past if said)
        if rng is not None and past and rng.random() < self.settings.context_dropout:
            past = past[rng.randint(1, len(past)) :]
        return replace(window, past=past)
