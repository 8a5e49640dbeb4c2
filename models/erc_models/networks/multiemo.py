"""MultiEMO, made causal: cross-attention fusion of the modalities over the past (Shi and Huang, ACL 2023).

Equation numbers are the paper's. Its dialogue-wide attention is limited to a window of past turns here, and
its context encoders run forwards only. Inside, the M modalities (text, audio and possibly vision) are one
tensor (M, N, D). A modality that a turn lacks is masked as a key and left out of the fusion, and a modality
that no turn of the window has changes nothing: without vision a network of three equals one of two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.attention import mask_to_bias, sliding_windows
from erc_models.networks.dialogue_rnn import SpeakerContext
from erc_models.networks.losses import sample_weighted_focal_contrastive, soft_hgr
from erc_models.networks.modalities import InputReduction, ModalityLinear, ModalityNorm, presence
from erc_models.networks.streaming import State, StreamingModel, TurnInput


@dataclass(frozen=True)
class MultiEmoConfig:
    """Sizes and the weights of the losses; the defaults of the losses are the paper's for MELD.

    Attributes:
        text_dim: size of the text features.
        audio_groups: sizes of the groups of acoustic features; each group may be missing.
        classes: number of emotions.
        vision_dim: size of the visual features, 0 for a network without vision.
        width: the common size d of every hidden vector; the paper's is 256.
        layers: of the fusion; the paper's are 2 for MELD, 6 for IEMOCAP.
        heads: of each cross-attention, 4 in the paper; they divide `width`.
        feedforward: inner size of the fusion's feed-forward layers.
        window: number of turns, the current one included, that attention covers; the paper's covers the
            dialogue.
        dropout: on the tokens, after each part of the fusion and on the head, in training only.
        audio_clip: normalised acoustic features are clipped to +- this many standard deviations.
        contrastive_weight: mu_1, of SWFC (eq. 19).
        hgr_weight: mu_2, of Soft-HGR (eq. 20); the classification loss weighs 1 - mu_1 - mu_2.
        temperature: tau of SWFC.
        alpha: SWFC's exponent of rarity.
        gamma: SWFC's exponent of hardness.
    """

    text_dim: int = 384
    audio_groups: tuple[int, ...] = (88, 8)
    classes: int = 7
    vision_dim: int = 0
    width: int = 128
    layers: int = 2
    heads: int = 4
    feedforward: int = 256
    window: int = 8
    dropout: float = 0.3
    audio_clip: float = 5.0
    contrastive_weight: float = 0.3
    hgr_weight: float = 0.3
    temperature: float = 1.4
    alpha: float = 1.2
    gamma: float = 2.0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"expected heads that divide the width of {self.width}, got {self.heads}")
        if min(self.contrastive_weight, self.hgr_weight) < 0 or self.contrastive_weight + self.hgr_weight > 1:
            raise ValueError(
                "expected contrastive_weight and hgr_weight of at least 0 that sum to at most 1, "
                f"got {self.contrastive_weight} and {self.hgr_weight}"
            )

    @property
    def modalities(self) -> int:
        """Number of modalities (M)."""
        return 3 if self.vision_dim else 2


@dataclass(frozen=True, eq=False)
class MultiEmoState(State):
    """The state of B conversations after a turn.

    Attributes:
        window: (B, M, W - 1, d), the context features of the last W - 1 turns, oldest first; the keys and
            values of every layer derive from them.
        heard: bool (B, M, W - 1), whether that turn had the modality.
        memory: (B, M, d), the state g of the conversation.
        speakers: (B, S, M, d), the state q of each speaker.
    """

    PER_SPEAKER: ClassVar[tuple[str, ...]] = ("speakers",)

    window: Tensor
    heard: Tensor
    memory: Tensor
    speakers: Tensor


@dataclass(frozen=True, eq=False)
class KeyWindow:
    """For each modality, the window of another modality that it queries.

    Attributes:
        turns: (M, N, K, d), context features.
        bias: (M, N, 1, K), 0, or `MASKED` for a turn that lacks the modality.
        any: bool (M, N, 1), whether any turn has it.
    """

    turns: Tensor
    bias: Tensor
    any: Tensor


class CrossAttention(nn.Module):
    """Multi-head attention of each modality's current turn over the window of another (eq. 2-6).

    Keys and values are linear in the turns, so W_k is applied to the query and W_v after the weighted sum:
    the numbers are the same, and a state need only keep the turns themselves. The scores have a bias for each
    relative position, counted back from the current turn.
    """

    def __init__(self, config: MultiEmoConfig) -> None:
        super().__init__()
        m, d, self.heads = config.modalities, config.width, config.heads
        self.scale = (d // self.heads) ** -0.5
        self.query = ModalityLinear(m, d, d)
        self.key = ModalityLinear(m * self.heads, d // self.heads, d, bias=False)  # W_k^T of each head
        self.value = ModalityLinear(m * self.heads, d, d // self.heads, bias=False)
        self.output = ModalityLinear(m, d, d, bias=False)
        self.position = nn.Parameter(torch.zeros(m, 1, self.heads, config.window))
        self.norm = ModalityNorm(m, d)

    def forward(self, f: Tensor, keys: KeyWindow, drop: Callable[[Tensor], Tensor]) -> Tensor:
        """Add attention to `f` (M, N, d) and normalise; `f` is unchanged where no turn has the modality."""
        (m, n, d), heads = f.shape, self.heads
        turns = keys.turns.flatten(0, 1)  # (M N, K, d)
        query = self.query(f).view(m, n, heads, -1).transpose(1, 2).flatten(0, 1)  # (M H, N, d / H)
        query = self.key(query).view(m, heads, n, d).transpose(1, 2).flatten(0, 1)  # (M N, H, d)
        bias = (keys.bias + self.position).flatten(0, 1)  # (M N, H, K)
        weight = torch.baddbmm(bias, query, turns.transpose(1, 2), alpha=self.scale).softmax(-1)
        seen = torch.bmm(weight, turns).view(m, n, heads, d).transpose(1, 2).flatten(0, 1)
        seen = self.value(seen).view(m, heads, n, -1).transpose(1, 2).flatten(2)  # (M, N, d)
        return torch.where(keys.any, self.norm(f + drop(self.output(seen))), f)


class FusionLayer(nn.Module):
    """Attention of each modality to the others, one after the other, and a feed-forward layer (eq. 2-12)."""

    def __init__(self, config: MultiEmoConfig) -> None:
        super().__init__()
        m, d = config.modalities, config.width
        self.attention = nn.ModuleList(CrossAttention(config) for _ in range(m - 1))
        self.expand = ModalityLinear(m, d, config.feedforward)
        self.contract = ModalityLinear(m, config.feedforward, d)
        self.norm = ModalityNorm(m, d)

    def forward(self, f: Tensor, windows: Sequence[KeyWindow], drop: Callable[[Tensor], Tensor]) -> Tensor:
        """Fuse `f` (M, N, d) with the windows of the M - 1 other modalities -> (M, N, d)."""
        for attention, keys in zip(self.attention, windows, strict=True):
            f = attention(f, keys, drop)
        return self.norm(f + drop(self.contract(torch.relu(self.expand(f)))))


class MultiEmo(StreamingModel[MultiEmoState]):
    """The network: context encoders, fusion and head."""

    TRAINING_ONLY: ClassVar[tuple[str, ...]] = ("label_counts",)

    config: MultiEmoConfig
    label_counts: Tensor

    def __init__(self, config: MultiEmoConfig) -> None:
        super().__init__()
        m, d, self.config = config.modalities, config.width, config
        self.reduce = InputReduction(config.text_dim, config.audio_groups, d, config.audio_clip)
        if config.vision_dim:
            self.vision = nn.Sequential(nn.Linear(config.vision_dim, d), nn.LayerNorm(d))
        self.context = SpeakerContext(m, d)
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(config.layers))
        self.fuse = ModalityLinear(m, d, d)
        self.head_hidden = nn.Linear(d, d)
        self.head = nn.Linear(d, config.classes)
        self.register_buffer("label_counts", torch.zeros(config.classes))  # of the turns seen by `learn`

    def set_audio_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation (D_audio,) for normalising acoustic features."""
        self.reduce.set_normalisation(mean, std)

    def initial_state(self, batch: int = 1, speakers: int = 0) -> MultiEmoState:
        """Return the state before the first turn of `batch` conversations."""
        (m, d), past, like = self.context.start.shape, self.config.window - 1, self.context.start
        state = MultiEmoState(
            window=like.new_zeros(batch, m, past, d),
            heard=torch.zeros(batch, m, past, dtype=torch.bool, device=like.device),
            memory=like.new_zeros(batch, m, d),
            speakers=like.new_zeros(batch, 0, m, d),
        )
        return self.grow(state, speakers)

    def grow(self, state: MultiEmoState, speakers: int) -> MultiEmoState:
        """Add rows up to `speakers` speakers; a new one starts from the learned vector."""
        more = speakers - state.speakers_known
        if more <= 0:
            return state
        fresh = self.context.start.expand(state.batch, more, -1, -1)
        return MultiEmoState(state.window, state.heard, state.memory, torch.cat([state.speakers, fresh], 1))

    def hear(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the reduced acoustic features (N, V); see `StreamingModel.hear`."""
        return self.reduce.hear(audio, mask)

    def advance(self, x: TurnInput, speaker: Tensor, state: MultiEmoState) -> tuple[Tensor, MultiEmoState]:
        """Read one turn of each conversation; see `StreamingModel.step`."""
        tokens, mask = self._tokens(x)
        memory, speakers = state.memory.transpose(0, 1), state.speakers.permute(2, 0, 1, 3)
        context, memory, speakers = self.context.step(tokens, mask, speaker, memory, speakers)
        window = torch.cat([state.window.transpose(0, 1), context.unsqueeze(2)], 2)  # (M, B, W, d)
        heard = torch.cat([state.heard.transpose(0, 1), mask.unsqueeze(2)], 2)  # (M, B, W)
        _, fused = self._fuse(context, mask, window, heard)
        after = MultiEmoState(
            window=window[:, :, 1:].transpose(0, 1),
            heard=heard[:, :, 1:].transpose(0, 1),
            memory=memory.transpose(0, 1),
            speakers=speakers.permute(1, 2, 0, 3),
        )
        return self._classify(fused), after

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return logits (B, T, C) of whole dialogues; only the context's recurrence loops over turns."""
        return self._classify(self._represent(x, speaker)[1]).view(*speaker.shape, -1)

    def learn(
        self, x: TurnInput, speaker: Tensor, label: Tensor, emotion_loss: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Return the weighted losses: classification, SWFC on z, Soft-HGR between modalities (eq. 19-22).

        SWFC needs the class frequencies in training, so labels are counted as they come.
        """
        config = self.config
        views, fused, mask = self._represent(x, speaker)
        known = (label.flatten() >= 0) & mask.any(0)
        labels = label.flatten()[known]
        if self.training:
            self.label_counts += torch.bincount(labels, minlength=config.classes)
        emotion = emotion_loss(self._classify(fused).view(*speaker.shape, -1))
        with torch.autocast(fused.device.type, enabled=False):  # covariances and powers need full precision
            contrast = sample_weighted_focal_contrastive(
                fused[known].float(), labels, self.label_counts,
                temperature=config.temperature, alpha=config.alpha, gamma=config.gamma,
            )  # fmt: skip
            hgr = modal_hgr(views.float(), mask)
        return {
            "emotion": (1 - config.contrastive_weight - config.hgr_weight) * emotion,
            "contrastive": config.contrastive_weight * contrast,
            "hgr": config.hgr_weight * hgr,
        }

    def _represent(self, x: TurnInput, speaker: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the fused modalities F (M, B T, d), z (B T, d) and the mask (M, B T) of whole dialogues."""
        b, t = speaker.shape
        tokens, mask = self._tokens(x.flatten())
        context = self.context.run(tokens, mask, speaker)

        def slide(rows: Tensor) -> Tensor:
            """Return the window of each turn, (M, B T, D) -> (M, B T, W, D)."""
            return sliding_windows(rows.view(len(rows), b, t, -1), self.config.window).flatten(1, 2)

        return *self._fuse(context, mask, slide(context), slide(mask.unsqueeze(2)).squeeze(3)), mask

    def _tokens(self, x: TurnInput) -> tuple[Tensor, Tensor]:
        """Reduce turns (N, ...) to tokens (M, N, d) and their mask, bool (M, N)."""
        tokens = self.reduce(x)
        mask = presence(x)
        if self.config.vision_dim:
            vision, there = x.vision, x.vision_mask
            if vision is None or there is None:
                vision = tokens.new_zeros(tokens.shape[1], self.config.vision_dim)
                there = torch.zeros_like(x.text_mask)
            if vision.shape[1] != self.config.vision_dim:
                raise ValueError(
                    f"expected visual features of size {self.config.vision_dim}, got {vision.shape[1]}"
                )
            seen = self.vision(torch.where(there.unsqueeze(1), vision, 0.0))
            tokens = torch.cat([tokens, seen.unsqueeze(0)])
            mask = torch.cat([mask, there.unsqueeze(0)])
        return self._drop(tokens), mask

    def _fuse(self, context: Tensor, mask: Tensor, window: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused modalities F (M, N, d) and their joint z (N, d) (eq. 2-14).

        Args:
            context: C of the current turns, (M, N, d).
            mask: bool (M, N).
            window: C of the turns in the window, (M, N, W, d), the current one last.
            heard: bool (M, N, W).
        """
        windows = _key_windows(window, heard)
        views = context
        for layer in self.layers:
            views = layer(views, windows, self._drop)
        parts = torch.where(mask.unsqueeze(2), self.fuse(views), 0.0)
        return views, parts.sum(0)  # W^z over the concatenation, without the parts of missing modalities

    def _classify(self, fused: Tensor) -> Tensor:
        """Return logits (N, C) (eq. 15-16)."""
        return self.head(self._drop(torch.relu(self.head_hidden(self._drop(fused)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout) if self.training else x


def modal_hgr(views: Tensor, mask: Tensor) -> Tensor:
    """Return Soft-HGR summed over the pairs of modalities, each over the turns that have both.

    Args:
        views: (M, N, d).
        mask: bool (M, N).
    """
    losses = []
    for one, other in combinations(range(len(views)), 2):
        both = mask[one] & mask[other]
        losses.append(soft_hgr([views[one][both], views[other][both]]))
    return torch.stack(losses).sum()


def _key_windows(window: Tensor, heard: Tensor) -> list[KeyWindow]:
    """Return the windows that each modality queries: the others, in the order text, audio, vision.

    Args:
        window: (M, N, K, d).
        heard: bool (M, N, K).
    """
    m, found = len(window), []
    for hop in range(m - 1):
        other = [hop + (hop >= modality) for modality in range(m)]  # never the modality itself
        present = torch.stack([heard[i] for i in other])
        found.append(
            KeyWindow(
                turns=torch.stack([window[i] for i in other]),
                bias=mask_to_bias(present).unsqueeze(2),
                any=present.any(2, keepdim=True),
            )
        )
    return found
