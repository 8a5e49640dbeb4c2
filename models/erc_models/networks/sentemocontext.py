"""SentEmoContext: context attention over sentence embeddings, and an embedding space that separates emotions.

After Gendron and Guibon, "Context-Aware Siamese Networks for Efficient Emotion Recognition in Conversation"
(hal-04532408). Kept from the paper: attention over the turns' sentence embeddings (its section 3), triplet
learning beside cross-entropy, and balanced labels in the triplets (section 5.3). Different: attention is
limited to a window of past turns; a turn may also have a voice; and turns are classified, by a head or by
labels given as examples (`erc_models.networks.prototypes`). The paper's public code counts a turn as right
if a random triplet's loss is at most 1, which is not classification.
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
"""The speaker of an empty place in the window."""


@dataclass(frozen=True)
class SentEmoContextConfig:
    """Sizes and weights.

    Attributes:
        text_dim: size of the text features, the sentence embeddings.
        audio_groups: sizes of the groups of acoustic features; each group may be missing.
        classes: number of emotions of the head.
        width: size of the hidden vectors.
        embedding: size of the embedding space.
        layers, heads, feedforward: of the context attention.
        window: number of turns, the current one included, that attention covers.
        dropout: on the turns' vectors and the head, in training only.
        margin: of the triplet loss.
        triplet_weight: of the triplet loss beside cross-entropy.
        triplet_turns: maximum number of turns of a label, drawn at random, in the triplets of a batch, so
            that frequent labels do not crowd out the others.
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
        key_bias: (B, W - 1), 0, or `MASKED` for an empty turn.
        speaker: int64 (B, W - 1), the turns' speakers, `_NOBODY` for an empty place.
    """

    window: Tensor
    key_bias: Tensor
    speaker: Tensor


@dataclass(frozen=True, eq=False)
class _Keys:
    """The turns that N turns may attend to, K each, the turn itself last.

    Attributes:
        key_bias: (N, 1, K), 0 or `MASKED`; never `MASKED` for the turn itself.
        same: bool (N, K), whether the turn is by the speaker of the current one.
    """

    key_bias: Tensor
    same: Tensor


class ContextLayer(nn.Module):
    """A pre-norm transformer layer in which a turn attends to a window of turns.

    Scores have a bias for each relative position. Scores and values depend on whether a turn's speaker is the
    current one, but not on which other speaker it is.
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
        # roles: a turn of another speaker, of the same speaker
        self.role_key = nn.Parameter(0.1 * torch.randn(2, h, d // h))
        self.role_value = nn.Parameter(torch.zeros(2, h, d // h))
        self.position = nn.Parameter(torch.zeros(h, config.window))
        self.out = nn.Linear(d, d)
        self.feed_norm = nn.LayerNorm(d)
        self.expand = nn.Linear(d, config.feedforward)
        self.contract = nn.Linear(config.feedforward, d)

    def forward(self, x: Tensor, keys: _Keys, to_window: Callable[[Tensor], Tensor]) -> Tensor:
        """Encode turns, (N, d) -> (N, d).

        Args:
            x: the current turns.
            keys: the turns that they may attend to.
            to_window: the current turns' keys and values (N, 2 d) -> those of their windows (N, K, 2 d).
        """
        n, d = x.shape
        normed = self.norm(x)
        window = to_window(self.key_value(normed))  # (N, K, 2 d)
        key, value = window.view(n, -1, 2, self.heads, d // self.heads).unbind(2)  # (N, K, H, d / H)
        query = self.query(normed).view(n, self.heads, -1) * (d // self.heads) ** -0.5
        by_role = torch.einsum("nhd,rhd->nrh", query, self.role_key)  # (N, 2, H)
        same = keys.same.unsqueeze(2)  # (N, K, 1)
        scores = torch.einsum("nhd,nkhd->nkh", query, key)
        scores = scores + torch.where(same, by_role[:, 1:], by_role[:, :1])
        weight = (scores.transpose(1, 2) + self.position + keys.key_bias).softmax(-1)  # (N, H, K)
        own = (weight * keys.same.unsqueeze(1)).sum(-1)  # (N, H), the weight of the speaker's own turns
        attended = torch.einsum("nhk,nkhd->nhd", weight, value)
        roles = torch.einsum("nhr,rhd->nhd", torch.stack([1 - own, own], 2), self.role_value)
        x = x + self.out((attended + roles).reshape(n, d))
        return x + self.contract(F.gelu(self.expand(self.feed_norm(x))))


class SentEmoContext(StreamingModel[SentEmoContextState]):
    """The network: modality fusion, context attention, the embedding space and a head."""

    VOICE_ONLY = ("reduce.audio.",)
    VOICE_ROWS = ("reduce.norm.", "trust")

    def __init__(self, config: SentEmoContextConfig) -> None:
        super().__init__()
        d, self.config = config.width, config
        self.reduce = InputReduction(config.text_dim, config.audio_groups, d, config.audio_clip)
        self.trust = nn.Parameter(torch.zeros(2, d))  # fusion scores of text and of audio
        self.trust_bias = nn.Parameter(torch.zeros(2, 1))
        self.context = nn.ModuleList(ContextLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.project = nn.Linear(d, config.embedding)
        self.head = nn.Linear(config.embedding, config.classes)

    def set_audio_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation (D_audio,) for normalising acoustic features."""
        self.reduce.set_normalisation(mean, std)

    def initial_state(self, batch: int = 1, speakers: int = 0) -> SentEmoContextState:
        """Return the state before the first turn; it has no rows for speakers."""
        past, like = self.config.window - 1, self.trust
        return SentEmoContextState(
            window=like.new_zeros(batch, self.config.layers, past, 2 * self.config.width),
            key_bias=like.new_full((batch, past), MASKED),
            speaker=torch.full((batch, past), _NOBODY, device=like.device),
        )

    def grow(self, state: SentEmoContextState, speakers: int) -> SentEmoContextState:
        """Return the same state: it has no rows for speakers."""
        return state

    def embed_step(
        self, x: TurnInput, speaker: Tensor, state: SentEmoContextState
    ) -> tuple[Tensor, SentEmoContextState]:
        """Embed one turn of each conversation.

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
        keys = _keys(key_bias, who, speaker)
        windows = []
        for level, layer in enumerate(self.context):

            def with_past(row: Tensor, level: int = level) -> Tensor:
                windows.append(torch.cat([state.window[:, level], row.unsqueeze(1)], 1))  # (B, W, 2 d)
                return windows[-1]

            now = layer(now, keys, with_past)
        window = torch.stack([level[:, 1:] for level in windows], 1)
        return self._embed(now), SentEmoContextState(window, key_bias[:, 1:], who[:, 1:])

    def embed(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return embeddings (B, T, E) of whole dialogues, the same numbers as `embed_step`."""
        b, t = speaker.shape
        now, bias = self._turns(x.flatten())

        def slide(rows: Tensor, empty: float) -> Tensor:
            """Return the window of each turn, (B T, D) -> (B T, W, D)."""
            return sliding_windows(rows.view(b, t, -1), self.config.window, empty).flatten(0, 1)

        who = slide(speaker.reshape(-1, 1), _NOBODY).squeeze(2)  # (B T, W)
        keys = _keys(slide(bias.unsqueeze(1), MASKED).squeeze(2), who, speaker.flatten())
        for layer in self.context:
            now = layer(now, keys, lambda rows: slide(rows, 0.0))
        return self._embed(now).view(b, t, -1)

    def classify(self, embeddings: Tensor) -> Tensor:
        """Return the head's logits (..., C) of embeddings (..., E)."""
        scaled = embeddings * self.config.embedding**0.5  # to a variance of about 1
        return self.head(self._drop(scaled))

    def hear(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the reduced acoustic features (N, V); see `StreamingModel.hear`."""
        return self.reduce.hear(audio, mask)

    def advance(
        self, x: TurnInput, speaker: Tensor, state: SentEmoContextState
    ) -> tuple[Tensor, SentEmoContextState]:
        """Read one turn of each conversation; see `StreamingModel.step`."""
        embeddings, after = self.embed_step(x, speaker, state)
        return self.classify(embeddings), after

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return logits (B, T, C) of whole dialogues."""
        return self.classify(self.embed(x, speaker))

    def learn(
        self, x: TurnInput, speaker: Tensor, label: Tensor, emotion_loss: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of the head and the triplet loss of the embeddings."""
        embeddings = self.embed(x, speaker)
        rows = (label >= 0) & (x.text_mask | x.audio_mask.any(2))
        chosen = balanced(label[rows], self.config.triplet_turns)
        triplet = triplet_margin(embeddings[rows][chosen], label[rows][chosen], self.config.margin)
        emotion = emotion_loss(self.classify(embeddings))
        return {"emotion": emotion, "triplet": self.config.triplet_weight * triplet}

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout) if self.training else x

    def _turns(self, x: TurnInput) -> tuple[Tensor, Tensor]:
        """Fuse turns (N, ...) to vectors (N, d); also return their key biases for later turns (N,)."""
        mask = presence(x)  # (2, N)
        tokens = self.reduce(x)  # (2, N, d)
        trust = torch.einsum("mnd,md->mn", tokens, self.trust) + self.trust_bias
        weight = (trust + mask_to_bias(mask)).softmax(0)
        present = mask.any(0)
        # an empty turn is zeros: only its context counts
        turns = torch.where(present.unsqueeze(1), (tokens * weight.unsqueeze(2)).sum(0), 0.0)
        return self._drop(turns), mask_to_bias(present)

    def _embed(self, x: Tensor) -> Tensor:
        return F.normalize(self.project(self.norm(x)), dim=-1)


class Relabelled(StreamingModel[SentEmoContextState]):
    """A network with the labels of a `LabelSpace` in place of its head; it shares weights and states."""

    def __init__(self, network: SentEmoContext, space: LabelSpace) -> None:
        super().__init__()
        self.network = network
        self.space = space
        self.config = replace(network.config, classes=len(space.labels))

    def initial_state(self, batch: int = 1, speakers: int = 0) -> SentEmoContextState:
        """Return the network's initial state."""
        return self.network.initial_state(batch, speakers)

    def grow(self, state: SentEmoContextState, speakers: int) -> SentEmoContextState:
        """Add rows for speakers to the network's state."""
        return self.network.grow(state, speakers)

    def advance(
        self, x: TurnInput, speaker: Tensor, state: SentEmoContextState
    ) -> tuple[Tensor, SentEmoContextState]:
        """Read one turn of each conversation; see `StreamingModel.step`."""
        embeddings, after = self.network.embed_step(x, speaker, state)
        return self.space.logits(embeddings), after

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return logits (B, T, C) of whole dialogues."""
        return self.space.logits(self.network.embed(x, speaker))


def balanced(label: Tensor, most: int) -> Tensor:
    """Draw the indices of at most `most` rows of each label at random.

    Args:
        label: int64 (N,).
        most: maximum number of rows of a label.
    """
    order = torch.randperm(len(label), device=label.device)
    shuffled = label[order]
    ranks = torch.zeros_like(label)
    for value in shuffled.unique():
        same = shuffled == value
        ranks[same] = torch.arange(int(same.sum()), device=label.device)
    return order[ranks < most]


def _keys(key_bias: Tensor, who: Tensor, speaker: Tensor) -> _Keys:
    """Return the keys for turns by `speaker` (N,) with windows (N, K); the turn itself is never masked."""
    key_bias = torch.cat([key_bias[:, :-1], torch.zeros_like(key_bias[:, -1:])], 1)
    return _Keys(key_bias.unsqueeze(1), who == speaker.unsqueeze(1))
