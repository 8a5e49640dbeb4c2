"""Multi-task learning with speaker identification as an auxiliary task (arXiv 2003.01478), causal.

The parts are the paper's: utterance encoders shared by both tasks and private to each, a contextual encoder,
and cross-attention that augments the emotion task from the speaker task. Its BiGRU is a GRU here. Speakers
have no global names at run time, so the speaker task is local to the dialogue: which of the speakers heard so
far speaks this turn, or is it a new one? A pointer scores a running representation of each speaker, which a
turn updates only after it is scored; the index of the turn's speaker is never an input of that task.
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
"""The tasks' indices in every tensor that holds both."""


@dataclass(frozen=True)
class SpeakerMultitaskConfig:
    """Sizes and weights.

    Attributes:
        text_dim: size of the text features.
        audio_groups: sizes of the groups of acoustic features; each group may be missing.
        classes: number of emotions.
        width: the common size d of every hidden vector.
        heads: of the cross-attention.
        window: number of turns, the current one included, that the cross-attention covers.
        horizon: ages and counts of turns up to this number have embeddings of their own.
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
    """The state of B conversations after a turn. An empty turn changes nothing.

    Attributes:
        context: (B, 2, d), the hidden states of the context GRUs of both tasks.
        window: (B, W - 1, d), the speaker task's context at the last turns, oldest first.
        who: int64 (B, W - 1), the speakers of those turns; -1 for an empty place.
        speakers: (B, S, 2, d), both tasks' running representation of each speaker.
        age: int64 (B, S), number of turns since each was last heard, 1 for the last turn; 0: never.
        count: int64 (B, S), number of turns of each.
    """

    PER_SPEAKER: ClassVar[tuple[str, ...]] = ("speakers", "age", "count")

    context: Tensor
    window: Tensor
    who: Tensor
    speakers: Tensor
    age: Tensor
    count: Tensor


class TaskGrus(nn.Module):
    """Four GRUs run as one: for each task one over all turns and one over each speaker's own turns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.input = ModalityLinear(2, 2 * width, 6 * width)
        self.hidden = nn.Parameter(torch.empty(4, width, 3 * width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(torch.zeros(4, 1, 3 * width))

    def read(self, turns: Tensor) -> Tensor:
        """Map the inputs of both tasks, (2, N, 2 d) -> (2, 2, N, 3 d), by task and by GRU."""
        return self.input(turns).unflatten(2, (2, -1)).transpose(1, 2)

    def step(
        self, read: Tensor, present: Tensor, speaker: Tensor, context: Tensor, speakers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read one turn.

        Args:
            read: (2, 2, N, 3 d), the turn mapped by `read`.
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
    """Attention of the emotion task to the speaker task over the last turns, biased by whose they are."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.position = nn.Parameter(torch.zeros(2, heads, window))  # of others' turns, of one's own

    def forward(self, query: Tensor, turns: Tensor, filled: Tensor, own: Tensor) -> Tensor:
        """Return (N, d) from queries (N, d) and windows (N, W, d), the current turn last.

        Args:
            query: the emotion task's context.
            turns: the speaker task's.
            filled: bool (N, W), whether that place holds a turn.
            own: bool (N, W), whether the current speaker said it.
        """
        n, w, d = turns.shape
        q = self.query(query).view(n, self.heads, 1, -1)
        k, v = self.key_value(turns).view(n, w, 2, self.heads, -1).permute(2, 0, 3, 1, 4)  # (N, h, W, d / h)
        bias = torch.where(own.unsqueeze(1), self.position[1], self.position[0])
        scores = (q @ k.transpose(2, 3)).squeeze(2) * self.scale + bias
        weight = scores.masked_fill(~filled.unsqueeze(1), MASKED).softmax(2)
        return self.output((weight.unsqueeze(2) @ v).view(n, d))


@dataclass(frozen=True, eq=False)
class _Utterance:
    """Shared and private representations (N, d) of N turns, and the mapped inputs of the tasks' GRUs."""

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
        self.encoder = nn.Linear(2 * d, 3 * d)  # shared, the emotion task's, the speaker task's
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
        """Set the mean and standard deviation (D_audio,) for normalising acoustic features."""
        self.reduce.set_normalisation(mean, std)

    def initial_state(self, batch: int = 1, speakers: int = 0) -> SpeakerMultitaskState:
        """Return the state before the first turn of `batch` conversations."""
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
        """Add rows up to `speakers` speakers; a new one starts from the learned vectors, unheard."""
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

    def hear(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Return the reduced acoustic features (N, V); see `StreamingModel.hear`."""
        return self.reduce.hear(audio, mask)

    def advance(
        self, x: TurnInput, speaker: Tensor, state: SpeakerMultitaskState
    ) -> tuple[Tensor, SpeakerMultitaskState]:
        """Read one turn of each conversation; see `StreamingModel.step`."""
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
        """Return logits (B, S + 1) of a turn's speaker, who is not given: one heard before, or a new one."""
        turn = self._encode(x)
        # the context does not depend on the speaker: any index will do, and the speakers' rows are discarded
        room = self.grow(state, 1)
        anyone = torch.zeros(state.batch, dtype=torch.int64, device=state.who.device)
        context, _, _ = self.grus.step(turn.read, turn.present, anyone, state.context, room.speakers)
        query = self._query(turn, context[:, SPEAKER])
        return self.pointer(query, state.speakers[:, :, SPEAKER], state.age, state.count)

    def forward(self, x: TurnInput, speaker: Tensor) -> Tensor:
        """Return logits (B, T, C) of whole dialogues; only the recurrences loop over turns."""
        return self._emotion(speaker, *self._run(x, speaker)[:3])

    def speaker_logits(self, x: TurnInput, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and targets of the speaker task over whole dialogues.

        Args:
            x: the turns, (B, T, ...).
            speaker: int64 (B, T); the logits of turn t depend only on the speakers of earlier turns.

        Returns:
            Logits (B, T, S + 1) over the speakers, the last for a new speaker, unheard ones masked; targets
            int64 (B, T), `UNSCORED` at a dialogue's first turn and at empty ones.
        """
        turn, context, _, speakers = self._run(x, speaker)
        return self._speakers(speaker, turn, context, speakers)

    def learn(
        self, x: TurnInput, speaker: Tensor, label: Tensor, emotion_loss: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses of both tasks and of the shared-private structure; see `StreamingModel.learn`."""
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
        """Return the pointer's input for N turns, (N, 3 d)."""
        return self._drop(torch.cat([turn.shared, turn.private[SPEAKER], context], 1))

    def _classify(
        self, turn: _Utterance, context: Tensor, row: Tensor, window: Tensor, who: Tensor, speaker: Tensor
    ) -> Tensor:
        """Return emotion logits (N, C).

        Args:
            turn: N turns.
            context: the emotion task's, (N, d).
            row: its memory of the current speaker after the turn, (N, d).
            window: the speaker task's context at the last W turns, (N, W, d).
            who: int64 (N, W), the speakers of those turns; -1 for an empty place.
            speaker: int64 (N,).
        """
        if self.config.cross_attention:
            context = context + self.cross(context, window, who >= 0, who == speaker.unsqueeze(1))
        parts = [turn.shared, turn.private[EMOTION], self.context_norm(context)]
        parts += [row] if self.config.speaker_state else []
        return self.head(self._drop(torch.relu(self.head_hidden(self._drop(torch.cat(parts, 1))))))

    def _run(self, x: TurnInput, speaker: Tensor) -> tuple[_Utterance, Tensor, Tensor, Tensor]:
        """Run the recurrences over whole dialogues.

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
        """Return emotion logits (B, T, C) after `_run`."""
        past, present = self.config.window - 1, turn.present.view(speaker.shape)
        order = (~present).long().sort(dim=1, stable=True).indices  # turns that are not empty first, in order
        rank = present.cumsum(1) - present.long()  # number of turns before, without empty ones
        slot = rank.unsqueeze(2) + torch.arange(-past, 0, device=rank.device)  # (B, T, W - 1)
        index = order.gather(1, slot.clamp(min=0).flatten(1))  # (B, T (W - 1))
        filled = slot >= 0
        spoken = speaker.gather(1, index).view_as(slot).where(filled, -1)
        keys = context[:, :, SPEAKER]
        window = keys.gather(1, index.unsqueeze(2).expand(-1, -1, keys.shape[2])).unflatten(1, slot.shape[1:])
        window = torch.cat([window.where(filled.unsqueeze(3), 0.0), keys.unsqueeze(2)], 2).flatten(0, 1)
        now = speaker.where(present, -1).unsqueeze(2)
        who = torch.cat([spoken, now], 2).flatten(0, 1)
        flat, own = context[:, :, EMOTION].flatten(0, 1), rows[:, :, EMOTION].flatten(0, 1)
        return self._classify(turn, flat, own, window, who, speaker.flatten()).unflatten(0, speaker.shape)

    def _speakers(
        self, speaker: Tensor, turn: _Utterance, context: Tensor, speakers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return speaker logits (B, T, S + 1) and targets (B, T) after `_run`."""
        present = turn.present.view(speaker.shape)
        age, count = history(speaker, present, speakers.shape[2])
        query = self._query(turn, context[:, :, SPEAKER].flatten(0, 1))
        logits = self.pointer(query, speakers.flatten(0, 1), age.flatten(0, 1), count.flatten(0, 1))
        return logits.unflatten(0, speaker.shape), gold_of(speaker, present, count)
