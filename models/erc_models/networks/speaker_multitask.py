"""Multi-task learning with speaker identification as an auxiliary task (arXiv 2003.01478), causal.

The paper names the parts of its network: utterance encoders shared by both tasks and private to each, a
contextual encoder, and cross-attention that augments the emotion task from the speaker task. Its BiGRU is a
GRU here. At run time nobody has a global name, so the speaker task is local to the dialogue: which of the
speakers heard so far says this turn, or a new one? A pointer scores a running representation of each,
which a turn updates only after it was scored; the index of the turn's speaker is never an input to that task.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_models.networks.attention import MASKED
from erc_models.networks.cells import gru
from erc_models.networks.losses import cross_entropy, orthogonality
from erc_models.networks.modalities import InputReduction, ModalityLinear, presence
from erc_models.networks.speaker_task import UNSCORED, SpeakerPointer, gold_of, history
from erc_models.networks.streaming import State, StreamingModel, TurnInput

EMOTION, SPEAKER = 0, 1
"""The tasks, in the order of every tensor that holds both."""


@dataclass(frozen=True)
class SpeakerMultitaskConfig:
    """Sizes and weights.

    Attributes:
        text_dim: size of the text features.
        audio_groups: sizes of the groups of acoustic features, each present or absent by itself.
        classes: how many emotions.
        width: the common size d of every hidden vector.
        heads: of the cross-attention.
        window: how many turns, the current one included, the cross-attention sees.
        horizon: how many turns ago, and how often, a speaker was heard is told apart up to this number.
        dropout: on the tokens and the heads' inputs, in training only.
        audio_clip: normalised acoustic features are clipped to +- this many standard deviations.
        cross_attention: the emotion task attends to the speaker task.
        speaker_state: the emotion task reads its memory of the current speaker.
        speaker_weight: of the speaker task's loss; 0 leaves the task untrained.
        orthogonality_weight: of the loss that keeps shared and private representations apart.
    """

    text_dim: int = 384
    audio_groups: tuple[int, ...] = (88, 8)
    classes: int = 7
    width: int = 100
    heads: int = 2
    window: int = 8
    horizon: int = 8
    dropout: float = 0.5
    audio_clip: float = 5.0
    cross_attention: bool = True
    speaker_state: bool = True
    speaker_weight: float = 0.3
    orthogonality_weight: float = 0.1


@dataclass(frozen=True, eq=False)
class SpeakerMultitaskState(State):
    """What B conversations leave behind after a turn. An empty turn leaves everything as it was.

    Attributes:
        context: (B, 2, d), the hidden states of the context GRUs of both tasks.
        window: (B, W - 1, d), the speaker task's context at the last turns, oldest first.
        who: int64 (B, W - 1), who spoke then; -1 where there was no turn.
        speakers: (B, S, 2, d), both tasks' running representation of each speaker.
        age: int64 (B, S), how many turns ago each was last heard, 1 for the last turn; 0: never.
        count: int64 (B, S), how many turns of each were heard.
    """

    PER_SPEAKER: ClassVar[tuple[str, ...]] = ("speakers", "age", "count")

    context: Tensor
    window: Tensor
    who: Tensor
    speakers: Tensor
    age: Tensor
    count: Tensor


class TaskGrus(nn.Module):
    """Four GRUs run as one: for each task one over the context and one over its speaker's turns alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.input = ModalityLinear(2, 2 * width, 6 * width)
        self.hidden = nn.Parameter(torch.empty(4, width, 3 * width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(torch.zeros(4, 1, 3 * width))

    def read(self, turns: Tensor) -> Tensor:
        """What does not recur: (2, N, 2 d) of both tasks -> (2, 2, N, 3 d), by task and by GRU."""
        return self.input(turns).unflatten(2, (2, -1)).transpose(1, 2)

    def step(
        self, read: Tensor, present: Tensor, speaker: Tensor, context: Tensor, speakers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One turn.

        Args:
            read: (2, 2, N, 3 d), a turn of `read`.
            present: bool (N,); an empty turn changes nothing.
            speaker: int64 (N,).
            context: (N, 2, d).
            speakers: (N, S, 2, d).

        Returns:
            The context (N, 2, d), the current speaker's row (N, 2, d) and the speakers after the turn.
        """
        d = self.width
        index = speaker.view(-1, 1, 1, 1).expand(-1, 1, 2, d)
        row = speakers.gather(1, index).squeeze(1)
        before = torch.stack([context, row], 2)  # (N, 2, 2, d)
        flat = before.permute(1, 2, 0, 3).flatten(0, 1)  # (4, N, d)
        u, v = read.flatten(0, 1), torch.baddbmm(self.bias, flat, self.hidden)
        after = gru(u, v, flat).unflatten(0, (2, 2)).permute(2, 0, 1, 3)
        after = torch.where(present.view(-1, 1, 1, 1), after, before)
        context, row = after.unbind(2)
        return context, row, speakers.scatter(1, index, row.unsqueeze(1))


class CrossAttention(nn.Module):
    """The emotion task attends to the speaker task over the last turns, the current speaker's told apart."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.position = nn.Parameter(torch.zeros(2, heads, window))  # of others' turns, of one's own

    def forward(self, query: Tensor, turns: Tensor, there: Tensor, own: Tensor) -> Tensor:
        """(N, d) from the queries (N, d) and the window (N, W, d), the current turn last.

        Args:
            query: the emotion task's context.
            turns: the speaker task's.
            there: bool (N, W), whether the window has that turn.
            own: bool (N, W), whether the current speaker said it.
        """
        n, w, d = turns.shape
        q = self.query(query).view(n, self.heads, 1, -1)
        k, v = self.key_value(turns).view(n, w, 2, self.heads, -1).permute(2, 0, 3, 1, 4)  # (N, h, W, d / h)
        bias = torch.where(own.unsqueeze(1), self.position[1], self.position[0])
        scores = (q @ k.transpose(2, 3)).squeeze(2) * self.scale + bias
        weight = scores.masked_fill(~there.unsqueeze(1), MASKED).softmax(2)
        return self.output((weight.unsqueeze(2) @ v).view(n, d))


@dataclass(frozen=True, eq=False)
class _Utterance:
    """Shared and private representations (N, d) of N turns and what the tasks' GRUs read of them."""

    shared: Tensor
    private: tuple[Tensor, Tensor]
    read: Tensor
    present: Tensor


class SpeakerMultitask(StreamingModel[SpeakerMultitaskState]):
    """The network: shared-private encoders, a GRU per task, cross-attention, emotion head and pointer."""

    def __init__(self, config: SpeakerMultitaskConfig) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ValueError(f"expected a width that {config.heads} heads divide, got {config.width}")
        d, self.config = config.width, config
        self.reduce = InputReduction(config.text_dim, config.audio_groups, d, config.audio_clip)
        self.absent = nn.Parameter(0.1 * torch.randn(2, 1, d))  # stands for a missing modality
        self.encoder = nn.Linear(2 * d, 3 * d)  # shared, emotion's own, speaker's own
        self.encoder_norm = nn.LayerNorm(d)
        self.grus = TaskGrus(d)
        self.start = nn.Parameter(0.1 * torch.randn(2, d))
        self.pointer = SpeakerPointer(d, config.horizon)
        if config.cross_attention:
            self.cross = CrossAttention(d, config.heads, config.window)
        self.context_norm = nn.LayerNorm(d)
        self.head_hidden = nn.Linear((3 + config.speaker_state) * d, d)
        self.head = nn.Linear(d, config.classes)

    def set_audio_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Fix the mean and standard deviation (D_audio,) that acoustic features are normalised by."""
        self.reduce.set_normalisation(mean, std)

    def initial_state(self, batch: int = 1, speakers: int = 0) -> SpeakerMultitaskState:
        """The state before the first turn of `batch` conversations."""
        like, d, past = self.start, self.config.width, self.config.window - 1
        state = SpeakerMultitaskState(
            context=like.new_zeros(batch, 2, d),
            window=like.new_zeros(batch, past, d),
            who=torch.full((batch, past), -1, device=like.device),
            speakers=like.new_zeros(batch, 0, 2, d),
            age=torch.zeros(batch, 0, dtype=torch.int64, device=like.device),
            count=torch.zeros(batch, 0, dtype=torch.int64, device=like.device),
        )
        return self.grow(state, speakers)

    def grow(self, state: SpeakerMultitaskState, speakers: int) -> SpeakerMultitaskState:
        """Room for `speakers` speakers; a new one starts from the learned vectors, unheard."""
        more = speakers - state.speakers_known
        if more <= 0:
            return state
        return SpeakerMultitaskState(
            state.context,
            state.window,
            state.who,
            torch.cat([state.speakers, self.start.expand(state.batch, more, -1, -1)], 1),
            F.pad(state.age, (0, more)),
            F.pad(state.count, (0, more)),
        )

    def advance(
        self, x: TurnInput, speaker: Tensor, state: SpeakerMultitaskState
    ) -> tuple[Tensor, SpeakerMultitaskState]:
        """One turn of each conversation; see `StreamingModel.step`."""
        turn = self._encode(x)
        context, row, speakers = self.grus.step(
            turn.read, turn.present, speaker, state.context, state.speakers
        )
        window = torch.cat([state.window, context[:, SPEAKER].unsqueeze(1)], 1)  # (B, W, d)
        now = torch.where(turn.present, speaker, -1).unsqueeze(1)
        who = torch.cat([state.who, now], 1)
        logits = self._classify(turn, context[:, EMOTION], row[:, EMOTION], window, who, speaker)
        here = turn.present.unsqueeze(1)
        rows = torch.arange(state.speakers_known, device=speaker.device)
        spoke = (rows == speaker.unsqueeze(1)) & here
        older = torch.where(state.count > 0, state.age + here, 0)
        after = SpeakerMultitaskState(
            context,
            torch.where(here.unsqueeze(2), window[:, 1:], state.window),
            torch.where(here, who[:, 1:], state.who),
            speakers,
            torch.where(spoke, 1, older),
            state.count + spoke,
        )
        return logits, after

    def whose(self, x: TurnInput, state: SpeakerMultitaskState) -> Tensor:
        """Logits (B, S + 1) of who says a turn, before anyone is told: a speaker heard, or a new one."""
        turn = self._encode(x)
        # the context does not depend on the speaker, so any row may be read here; the result is thrown away
        room = self.grow(state, 1)
        anyone = torch.zeros(state.batch, dtype=torch.int64, device=state.who.device)
        context, _, _ = self.grus.step(turn.read, turn.present, anyone, state.context, room.speakers)
        query = self._query(turn, context[:, SPEAKER])
        return self.pointer(query, state.speakers[:, :, SPEAKER], state.age, state.count)

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Logits (B, T, C) of whole dialogues, everything but the recurrences in one go."""
        return self._emotion(speaker, *self._run(x, speaker)[:3])

    def speaker_logits(self, x: TurnInput, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """The speaker task over whole dialogues.

        Args:
            x: the turns, (B, T, ...).
            speaker: int64 (B, T); turn t reads only what was told about the turns before it.

        Returns:
            Logits (B, T, S + 1) over the speakers, the last one "a new speaker", unheard ones masked; gold
            int64 (B, T), `UNSCORED` at a dialogue's first turn and at empty ones.
        """
        turn, context, _, speakers = self._run(x, speaker)
        return self._speakers(speaker, turn, context, speakers)

    def learn(
        self, x: TurnInput, speaker: Tensor, label: Tensor, emotion_loss: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Losses of both tasks and of the shared-private structure; see `StreamingModel.learn`."""
        config = self.config
        turn, context, rows, speakers = self._run(x, speaker)
        losses = {"emotion": emotion_loss(self._emotion(speaker, turn, context, rows))}
        if config.speaker_weight:
            logits, gold = self._speakers(speaker, turn, context, speakers)
            asked = gold != UNSCORED
            target = F.one_hot(gold[asked], logits.shape[2]).to(logits.dtype)
            losses["speaker"] = config.speaker_weight * cross_entropy(logits[asked], target)
        if config.orthogonality_weight:
            shared = turn.shared[turn.present]
            apart = [orthogonality(shared, private[turn.present]) for private in turn.private]
            losses["orthogonality"] = config.orthogonality_weight * (apart[0] + apart[1])
        return losses

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)

    def _encode(self, x: TurnInput) -> _Utterance:
        mask = presence(x)  # (2, N)
        tokens = torch.where(mask.unsqueeze(2), self._drop(self.reduce(x)), self.absent)
        hidden = self.encoder(tokens.transpose(0, 1).flatten(1)).unflatten(1, (3, -1))
        shared, emotion, speaker = self.encoder_norm(torch.relu(hidden)).unbind(1)
        read = self.grus.read(torch.stack([torch.cat([shared, emotion], 1), torch.cat([shared, speaker], 1)]))
        return _Utterance(shared, (emotion, speaker), read, mask.any(0))

    def _query(self, turn: _Utterance, context: Tensor) -> Tensor:
        """What the pointer reads of N turns, (N, 3 d)."""
        return self._drop(torch.cat([turn.shared, turn.private[SPEAKER], context], 1))

    def _classify(
        self, turn: _Utterance, context: Tensor, row: Tensor, window: Tensor, who: Tensor, speaker: Tensor
    ) -> Tensor:
        """Emotion logits (N, C).

        Args:
            turn: N turns.
            context: the emotion task's, (N, d).
            row: its memory of the current speaker after the turn, (N, d).
            window: the speaker task's context at the last W turns, (N, W, d).
            who: int64 (N, W), who said those; -1 where there was none.
            speaker: int64 (N,).
        """
        if self.config.cross_attention:
            context = context + self.cross(context, window, who >= 0, who == speaker.unsqueeze(1))
        parts = [turn.shared, turn.private[EMOTION], self.context_norm(context)]
        parts += [row] if self.config.speaker_state else []
        return self.head(self._drop(torch.relu(self.head_hidden(self._drop(torch.cat(parts, 1))))))

    def _run(self, x: TurnInput, speaker: Tensor) -> tuple[_Utterance, Tensor, Tensor, Tensor]:
        """The recurrences over whole dialogues.

        Returns:
            The B T turns; both tasks' context after each turn and their memory of its speaker after it, both
            (B, T, 2, d); the speaker task's memory of every speaker before each turn (B, T, S, d).
        """
        b, t = speaker.shape
        turn = self._encode(x.flatten())
        reads = turn.read.view(2, 2, b, t, -1).unbind(3)
        presence = turn.present.view(b, t).unbind(1)
        context = self.start.new_zeros(b, 2, self.config.width)
        speakers = self.start.expand(b, int(speaker.max()) + 1, -1, -1)
        contexts, rows, before = [], [], []
        for now in range(t):
            before.append(speakers[:, :, SPEAKER])
            context, row, speakers = self.grus.step(
                reads[now], presence[now], speaker[:, now], context, speakers
            )
            contexts.append(context)
            rows.append(row)
        return turn, torch.stack(contexts, 1), torch.stack(rows, 1), torch.stack(before, 1)

    def _emotion(self, speaker: Tensor, turn: _Utterance, context: Tensor, rows: Tensor) -> Tensor:
        """Emotion logits (B, T, C) after `_run`."""
        past, present = self.config.window - 1, turn.present.view(speaker.shape)
        order = (~present).long().sort(dim=1, stable=True).indices  # those that are there first, in order
        rank = present.cumsum(1) - present.long()  # how many came before
        slot = rank.unsqueeze(2) + torch.arange(-past, 0, device=rank.device)  # (B, T, W - 1)
        index = order.gather(1, slot.clamp(min=0).flatten(1))  # (B, T (W - 1))
        there = slot >= 0
        spoken = speaker.gather(1, index).view_as(slot).where(there, -1)
        keys = context[:, :, SPEAKER]
        window = keys.gather(1, index.unsqueeze(2).expand(-1, -1, keys.shape[2])).unflatten(1, slot.shape[1:])
        window = torch.cat([window.where(there.unsqueeze(3), 0.0), keys.unsqueeze(2)], 2).flatten(0, 1)
        now = speaker.where(present, -1).unsqueeze(2)
        who = torch.cat([spoken, now], 2).flatten(0, 1)
        flat, own = context[:, :, EMOTION].flatten(0, 1), rows[:, :, EMOTION].flatten(0, 1)
        return self._classify(turn, flat, own, window, who, speaker.flatten()).unflatten(0, speaker.shape)

    def _speakers(
        self, speaker: Tensor, turn: _Utterance, context: Tensor, speakers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Speaker logits (B, T, S + 1) and gold (B, T) after `_run`."""
        present = turn.present.view(speaker.shape)
        age, count = history(speaker, present, speakers.shape[2])
        query = self._query(turn, context[:, :, SPEAKER].flatten(0, 1))
        logits = self.pointer(query, speakers.flatten(0, 1), age.flatten(0, 1), count.flatten(0, 1))
        return logits.unflatten(0, speaker.shape), gold_of(speaker, present, count)
