"""A text encoder that learns together with the conversation network that reads it.

`LiveText` stands where frozen features would: it computes the text features of a batch of dialogues from
their words, with gradients, and sometimes from words as a recognizer might have heard them.
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
from erc_models.networks.text_encoder import TextEncoder, TextWindow, windows


@dataclass(frozen=True)
class FineTuning:
    """How the encoder learns, and what it reads.

    Attributes:
        past_turns, max_past_tokens, max_target_tokens: of the window, see `TextEncoderConfig`.
        lr: of the encoder.
        layer_decay: the step of each layer is this much of the next one's.
        plain: share of dialogues without casing and punctuation.
        noise: share of dialogues as a recognizer might have heard them, at a word error rate drawn
            between 0 and `max_wer`.
        max_wer: see `noise`.
        context_dropout: how often older turns of a window are left out.
        single_turns: a turn is learnt from by itself, with the window's words as its only context, so that a
            batch is of turns of many dialogues; for networks without memory.
        chunk: windows that are encoded at once.
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
    """Dropout of whole features of a text, one mask for all its tokens (Gal and Ghahramani, 2016).

    On a CPU the random numbers of token-wise dropout cost as much as a fifth of a training step.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> the same, in training with features dropped."""
        if not self.training or self.p == 0:
            return x
        mask = torch.rand(x.shape[0], 1, x.shape[-1], device=x.device) >= self.p
        return x * (mask / (1 - self.p)).to(x.dtype)


def prepare_encoder(encoder: TextEncoder) -> TextEncoder:
    """Make an encoder ready to learn, in place: cheap dropout, word embeddings frozen."""
    for module in list(encoder.model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout):
                # attention weights are not dropped: their mask is the largest of all
                setattr(module, name, nn.Dropout(0.0) if hasattr(module, "query") else SharedDropout(child.p))
    encoder.model.embeddings.requires_grad_(False)
    return encoder.float()


def parameter_groups(encoder: TextEncoder, settings: FineTuning) -> list[dict]:
    """AdamW's groups of the encoder's parameters, lower layers with smaller steps."""
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
    """The text of a set's dialogues.

    Args:
        dialogues: in the order of the feature set.
        settings: the window, and what is done to the words in training.
        vocabulary: where misheard words come from; None where nothing is ever misheard.
    """

    def __init__(
        self, dialogues: Sequence[Dialogue], settings: FineTuning, vocabulary: Vocabulary | None = None
    ) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self._texts = [[u.text for u in d.utterances] for d in dialogues]
        self._speakers = [d.speaker_ids() for d in dialogues]
        # (dialogue, turn) of the first turn of each row of a batch, and how many turns the row has
        self._rows = [(k, 0, len(texts)) for k, texts in enumerate(self._texts)]

    def by_turn(self) -> "LiveText":
        """The same text for a set of single turns (`FeatureSet.by_turn`), each with its past."""
        apart = copy.copy(self)
        apart._rows = [(k, turn, 1) for k, _, turns in self._rows for turn in range(turns)]
        return apart

    def fill(
        self, batch: DialogueBatch, dialogues: Sequence[int], encoder: TextEncoder, rng: random.Random | None
    ) -> DialogueBatch:
        """The batch with the text features (B, T, D) of its dialogues.

        Args:
            batch: of these dialogues.
            dialogues: their indices (those of turns, `by_turn`).
            encoder: with gradients where they are enabled.
            rng: chooses what is misheard; None reads the words as they are.
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
        # windows of like length together: padding costs as much as words
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
