"""MMMIE: mutual information maximisation and minimisation and identity embedding (Zheng et al.).

"Multimodal Representations Learning Based on Mutual Information Maximization and Minimization and Identity
Embedding for Multimodal Sentiment Analysis"; equation numbers are the paper's. In each modality the features
h plus the speaker's identity embedding pass through a transformer layer and a unidirectional LSTM to the
output f; a multilayer perceptron fuses the f. I(f; f') between modalities is maximised, I(h; f) within each
is minimised.

The paper's transformer attends to the whole conversation; here it attends to a window of past turns. The
paper takes speaker numbers as given; here they are ranks of appearance, which the network determines, so
that the caller's numbering does not matter. The paper's third modality, vision, is left out. Text and audio
are one tensor (2, N, D), see `erc_models.networks.modalities`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.attention import mask_to_bias
from erc_models.networks.cells import lstm
from erc_models.networks.losses import Club, Mine
from erc_models.networks.modalities import InputReduction, ModalityLinear, ModalityNorm, presence
from erc_models.networks.streaming import State, StreamingModel, TurnInput


@dataclass(frozen=True)
class MmmieConfig:
    """Sizes and the weights of the information terms.

    Attributes:
        text_dim: size of the text features.
        audio_groups: sizes of the groups of acoustic features; each group may be missing.
        classes: number of emotions.
        width: the common size d of every hidden vector.
        layers, heads, feedforward: of the transformer encoders; `heads` divides `width`.
        window: number of turns of a modality, the current one included, that attention covers.
        identities: number of identity embeddings; later speakers share the last one. With 1 the network does
            not distinguish speakers (the paper's ablation "w/o IE").
        mutual_weight: of I(f; f') between the modalities (alpha in eq. 18; the paper's value for MELD).
        redundancy_weight: of I(h; f) within each (beta in eq. 18; the paper's value for MELD).
        information_hidden: width of the networks that estimate them, in training only.
        dropout: on the encoders' input and the fused vector, in training only.
        audio_clip: normalised acoustic features are clipped to +- this many standard deviations.
    """

    text_dim: int = 384
    audio_groups: tuple[int, ...] = (88, 8)
    classes: int = 7
    width: int = 100
    layers: int = 1
    heads: int = 2
    feedforward: int = 200
    window: int = 4
    identities: int = 8
    mutual_weight: float = 0.2
    redundancy_weight: float = 0.0006
    information_hidden: int = 128
    dropout: float = 0.5
    audio_clip: float = 5.0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"expected a width that heads divide, got {self.width} and {self.heads} heads")
        for name in ("layers", "window", "identities"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class MmmieState(State):
    """The state of B conversations after a turn.

    Attributes:
        window: (B, L, 2, W - 1, 2d), keys and values of the L encoder layers at the last W - 1 turns that had
            the modality, oldest first.
        filled: bool (B, 2, W - 1), whether that place holds a turn.
        cells: (B, 2, 2d), h and c of the LSTMs.
        met: int64 (B,), the number of speakers heard.
        ranks: int64 (B, S), the rank of appearance of each speaker, -1 before the first turn.
    """

    PER_SPEAKER: ClassVar[tuple[str, ...]] = ("ranks",)

    window: Tensor
    filled: Tensor
    cells: Tensor
    met: Tensor
    ranks: Tensor


class EncoderLayer(nn.Module):
    """A transformer encoder layer for each modality, with a bias for each relative position."""

    def __init__(self, config: MmmieConfig) -> None:
        super().__init__()
        d, self.heads = config.width, config.heads
        self.project = ModalityLinear(2, d, 3 * d)  # query, key and value
        self.position = nn.Parameter(torch.zeros(2, config.heads, config.window))  # the last: the turn itself
        self.mix = ModalityLinear(2, d, d, bias=False)
        self.attention_norm = ModalityNorm(2, d)
        self.expand = ModalityLinear(2, d, config.feedforward)
        self.contract = ModalityLinear(2, config.feedforward, d, bias=False)
        self.norm = ModalityNorm(2, d)

    def forward(self, x: Tensor, past: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Encode turns.

        Args:
            x: the turns, (2, B, Q, d).
            past: keys and values of those before them, (2, B, P, 2d).
            bias: of each score, (2, B, heads, Q, P + Q).

        Returns:
            The turns encoded (2, B, Q, d), and their keys and values (2, B, Q, 2d).
        """
        _, b, q, d = x.shape
        rows = x.flatten(1, 2)  # (2, B Q, d)
        query, now = self.project(rows).view(2, b, q, 3 * d).split([d, 2 * d], -1)
        key, value = torch.cat([past, now], 2).chunk(2, -1)
        q_heads, k_heads, v_heads = (
            part.reshape(2 * b, -1, self.heads, d // self.heads).transpose(1, 2)
            for part in (query, key, value)
        )
        seen = F.scaled_dot_product_attention(q_heads, k_heads, v_heads, attn_mask=bias.flatten(0, 1))
        seen = seen.transpose(1, 2).reshape(2, b * q, d)
        rows = self.attention_norm(torch.baddbmm(rows, seen, self.mix.weight))
        rows = self.norm(torch.baddbmm(rows, torch.relu(self.expand(rows)), self.contract.weight))
        return rows.view(2, b, q, d), now


class ModalityLstm(nn.Module):
    """A unidirectional LSTM per modality; its state is unchanged where the modality is missing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = ModalityLinear(2, width, 4 * width)  # input, forget and output gate, candidate
        self.recur = ModalityLinear(2, width, 4 * width, bias=False)
        with torch.no_grad():
            self.read.bias[..., width : 2 * width] = 1.0  # open the forget gates at first

    def step(self, gates: Tensor, mask: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next h and c (2, B, d) after a turn mapped by `read` (2, B, 4d), `mask` bool (2, B)."""
        new_h, new_c = lstm(torch.baddbmm(gates, h, self.recur.weight), c)
        there = mask.unsqueeze(2)
        return torch.where(there, new_h, h), torch.where(there, new_c, c)

    def run(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return h (2, B, T, d) of whole dialogues `x` (2, B, T, d), `mask` bool (2, B, T)."""
        _, b, t, d = x.shape
        gates = self.read(x.flatten(1, 2)).view(2, b, t, 4 * d)
        h = c = x.new_zeros(2, b, d)
        hidden = []
        for now in range(t):
            h, c = self.step(gates[:, :, now], mask[:, :, now], h, c)
            hidden.append(h)
        return torch.stack(hidden, 2)


class Mmmie(StreamingModel[MmmieState]):
    """The network, and the estimators of its information terms for training."""

    TRAINING_ONLY: ClassVar[tuple[str, ...]] = ("mine", "club")

    def __init__(self, config: MmmieConfig) -> None:
        super().__init__()
        d, self.config = config.width, config
        self.reduce = InputReduction(config.text_dim, config.audio_groups, d, config.audio_clip)
        self.identity = nn.Parameter(0.1 * torch.randn(config.identities, d))  # w of eq. 3
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.recurrence = ModalityLstm(d)
        self.fuse = nn.Linear(2 * d + 2, d)  # the last two inputs are the modality masks
        self.head = nn.Linear(d, config.classes)
        self.mine = Mine(d, d, config.information_hidden)
        inputs = {"text": config.text_dim, "audio": sum(config.audio_groups)}
        self.club = nn.ModuleDict({k: Club(n, d, config.information_hidden) for k, n in inputs.items()})

    def set_audio_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation (D_audio,) for normalising acoustic features."""
        self.reduce.set_normalisation(mean, std)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the network, of the lower bound's T, and of the upper bounds' q."""
        groups: dict[str, list[nn.Parameter]] = {"network": [], "mine": [], "club": []}
        for name, parameter in self.named_parameters():
            part = name.split(".")[0]
            groups[part if part in self.TRAINING_ONLY else "network"].append(parameter)
        return groups

    def initial_state(self, batch: int = 1, speakers: int = 0) -> MmmieState:
        """Return the state before the first turn of `batch` conversations."""
        config, like = self.config, self.identity
        past, d = config.window - 1, config.width
        return MmmieState(
            window=like.new_zeros(batch, config.layers, 2, past, 2 * d),
            filled=like.new_zeros(batch, 2, past, dtype=torch.bool),
            cells=like.new_zeros(batch, 2, 2 * d),
            met=like.new_zeros(batch, dtype=torch.int64),
            ranks=like.new_full((batch, speakers), -1, dtype=torch.int64),
        )

    def grow(self, state: MmmieState, speakers: int) -> MmmieState:
        """Add rows up to `speakers` speakers; new ones have no rank yet."""
        more = speakers - state.speakers_known
        if more <= 0:
            return state
        ranks = F.pad(state.ranks, (0, more), value=-1)
        return MmmieState(state.window, state.filled, state.cells, state.met, ranks)

    def hear(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the reduced acoustic features (N, V); see `StreamingModel.hear`."""
        return self.reduce.hear(audio, mask)

    def advance(self, x: TurnInput, speaker: Tensor, state: MmmieState) -> tuple[Tensor, MmmieState]:
        """Read one turn of each conversation; see `StreamingModel.step`."""
        mask = presence(x)  # (2, B)
        row = speaker.unsqueeze(1)
        known = state.ranks.gather(1, row).squeeze(1)  # (B,)
        new = (known < 0) & mask.any(0)
        rank = torch.where(known < 0, state.met, known)
        encoded = self._tokens(x, rank.clamp(max=self.config.identities - 1)).unsqueeze(2)  # (2, B, 1, d)
        there = torch.cat([state.filled.transpose(0, 1), mask.unsqueeze(2)], 2)  # (2, B, W)
        key_bias = mask_to_bias(there)[:, :, None, None]  # (2, B, 1, 1, W)
        windows = []
        for layer, past in zip(self.encoder, state.window.permute(1, 2, 0, 3, 4), strict=True):
            encoded, now = layer(encoded, past, key_bias + layer.position[:, None, :, None])
            windows.append(torch.cat([past, now], 2)[:, :, 1:])
        cells = state.cells.transpose(0, 1).chunk(2, -1)
        h, c = self.recurrence.step(self.recurrence.read(encoded.squeeze(2)), mask, *cells)
        stepped = mask.t().unsqueeze(2)  # (B, 2, 1): a window moves only if the turn has its modality
        window = torch.stack(windows).permute(2, 0, 1, 3, 4)
        after = MmmieState(
            window=torch.where(stepped[:, None, ..., None], window, state.window),
            filled=(stepped & there.transpose(0, 1)[..., 1:]) | (~stepped & state.filled),
            cells=torch.cat([h, c], -1).transpose(0, 1),
            met=state.met + new,
            ranks=state.ranks.scatter(1, row, torch.where(new, rank, known).unsqueeze(1)),
        )
        return self._classify(h, mask), after

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return logits (B, T, C) of whole dialogues; training permutes identities at random per dialogue."""
        return self._read(x, speaker)[0]

    def learn(
        self, x: TurnInput, speaker: Tensor, label: Tensor, emotion_loss: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Return the emotion loss and the information terms (eq. 18); see `StreamingModel.learn`.

        Returns:
            ``emotion``; ``mine``: -alpha times the lower bound of I(f_text; f_audio) (eq. 12);
            ``club_text``, ``club_audio``: beta times the upper bound of I(h; f) (eq. 15);
            ``fit_text``, ``fit_audio``: the negative log-likelihood of q, whose gradient reaches q only.
        """
        logits, hidden = self._read(x, speaker)
        return {"emotion": emotion_loss(logits), **self._information(x.flatten(), hidden.flatten(1, 2))}

    def _read(self, x: TurnInput, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, C) and f (2, B, T, d) of whole dialogues."""
        b, t = speaker.shape
        flat = x.flatten()
        flat_mask = presence(flat)  # (2, B T)
        mask = flat_mask.view(2, b, t)
        identity = ranks_of_appearance(speaker, mask.any(0)).clamp(max=self.config.identities - 1)
        if self.training:
            # over the whole table: a permutation of a dialogue's own ranks would reveal how many are to come
            order = torch.rand(b, self.config.identities, device=speaker.device).argsort(1)
            identity = order.gather(1, identity)
        encoded = self._tokens(flat, identity.flatten()).view(2, b, t, -1)
        key_bias, near = _reach(mask, self.config.window)
        empty = encoded.new_zeros(2, b, 0, 2 * encoded.shape[3])
        for layer in self.encoder:
            position = torch.bmm(near, layer.position.transpose(1, 2)).view(2, b, t, t, -1)
            encoded, _ = layer(encoded, empty, key_bias.unsqueeze(2) + position.permute(0, 1, 4, 2, 3))
        h = self.recurrence.run(encoded, mask)
        return self._classify(h.flatten(1, 2), flat_mask).view(b, t, -1), h

    def _tokens(self, x: TurnInput, identity: Tensor) -> Tensor:
        """Add identity embeddings (N,) to turns (N, ...): tokens (2, N, d) (eq. 2 without position)."""
        return self._drop(self.reduce(x) + F.embedding(identity, self.identity))

    def _classify(self, h: Tensor, mask: Tensor) -> Tensor:
        """Fuse and classify, h (2, N, d) -> logits (N, C).

        A missing modality adds 0; if both are missing, the last h of both is used.
        """
        heard = torch.where((mask | ~mask.any(0)).unsqueeze(2), h, 0.0)
        fused = self.fuse(torch.cat([heard[0], heard[1], mask.t().to(h.dtype)], 1))
        return self.head(self._drop(torch.relu(fused)))

    def _information(self, x: TurnInput, f: Tensor) -> dict[str, Tensor]:
        """Return the information terms of N turns and their f (2, N, d)."""
        config, mask = self.config, presence(x)
        both = mask.all(0)
        losses = {"mine": -config.mutual_weight * self.mine(f[0, both], f[1, both])}
        voice = self.reduce.acoustics(x.audio, x.audio_mask)
        for index, (name, h) in enumerate({"text": x.text, "audio": voice}.items()):
            there = mask[index]
            given, features, club = h[there], f[index, there], self.club[name]
            losses[f"club_{name}"] = config.redundancy_weight * club.bound(given, features)
            losses[f"fit_{name}"] = club.fit(given, features)
        return losses

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


def ranks_of_appearance(speaker: Tensor, present: Tensor) -> Tensor:
    """Number speakers by order of appearance, from 0.

    Args:
        speaker: int64 (B, T), in any numbering.
        present: bool (B, T), False for an empty turn, whose rank is undefined.

    Returns:
        int64 (B, T).
    """
    turn = torch.arange(speaker.shape[1], device=speaker.device)
    earlier = (
        (speaker.unsqueeze(2) == speaker.unsqueeze(1)) & present.unsqueeze(1) & (turn <= turn.unsqueeze(1))
    )
    first = earlier.int().argmax(2)  # (B, T): the speaker's first turn
    met = ((first == turn) & present).cumsum(1)
    return (met.gather(1, first) - 1).clamp(min=0)


def _reach(mask: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return the attention bias and window positions of whole dialogues, from a mask bool (2, B, T).

    Returns:
        (2, B, T, T), 0 where the query of a row may attend to the key of a column, else `MASKED`; and
        (2, B T T, W), one-hot, the key's position in the window.
    """
    t = mask.shape[2]
    count = mask.cumsum(2)  # turns with the modality so far
    slot = window - 1 - (count.unsqueeze(3) - count.unsqueeze(2))  # (2, B, T, T)
    turn = torch.arange(t, device=mask.device)
    seen = mask.unsqueeze(2) & (turn <= turn.unsqueeze(1)) & (slot >= 0)
    near = slot.unsqueeze(4) == torch.arange(window, device=mask.device)
    return mask_to_bias(seen), near.flatten(1, 3).float()
