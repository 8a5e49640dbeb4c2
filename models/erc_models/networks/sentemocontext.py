"""SentEmoContext: context attention over sentence embeddings, and a space in which emotions lie apart.

After Gendron and Guibon, "Context-Aware Siamese Networks for Efficient Emotion Recognition in Conversation"
(hal-04532408). Kept from the paper: attention over the turns' sentence embeddings (its section 3), triplet
learning beside cross-entropy, balance in what the triplets are made of (section 5.3). Done otherwise:
attention sees only the past, through a bounded window; a turn may also be heard; and prediction is a real
one, by a head or by labels given as examples (`erc_models.networks.prototypes`). The paper's public code
counts a turn as right where a random triplet's loss is at most 1, which classifies nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.attention import MASKED, mask_to_bias, sliding_windows
from erc_models.networks.losses import triplet_margin
from erc_models.networks.modalities import InputReduction, presence
from erc_models.networks.prototypes import LabelSpace
from erc_models.networks.streaming import State, StreamingModel, TurnInput

_NOBODY = -1
"""The speaker of a place in the window where no turn has been yet."""


@dataclass(frozen=True)
class SentEmoContextConfig:
    """Sizes and weights.

    Attributes:
        text_dim: size of the text features, the sentence embeddings.
        audio_groups: sizes of the groups of acoustic features, each present or absent by itself.
        classes: how many emotions the head knows.
        width: size of the hidden vectors.
        embedding: size of the embedding space.
        layers, heads, feedforward: of the context attention.
        window: how many turns, the current one included, attention sees.
        dropout: on the turns' vectors and the head, in training only.
        margin: of the triplet loss.
        triplet_weight: of the triplet loss beside cross-entropy.
        triplet_turns: at most so many turns of a label, drawn at random, make the triplets of a batch, so
            that the frequent labels do not crowd out the others.
        audio_clip: normalised acoustic features are clipped to +- this many standard deviations.
    """

    text_dim: int = 384
    audio_groups: tuple[int, ...] = (88, 8)
    classes: int = 7
    width: int = 128
    embedding: int = 128
    layers: int = 1
    heads: int = 4
    feedforward: int = 256
    window: int = 6
    dropout: float = 0.4
    margin: float = 0.3
    triplet_weight: float = 0.5
    triplet_turns: int = 24
    audio_clip: float = 5.0


@dataclass(frozen=True, eq=False)
class SentEmoContextState(State):
    """The last W - 1 turns of B conversations, oldest first.

    Attributes:
        window: (B, L, W - 1, 2 d), keys and values of each layer.
        key_bias: (B, W - 1), 0 where that turn said anything, else `MASKED`.
        speaker: int64 (B, W - 1), who spoke, `_NOBODY` where nobody did.
    """

    window: Tensor
    key_bias: Tensor
    speaker: Tensor


@dataclass(frozen=True, eq=False)
class _Past:
    """What N turns may attend to, K turns each, their own last.

    Attributes:
        key_bias: (N, 1, K), 0 or `MASKED`; a turn always sees itself.
        same: bool (N, K), whether the turn is by the speaker of the current one.
    """

    key_bias: Tensor
    same: Tensor


class ContextLayer(nn.Module):
    """A transformer layer in which a turn attends to a window of turns; normalisation first.

    Scores carry a bias for how far back a turn lies and depend on whether its speaker is the current one;
    so do the values. Who the others are plays no part, nor does a speaker's index.
    """

    def __init__(self, config: SentEmoContextConfig) -> None:
        super().__init__()
        d, h = config.width, config.heads
        if d % h:
            raise ValueError(f"expected a width that {h} heads divide, got {d}")
        self.heads = h
        self.norm = nn.LayerNorm(d)
        self.query = nn.Linear(d, d)
        self.key_value = nn.Linear(d, 2 * d, bias=False)
        self.role_key = nn.Parameter(
            0.1 * torch.randn(2, h, d // h)
        )  # of another speaker's turn, of one's own
        self.role_value = nn.Parameter(torch.zeros(2, h, d // h))
        self.position = nn.Parameter(torch.zeros(h, config.window))
        self.out = nn.Linear(d, d)
        self.feed_norm = nn.LayerNorm(d)
        self.expand = nn.Linear(d, config.feedforward)
        self.contract = nn.Linear(config.feedforward, d)

    def forward(self, x: Tensor, past: _Past, keys: Callable[[Tensor], Tensor]) -> Tensor:
        """(N, d) -> (N, d).

        Args:
            x: the current turns.
            past: what they may attend to.
            keys: the current turns' keys and values (N, 2 d) -> those of their windows (N, K, 2 d).
        """
        n, d = x.shape
        normed = self.norm(x)
        window = keys(self.key_value(normed))  # (N, K, 2 d)
        key, value = window.view(n, -1, 2, self.heads, d // self.heads).unbind(2)  # (N, K, H, d / H)
        query = self.query(normed).view(n, self.heads, -1) * (d // self.heads) ** -0.5
        by_role = torch.einsum("nhd,rhd->nrh", query, self.role_key)  # (N, 2, H)
        same = past.same.unsqueeze(2)  # (N, K, 1)
        scores = torch.einsum("nhd,nkhd->nkh", query, key)
        scores = scores + torch.where(same, by_role[:, 1:], by_role[:, :1])
        weight = (scores.transpose(1, 2) + self.position + past.key_bias).softmax(-1)  # (N, H, K)
        own = (weight * past.same.unsqueeze(1)).sum(-1)  # (N, H), the share of the speaker's own turns
        attended = torch.einsum("nhk,nkhd->nhd", weight, value)
        roles = torch.einsum("nhr,rhd->nhd", torch.stack([1 - own, own], 2), self.role_value)
        x = x + self.out((attended + roles).reshape(n, d))
        return x + self.contract(F.gelu(self.expand(self.feed_norm(x))))


class SentEmoContext(StreamingModel[SentEmoContextState]):
    """The network: both modalities to one vector, context attention, the embedding space and a head."""

    def __init__(self, config: SentEmoContextConfig) -> None:
        super().__init__()
        d, self.config = config.width, config
        self.reduce = InputReduction(config.text_dim, config.audio_groups, d, config.audio_clip)
        self.trust = nn.Parameter(torch.zeros(2, d))  # of text and of audio, given what they say
        self.trust_bias = nn.Parameter(torch.zeros(2, 1))
        self.context = nn.ModuleList(ContextLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.project = nn.Linear(d, config.embedding)
        self.head = nn.Linear(config.embedding, config.classes)

    def set_audio_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Fix the mean and standard deviation (D_audio,) that acoustic features are normalised by."""
        self.reduce.set_normalisation(mean, std)

    def initial_state(self, batch: int = 1, speakers: int = 0) -> SentEmoContextState:
        """The state before the first turn; it needs no room for speakers."""
        past, like = self.config.window - 1, self.trust
        return SentEmoContextState(
            window=like.new_zeros(batch, self.config.layers, past, 2 * self.config.width),
            key_bias=like.new_full((batch, past), MASKED),
            speaker=torch.full((batch, past), _NOBODY, device=like.device),
        )

    def grow(self, state: SentEmoContextState, speakers: int) -> SentEmoContextState:
        """The same state: it keeps nothing by speaker."""
        return state

    def embed_step(
        self, x: TurnInput, speaker: Tensor, state: SentEmoContextState
    ) -> tuple[Tensor, SentEmoContextState]:
        """One turn of each conversation into the embedding space.

        Args:
            x: the turns, (B, ...).
            speaker: int64 (B,).
            state: the state before them.

        Returns:
            Embeddings (B, E) of unit length, and the state after the turns.
        """
        now, bias = self._turns(x)
        key_bias = torch.cat([state.key_bias, bias.unsqueeze(1)], 1)  # (B, W)
        who = torch.cat([state.speaker, speaker.unsqueeze(1)], 1)
        past = _past(key_bias, who, speaker)
        windows = []
        for level, layer in enumerate(self.context):

            def with_past(row: Tensor, level: int = level) -> Tensor:
                windows.append(torch.cat([state.window[:, level], row.unsqueeze(1)], 1))  # (B, W, 2 d)
                return windows[-1]

            now = layer(now, past, with_past)
        window = torch.stack([level[:, 1:] for level in windows], 1)
        return self._embed(now), SentEmoContextState(window, key_bias[:, 1:], who[:, 1:])

    def embed(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Embeddings (B, T, E) of whole dialogues: the numbers of `embed_step`, all turns at once."""
        b, t = speaker.shape
        now, bias = self._turns(x.flatten())

        def slide(rows: Tensor, empty: float) -> Tensor:
            """(B T, D) -> (B T, W, D), the turns that each turn may attend to."""
            return sliding_windows(rows.view(b, t, -1), self.config.window, empty).flatten(0, 1)

        who = slide(speaker.reshape(-1, 1), _NOBODY).squeeze(2)  # (B T, W)
        past = _past(slide(bias.unsqueeze(1), MASKED).squeeze(2), who, speaker.flatten())
        for layer in self.context:
            now = layer(now, past, lambda rows: slide(rows, 0.0))
        return self._embed(now).view(b, t, -1)

    def classify(self, embeddings: Tensor) -> Tensor:
        """The head's logits (..., C) of embeddings (..., E)."""
        spread = embeddings * self.config.embedding**0.5  # a variance of about 1, as layers expect
        return self.head(self._drop(spread))

    def advance(
        self, x: TurnInput, speaker: Tensor, state: SentEmoContextState
    ) -> tuple[Tensor, SentEmoContextState]:
        """One turn of each conversation; see `StreamingModel.step`."""
        embeddings, after = self.embed_step(x, speaker, state)
        return self.classify(embeddings), after

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Logits (B, T, C) of whole dialogues."""
        return self.classify(self.embed(x, speaker))

    def learn(
        self, x: TurnInput, speaker: Tensor, label: Tensor, emotion_loss: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Cross-entropy of the head, and the triplet loss of the embeddings it reads."""
        embeddings = self.embed(x, speaker)
        rows = (label >= 0) & (x.text_mask | x.audio_mask.any(2))
        chosen = balanced(label[rows], self.config.triplet_turns)
        triplet = triplet_margin(embeddings[rows][chosen], label[rows][chosen], self.config.margin)
        emotion = emotion_loss(self.classify(embeddings))
        return {"emotion": emotion, "triplet": self.config.triplet_weight * triplet}

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout) if self.training else x

    def _turns(self, x: TurnInput) -> tuple[Tensor, Tensor]:
        """Turns (N, ...) -> vectors (N, d), and what hides a turn from later ones (N,)."""
        there = presence(x)  # (2, N)
        tokens = self.reduce(x)  # (2, N, d)
        trust = torch.einsum("mnd,md->mn", tokens, self.trust) + self.trust_bias
        weight = (trust + mask_to_bias(there)).softmax(0)
        known = there.any(0)
        # a turn of which nothing is known is zeros: its context alone speaks
        turns = torch.where(known.unsqueeze(1), (tokens * weight.unsqueeze(2)).sum(0), 0.0)
        return self._drop(turns), mask_to_bias(known)

    def _embed(self, x: Tensor) -> Tensor:
        return F.normalize(self.project(self.norm(x)), dim=-1)


class Relabelled(StreamingModel[SentEmoContextState]):
    """A network that answers in the labels of a `LabelSpace`; weights and states are the network's own."""

    def __init__(self, network: SentEmoContext, space: LabelSpace) -> None:
        super().__init__()
        self.network = network
        self.space = space
        self.config = replace(network.config, classes=len(space.labels))

    def initial_state(self, batch: int = 1, speakers: int = 0) -> SentEmoContextState:
        """The network's."""
        return self.network.initial_state(batch, speakers)

    def grow(self, state: SentEmoContextState, speakers: int) -> SentEmoContextState:
        """The network's."""
        return self.network.grow(state, speakers)

    def advance(
        self, x: TurnInput, speaker: Tensor, state: SentEmoContextState
    ) -> tuple[Tensor, SentEmoContextState]:
        """One turn of each conversation; see `StreamingModel.step`."""
        embeddings, after = self.network.embed_step(x, speaker, state)
        return self.space.logits(embeddings), after

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Logits (B, T, C) of whole dialogues."""
        return self.space.logits(self.network.embed(x, speaker))


def balanced(label: Tensor, most: int) -> Tensor:
    """Indices of at most `most` rows of each label, drawn at random.

    Args:
        label: int64 (N,).
        most: of each label.
    """
    order = torch.randperm(len(label), device=label.device)
    shuffled = label[order]
    ranks = torch.zeros_like(label)
    for value in shuffled.unique():
        of = shuffled == value
        ranks[of] = torch.arange(int(of.sum()), device=label.device)
    return order[ranks < most]


def _past(key_bias: Tensor, who: Tensor, speaker: Tensor) -> _Past:
    """What turns by `speaker` (N,) may attend to, given their windows (N, K); each sees itself."""
    key_bias = torch.cat([key_bias[:, :-1], torch.zeros_like(key_bias[:, -1:])], 1)
    return _Past(key_bias.unsqueeze(1), who == speaker.unsqueeze(1))
