"""The causal half of DialogueRNN (Majumder et al., AAAI 2019), for M modalities at once."""

import torch
from torch import Tensor, nn

from erc_models.networks.cells import gru
from erc_models.networks.modalities import ModalityLinear, ModalityNorm


class ModalityGru(nn.Module):
    """A GRU cell per modality. Inputs are mapped separately, so that whole dialogues are mapped at once."""

    def __init__(self, modalities: int, inputs: int, width: int) -> None:
        super().__init__()
        self.input = ModalityLinear(modalities, inputs, 3 * width)
        self.recurrent = ModalityLinear(modalities, width, 3 * width)

    def cell(self, mapped: Tensor, h: Tensor, present: Tensor) -> Tensor:
        """Return the state after a turn; it is unchanged where the turn lacks the modality.

        Args:
            mapped: `input` of the turn, (M, N, 3d).
            h: (M, N, d).
            present: bool (M, N, 1).
        """
        after = gru(mapped.to(h.dtype), self.recurrent(h).to(h.dtype), h)  # a state keeps its precision
        return torch.where(present, after, h)


class SpeakerContext(nn.Module):
    """The context of each modality: the causal half of DialogueRNN, MultiEMO's context encoder.

    A GRU per speaker keeps q, the speaker's state; a GRU over all turns reads the speaker's new q and keeps
    g, the state of the conversation. Both are DialogueRNN's and causal. Its attention over earlier g is left
    out, since the fusion attends to the same turns next, and so is its backward pass. Text has the same
    encoder: MultiEMO's text features already contain the whole dialogue, which ours must not.
    """

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.speaker = ModalityGru(modalities, width, width)
        self.dialogue = ModalityGru(modalities, 2 * width, width)
        self.start = nn.Parameter(0.1 * torch.randn(modalities, width))  # q of a speaker not heard yet
        self.map = ModalityLinear(modalities, 2 * width, width)
        self.norm = ModalityNorm(modalities, width)

    def speaker_step(
        self, mapped: Tensor, present: Tensor, speaker: Tensor, speakers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the speaker's new q (M, N, d), and every q (M, N, S, d) after the turn."""
        m, _, _, d = speakers.shape
        row = speaker.view(1, -1, 1, 1).expand(m, -1, 1, d)
        q = self.speaker.cell(mapped, speakers.gather(2, row).squeeze(2), present)
        return q, speakers.scatter(2, row, q.unsqueeze(2))

    def step(
        self, x: Tensor, mask: Tensor, speaker: Tensor, memory: Tensor, speakers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode one turn.

        Args:
            x: the turn's tokens (M, N, d).
            mask: bool (M, N).
            speaker: int64 (N,).
            memory: g, (M, N, d).
            speakers: q of each speaker, (M, N, S, d).

        Returns:
            The context features C (M, N, d), then g and every q after the turn.
        """
        present = mask.unsqueeze(2)
        q, speakers = self.speaker_step(self.speaker.input(x), present, speaker, speakers)
        memory = self.dialogue.cell(self.dialogue.input(torch.cat([x, q], 2)), memory, present)
        return self.merge(x, q, memory), memory, speakers

    def run(self, x: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
        """Run `step` over whole dialogues from the start; only the recurrences loop over turns.

        Args:
            x: (M, B T, d).
            mask: bool (M, B T).
            speaker: int64 (B, T).

        Returns:
            C (M, B T, d).
        """
        (m, _, d), (b, t) = x.shape, speaker.shape
        present = mask.view(m, b, t, 1).unbind(2)
        mapped = self.speaker.input(x).view(m, b, t, -1).unbind(2)
        speakers = self.start.view(m, 1, 1, d).expand(m, b, int(speaker.max()) + 1, d)
        states = []
        for now in range(t):
            state, speakers = self.speaker_step(mapped[now], present[now], speaker[:, now], speakers)
            states.append(state)
        q = torch.stack(states, 2).flatten(1, 2)  # (M, B T, d)
        mapped = self.dialogue.input(torch.cat([x, q], 2)).view(m, b, t, -1).unbind(2)
        state, states = x.new_zeros(m, b, d), []
        for now in range(t):
            state = self.dialogue.cell(mapped[now], state, present[now])
            states.append(state)
        return self.merge(x, q, torch.stack(states, 2).flatten(1, 2))

    def merge(self, x: Tensor, q: Tensor, memory: Tensor) -> Tensor:
        """Return C (M, N, d) from the turn and its context."""
        return self.norm(x + self.map(torch.cat([q, memory], 2)))
