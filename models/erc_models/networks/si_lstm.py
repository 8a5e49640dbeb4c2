"""SI-LSTM: speaker hybrid LSTM and cross-modal attention (Liang, Zou and Xu, arXiv 2305.03506).

Equation numbers are the paper's. It leaves gaps; fields of `SiLstmConfig` say how each is resolved. Inside,
both modalities are one tensor (2, N, D), see `erc_models.networks.modalities`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.acoustic_encoder import AcousticEncoderConfig
from erc_models.networks.attention import MASKED, WindowAttention, mask_to_bias, sliding_windows
from erc_models.networks.cells import gru, lstm
from erc_models.networks.modalities import (
    InputReduction,
    ModalityLinear,
    ModalityNorm,
    VoiceReduction,
    presence,
)
from erc_models.networks.streaming import State, StreamingModel, TurnInput, with_row


@dataclass(frozen=True)
class SiLstmConfig:
    """Sizes, and choices where the paper leaves gaps.

    Attributes:
        text_dim: size of the text features.
        audio_groups: sizes of the groups of acoustic features; each group may be missing.
        classes: number of emotions.
        width: the common size d of every hidden vector; the paper reduces audio to 100.
        layers, heads, feedforward: of the transformer encoders (eq. 2-3).
        window: number of turns, the current one included, that attention covers.
        dropout: on the encoders' input, the fused vector and the head, in training only.
        audio_clip: normalised acoustic features are clipped to +- this many standard deviations.
        speaker_state: the speaker GRU and q in the gates (False: the paper's "w/o SI").
        joint_attention: z in the gates (False: "w/o JMA"; both False: its plain "LSTM").
        literal_candidate: eq. 8 as printed, with x_{t-1}; by default x_t as in eq. 5-7.
        literal_joint: eq. 11 as printed, softmax over the outer product of the two modalities; by default
            scaled dot-product attention over the modality tokens of the same turn.
        updated_speaker: the gates read q after the current turn has updated it; by default before.
        offline: bidirectional and unmasked over the whole dialogue (section 3.2). It cannot stream.
        voice_hidden: size of the `AcousticEncoder`, which encodes the voice relative to the same speaker's
            earlier turns; 0: a linear map of the turn's acoustic features only.
        voice_prior, voice_dropout: of that encoder.
        freeze_voice: do not train that encoder, which must then be loaded.
    """

    text_dim: int = 384
    audio_groups: tuple[int, ...] = (88, 8)
    classes: int = 7
    width: int = 100
    layers: int = 2
    heads: int = 2
    feedforward: int = 200
    window: int = 4
    dropout: float = 0.5
    audio_clip: float = 5.0
    speaker_state: bool = True
    joint_attention: bool = True
    literal_candidate: bool = False
    literal_joint: bool = False
    updated_speaker: bool = False
    offline: bool = False
    voice_hidden: int = 0
    voice_prior: float = 4.0
    voice_dropout: float = 0.5
    freeze_voice: bool = False


@dataclass(frozen=True, eq=False)
class SiLstmState(State):
    """The state of B conversations after a turn.

    Attributes:
        window: (B, L + 1, 2, W - 1, d), the inputs of the L encoder layers and their output H at the last
            W - 1 turns, oldest first.
        key_bias: (B, 2, W - 1), 0, or `MASKED` for a turn that lacks the modality.
        cells: (B, 2, k d), the SI-LSTM's [z, h, c], then x_{t-1} for the literal eq. 8.
        speakers: (B, S, d), q of each speaker.
        voices: (B, S, voice_hidden + 1), mean and count of each speaker's voice; (B, S, 0) without a voice
            encoder.
    """

    PER_SPEAKER: ClassVar[tuple[str, ...]] = ("speakers", "voices")

    window: Tensor
    key_bias: Tensor
    cells: Tensor
    speakers: Tensor
    voices: Tensor


class EncoderLayer(nn.Module):
    """A transformer encoder layer per modality (eq. 2-3)."""

    def __init__(self, config: SiLstmConfig, positions: int) -> None:
        super().__init__()
        self.attention = WindowAttention(config.width, config.heads, positions)
        self.attention_norm = ModalityNorm(2, config.width)
        self.expand = ModalityLinear(2, config.width, config.feedforward)
        self.contract = ModalityLinear(2, config.feedforward, config.width, bias=False)
        self.norm = ModalityNorm(2, config.width)

    def forward(self, x: Tensor, keys: Tensor, key_bias: Tensor, slots: Tensor | None) -> Tensor:
        """Encode turns (2, N, d), given windows of the same layer's inputs (2, N, K, d) -> (2, N, d)."""
        x = self.attention_norm(self.attention(x, keys, key_bias, slots))
        return self.norm(torch.baddbmm(x, torch.relu(self.expand(x)), self.contract.weight))


class SpeakerLstm(nn.Module):
    """The speaker GRU (eq. 4) and the SI-LSTM of both modalities (eq. 5-10).

    The gates' weights are one matrix per modality, [W; V; U] over [x_t, z_{t-1}, h_{t-1}], with columns for
    i, f, o and the candidate. S of both modalities and the GRU's recurrent matrix are another one, since all
    of them read q, and so are their biases.
    """

    def __init__(self, config: SiLstmConfig) -> None:
        super().__init__()
        d = self.width = config.width
        self.config = config
        self.read = (1 + config.joint_attention) * d  # width of [z, h], or of h alone
        self.size = self.read + d + config.literal_candidate * d
        self.gates = ModalityLinear(2, d + self.read, 4 * d, bias=False)
        self.bias = nn.Parameter(torch.zeros(11 * d if config.speaker_state else 8 * d))
        with torch.no_grad():
            self.bias[: 8 * d].view(2, 4, d)[:, 1] = 1.0  # open the forget gates at first
        if config.speaker_state:
            self.start = nn.Parameter(0.1 * torch.randn(d))
            self.from_speaker = nn.Parameter(torch.empty(11 * d, d).uniform_(-(d**-0.5), d**-0.5))
            self.speaker_input = nn.Linear(2 * d, 3 * d)

    def speaker_step(
        self, u: Tensor, present: Tensor, speaker: Tensor, speakers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return S q_t + b for the gates of both modalities (2, N, 4d), and every q after the turn (eq. 4).

        Args:
            u: the GRU's map of the turn, (N, 3d).
            present: bool (N, 1), False for an empty turn, which leaves q unchanged.
            speaker: int64 (N,).
            speakers: q of each speaker, (N, S, d).
        """
        d = self.width
        row = speaker.view(-1, 1, 1).expand(-1, 1, d)
        q = speakers.gather(1, row).squeeze(1)  # (N, d)
        mapped = F.linear(q, self.from_speaker, self.bias)  # (N, 11d)
        after = torch.where(present, gru(u, mapped[:, 8 * d :], q), q)
        if self.config.updated_speaker:
            mapped = F.linear(after, self.from_speaker[: 8 * d], self.bias[: 8 * d])
        gates = mapped[:, : 8 * d].view(-1, 2, 4 * d).transpose(0, 1)
        return gates, with_row(speakers, speaker, after)

    def step(
        self, x: Tensor, z: Tensor | None, mask: Tensor, speaker: Tensor, cells: Tensor, speakers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read one turn.

        Args:
            x: H_t of both modalities (2, N, d).
            z: their joint modal factor of this turn, for the next turn's gates.
            mask: bool (2, N); the cells of a missing modality are unchanged.
            speaker: int64 (N,).
            cells: (2, N, size), [z_{t-1}, h_{t-1}, c_{t-1}, x_{t-1}].
            speakers: (N, S, d).

        Returns:
            h_t (2, N, d), the cells and the speakers after the turn.
        """
        d, read = self.width, self.read
        if self.config.speaker_state:
            u = self.speaker_input(x.transpose(0, 1).reshape(-1, 2 * d))
            base, speakers = self.speaker_step(u, mask.any(0).unsqueeze(1), speaker, speakers)
        else:
            base = self.bias.view(2, 1, 4 * d)
        past = cells[..., :read]
        gates = torch.baddbmm(base, torch.cat([x, past], -1), self.gates.weight)
        if self.config.literal_candidate:
            last = torch.cat([cells[..., read + d :], past], -1)
            candidate = torch.baddbmm(base[..., 3 * d :], last, self.gates.weight[..., 3 * d :])
            gates = torch.cat([gates[..., : 3 * d], candidate], -1)
        h, c = lstm(gates, cells[..., read : read + d])
        parts = [h, c] if z is None else [z, h, c]
        parts += [x] if self.config.literal_candidate else []
        cells = torch.where(mask.unsqueeze(2), torch.cat(parts, -1), cells)
        return cells[..., read - d : read], cells, speakers

    def run(self, x: Tensor, z: Tensor | None, mask: Tensor, speaker: Tensor) -> Tensor:
        """Run `step` over whole dialogues from the start; only the recurrences loop over turns.

        Args:
            x: (2, B, T, d).
            z: (2, B, T, d) or None.
            mask: bool (2, B, T).
            speaker: int64 (B, T).

        Returns:
            h (2, B, T, d).
        """
        _, b, t, d = x.shape
        weight = self.gates.weight[:, : self.read].unsqueeze(1)  # (2, 1, [x, z], 4d)
        seen = x if z is None else torch.cat([x, _last(z, mask)], -1)
        gates = seen @ weight  # (2, B, T, 4d)
        if self.config.literal_candidate:
            seen = torch.cat([_last(x, mask), seen[..., d:]], -1)
            gates = torch.cat([gates[..., : 3 * d], seen @ weight[..., 3 * d :]], -1)
        if self.config.speaker_state:
            u = self.speaker_input(x.permute(1, 2, 0, 3).reshape(b, t, 2 * d))
            speakers = self.start.expand(b, int(speaker.max()) + 1, d)
            present, from_speaker = mask.any(0).unsqueeze(2), []
            for now in range(t):
                part, speakers = self.speaker_step(u[:, now], present[:, now], speaker[:, now], speakers)
                from_speaker.append(part)
            gates = gates + torch.stack(from_speaker, 2)
        else:
            gates = gates + self.bias.view(2, 1, 1, 4 * d)
        recurrent = self.gates.weight[:, self.read :]  # (2, h, 4d)
        h = c = x.new_zeros(2, b, d)
        hidden = []
        for now in range(t):
            new_h, new_c = lstm(torch.baddbmm(gates[:, :, now], h, recurrent), c)
            there = mask[:, :, now].unsqueeze(2)
            h, c = torch.where(there, new_h, h), torch.where(there, new_c, c)
            hidden.append(h)
        return torch.stack(hidden, 2)


class SiLstm(StreamingModel[SiLstmState]):
    """The network: encoders, SI-LSTM, cross-modal attention, weighted fusion and head."""

    VOICE_ONLY = ("reduce.voice.", "reduce.audio.")
    VOICE_ROWS = ("reduce.norm.", "encoder.")

    def __init__(self, config: SiLstmConfig) -> None:
        super().__init__()
        d, self.config = config.width, config
        positions = 2 * config.window - 1 if config.offline else config.window
        self.reduce = _reduction(config)
        self.encoder = nn.ModuleList(EncoderLayer(config, positions) for _ in range(config.layers))
        self.absent = nn.Parameter(0.1 * torch.randn(2, 1, d))  # stands for H of a missing modality
        self.recurrence = SpeakerLstm(config)
        self.reverse = SpeakerLstm(config) if config.offline else None
        if config.joint_attention and config.literal_joint:
            self.joint_outer = nn.Parameter(torch.randn(2, 2, 1, 1, d) / math.sqrt(d))  # p and q
        elif config.joint_attention:
            self.joint = ModalityLinear(2, d, d, bias=False)
        self.cross = WindowAttention(d, 1, positions)
        self.cross_norm = ModalityNorm(2, d)
        self.fusion = nn.Parameter(torch.zeros(2, 1))
        self.fused_map = nn.Linear((2 + config.offline) * d, d)
        self.fused_norm = nn.LayerNorm(d)
        self.text_map = nn.Linear(d, d)
        self.text_norm = nn.LayerNorm(d)
        self.head_hidden = nn.Linear(d, d)
        self.head = nn.Linear(d, config.classes)

    def set_audio_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation (D_audio,) for normalising acoustic features."""
        self.reduce.set_normalisation(mean, std)

    def load_voice(self, path: Path) -> None:
        """Load the acoustic encoder written by `erc_models.training.train_voice`, with its normalisation.

        `set_audio_normalisation` does not change the loaded normalisation.

        Raises:
            ValueError: this network has no acoustic encoder, or one of another size.
        """
        if not isinstance(self.reduce, VoiceReduction):
            raise ValueError(f"{path}: expected a network with voice_hidden > 0 to load a voice, got 0")
        self.reduce.load(path)

    def initial_state(self, batch: int = 1, speakers: int = 0) -> SiLstmState:
        """Return the state before the first turn of `batch` conversations."""
        config, like = self.config, self.absent
        past, d = config.window - 1, config.width
        state = SiLstmState(
            window=like.new_zeros(batch, config.layers + 1, 2, past, d),
            key_bias=like.new_full((batch, 2, past), MASKED),
            cells=like.new_zeros(batch, 2, self.recurrence.size),
            speakers=like.new_zeros(batch, 0, d if config.speaker_state else 0),
            voices=like.new_zeros(batch, 0, config.voice_hidden + 1 if config.voice_hidden else 0),
        )
        return self.grow(state, speakers)

    def grow(self, state: SiLstmState, speakers: int) -> SiLstmState:
        """Add rows up to `speakers` speakers; a new one has the learned vector and no voice yet."""
        more = speakers - state.speakers_known
        if more <= 0:
            return state
        start = self.recurrence.start if self.config.speaker_state else self.absent.new_zeros(0)
        rows = torch.cat([state.speakers, start.expand(state.batch, more, -1)], 1)
        voices = F.pad(state.voices, (0, 0, 0, more))
        return SiLstmState(state.window, state.key_bias, state.cells, rows, voices)

    def hear(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the reduced acoustic features (N, V); see `StreamingModel.hear`."""
        return self.reduce.hear(audio, mask)

    def advance(self, x: TurnInput, speaker: Tensor, state: SiLstmState) -> tuple[Tensor, SiLstmState]:
        """Read one turn of each conversation; see `StreamingModel.step`."""
        if self.config.offline:
            raise NotImplementedError("an offline SI-LSTM reads whole dialogues; it has no step")
        mask = presence(x)
        now_bias = mask_to_bias(mask)
        key_bias = torch.cat([state.key_bias.transpose(0, 1), now_bias.unsqueeze(2)], 2)  # (2, B, W)
        past = state.window.permute(1, 2, 0, 3, 4).unbind()  # L + 1 of (2, B, W - 1, d)
        windows: list[Tensor] = []

        def with_past(level: int, now: Tensor) -> Tensor:
            windows.append(torch.cat([past[level], now.unsqueeze(2)], 2))  # (2, B, W, d)
            return windows[-1]

        if isinstance(self.reduce, VoiceReduction):
            tokens, voices = self.reduce(x, speaker, state.voices)
        else:
            tokens, voices = self.reduce(x), state.voices
        tokens = self._drop(tokens)
        h, cross, z = self._read(tokens, mask, now_bias, key_bias.unsqueeze(2), with_past, None)
        hidden, cells, speakers = self.recurrence.step(
            h, z, mask, speaker, state.cells.transpose(0, 1), state.speakers
        )
        after = SiLstmState(
            window=torch.stack([window[:, :, 1:] for window in windows]).permute(2, 0, 1, 3, 4),
            key_bias=key_bias[:, :, 1:].transpose(0, 1),
            cells=cells.transpose(0, 1),
            speakers=speakers,
            voices=voices,
        )
        return self._classify(h, cross, hidden, now_bias), after

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return logits (B, T, C) of whole dialogues; only the two recurrences loop over turns."""
        b, t = speaker.shape
        flat = x.flatten()
        mask = presence(flat)  # (2, B T)
        now_bias = mask_to_bias(mask)
        window, slots = self.config.window, None
        if self.config.offline:
            index = torch.arange(t, device=speaker.device)
            slots = (index - index[:, None]).clamp(1 - window, window - 1) + window - 1
            slots = slots.repeat(b, 1)  # (B T, T)

        def slide(rows: Tensor, empty: float) -> Tensor:
            """Return the window of each turn, (2, B T, D) -> (2, B T, W, D)."""
            rows = rows.view(2, b, t, -1)
            if self.config.offline:
                return rows.unsqueeze(2).expand(2, b, t, t, -1).flatten(1, 2)
            return sliding_windows(rows, window, empty).flatten(1, 2)

        key_bias = slide(now_bias.unsqueeze(2), MASKED).transpose(2, 3)  # (2, B T, 1, W)
        heard = isinstance(self.reduce, VoiceReduction)
        tokens = self._drop(self.reduce.dialogue(x, speaker) if heard else self.reduce(flat))
        h, cross, z = self._read(tokens, mask, now_bias, key_bias, lambda _, now: slide(now, 0.0), slots)

        def turns(rows: Tensor) -> Tensor:
            return rows.view(2, b, t, *rows.shape[2:])

        sequence = (turns(h), None if z is None else turns(z), turns(mask))
        hidden = self.recurrence.run(*sequence, speaker)
        if self.reverse is not None:
            backward = [None if part is None else part.flip(2) for part in sequence]
            hidden = torch.cat([hidden, self.reverse.run(*backward, speaker.flip(1)).flip(2)], -1)
        return self._classify(h, cross, hidden.flatten(1, 2), now_bias).view(b, t, -1)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout) if self.training else x

    def _read(
        self, x: Tensor, mask: Tensor, now_bias: Tensor, key_bias: Tensor,
        keys: Callable[[int, Tensor], Tensor], slots: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
        """Return what does not recur: H (eq. 2-3), C (eq. 12-17) and z (eq. 11), each (2, N, d).

        Args:
            x: the turns' tokens (2, N, d).
            mask: bool (2, N).
            now_bias: (2, N), the attention bias of the turn's own modalities.
            key_bias: (2, N, 1, K), of every turn in the window.
            keys: (level, the current turns' inputs) -> the window of that level's inputs (2, N, K, d).
            slots: relative position of each key, or None.
        """
        for level, layer in enumerate(self.encoder):
            x = layer(x, keys(level, x), key_bias, slots)
        h = torch.where(mask.unsqueeze(2), x, self.absent)
        # at m: the other modality's query over the turns of m, the C that eq. 18 pairs with S^m
        cross = self.cross_norm(self.cross(h.flip(0), keys(len(self.encoder), h), key_bias, slots))
        if not self.config.joint_attention:
            return h, cross, None
        joint = self._joint_literal(h) if self.config.literal_joint else self._joint(h, now_bias)
        return h, cross, joint

    def _joint(self, h: Tensor, now_bias: Tensor) -> Tensor:
        """Return joint modal attention z (2, N, d) over the turn's two modality tokens (eq. 11, resolved)."""
        tokens = h.transpose(0, 1)  # (N, 2, d)
        query = self.joint(h).transpose(0, 1)
        scores = torch.baddbmm(
            now_bias.t().unsqueeze(1), query, tokens.transpose(1, 2), alpha=self.cross.scale
        )
        return torch.bmm(scores.softmax(-1), tokens).transpose(0, 1)

    def _joint_literal(self, h: Tensor) -> Tensor:
        """Return eq. 11 as printed: softmax((x p) (x' q)) x for both modalities, x' of the other one."""
        p, q = self.joint_outer  # (2, 1, 1, d) each
        outer = (h.unsqueeze(3) * p) @ (h.flip(0).unsqueeze(3) * q)  # (2, N, d, d)
        return (outer.softmax(-1) @ h.unsqueeze(3)).squeeze(3)

    def _classify(self, h: Tensor, cross: Tensor, hidden: Tensor, now_bias: Tensor) -> Tensor:
        """Return logits (N, C) by weighted fusion (eq. 18) and head (eq. 19).

        A missing modality has no fusion weight; if both are missing, only the context counts.
        """
        weight = torch.softmax(self.fusion + now_bias, 0).unsqueeze(2)  # (2, N, 1), w1 + w2 = 1
        fused = (torch.cat([cross, hidden], -1) * weight).sum(0)
        fused = self.fused_norm(self.fused_map(self._drop(fused)))
        together = fused + self.text_norm(self.text_map(h[0]))
        return self.head(self._drop(torch.relu(self.head_hidden(together))))


def _reduction(config: SiLstmConfig) -> InputReduction | VoiceReduction:
    """Build the layer that reduces turns to the network's width."""
    if not config.voice_hidden:
        return InputReduction(config.text_dim, config.audio_groups, config.width, config.audio_clip)
    voice = AcousticEncoderConfig(
        config.audio_groups, config.voice_hidden, prior=config.voice_prior, dropout=config.voice_dropout
    )
    reduction = VoiceReduction(config.text_dim, voice, config.width)
    reduction.voice.requires_grad_(not config.freeze_voice)
    return reduction


def _last(values: Tensor, mask: Tensor) -> Tensor:
    """Return the value at the last earlier turn with the modality, or zeros, for each turn (2, B, T, d)."""
    t = values.shape[2]
    index = torch.where(mask, torch.arange(1, t + 1, device=mask.device), 0)  # (2, B, T)
    last = F.pad(index.cummax(2).values[..., :-1], (1, 0))  # 0: none so far
    padded = F.pad(values, (0, 0, 1, 0))
    return padded.gather(2, last.unsqueeze(3).expand(*last.shape, values.shape[3]))
