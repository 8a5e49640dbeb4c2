"""A checkpoint's networks in torch, where there are no graphs; on a GPU `slot_classifier` adds slots."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from erc_models.formats import checkpoint_files
from erc_models.formats.text_windows import TextWindow
from erc_models.networks import checkpoint as checkpoints
from erc_models.networks.calibration import Calibration
from erc_models.networks.prototypes import fit
from erc_models.networks.sentemocontext import Relabelled, SentEmoContext
from erc_models.networks.streaming import State, TurnInput, state_to_bytes, step_each

from stream_erc.core.work import ClassifyTurn, ConversationState
from stream_erc.events import Emotion, Features, Turn, Vector
from stream_erc.exceptions import CheckpointError, LabelsError
from stream_erc.inference.acoustics import FeatureSpec
from stream_erc.inference.emotion.shipped import shipped_models

EXAMPLES_TOGETHER = 64
"""Batch size for the examples of labels."""


class TorchClassifier:
    """A checkpoint's text encoder and conversation network.

    Args:
        model: the name of a shipped checkpoint, or a folder.
        device: torch's name of the device.
        warm: whether to load the text encoder now; otherwise `warm_up` does.

    Raises:
        CheckpointError: no such checkpoint, or it is damaged.
    """

    def __init__(self, model: str | Path, device: str = "cpu", *, warm: bool = True) -> None:
        self.device = torch.device(device)
        try:
            self._folder = checkpoint_files.resolve(model)
            self._checkpoint = checkpoints.load(self._folder, self.device, text_encoder=warm)
        except checkpoint_files.CheckpointProblem as problem:
            raise CheckpointError(str(problem)) from problem
        self._text_encoder, self.warm = self._checkpoint.text_encoder, warm
        self._network = self._checkpoint.network
        self._calibration = self._checkpoint.calibration
        self._text_dim: int = self._checkpoint.network.config.text_dim
        self.audio_groups: list[int] = list(self._checkpoint.network.config.audio_groups)
        self.name: str = self._checkpoint.name
        self.labels: tuple[str, ...] = self._checkpoint.labels
        acoustic = self._checkpoint.features.get("acoustic")
        self.acoustic_spec: FeatureSpec | None = FeatureSpec.from_dict(acoustic) if acoustic else None

    def warm_up(self) -> None:
        """Load the text encoder unless it is loaded: importing transformers takes longer than all else.

        Raises:
            CheckpointError: it is damaged.
        """
        if self.warm:
            return
        try:
            self._text_encoder = checkpoints.load_text_encoder(self._folder, self.device)
        except checkpoint_files.CheckpointProblem as problem:
            raise CheckpointError(str(problem)) from problem
        self.warm = True

    @torch.inference_mode()
    def classify(self, works: Sequence[ClassifyTurn]) -> list[tuple[Emotion, ConversationState]]:
        """Classify one turn of each of B conversations, in one batch.

        Returns:
            The emotion of each turn, and the conversation state after it.
        """
        x = self._inputs(works)
        states = [self._state(work.state) for work in works]
        speakers = [work.turn.speaker for work in works]
        logits, after = step_each(self._network, x, speakers, states)
        calibrated = self._calibration.scale(logits.float(), x.text_mask, x.audio_mask)
        probabilities = calibrated.softmax(-1).cpu().numpy()  # (B, C)
        return [(self._emotion(row), state) for row, state in zip(probabilities, after, strict=True)]

    def require_embedding_space(self) -> None:
        """Refuse a network that cannot predict labels given by examples.

        Raises:
            LabelsError: it has no embedding space; the message names the checkpoints that have one.
        """
        if not isinstance(self._checkpoint.network, SentEmoContext):
            able = [name for name, (kind, _) in checkpoints.ARCHITECTURES.items() if kind is SentEmoContext]
            shipped = [model.name for model in shipped_models() if model.architecture in able]
            raise LabelsError(
                f"labels from examples: expected a checkpoint with an embedding space, of the architecture "
                f"{', '.join(able)} ({'shipped: ' + ', '.join(shipped) if shipped else 'none is shipped'}), "
                f"got {self.name} ({self._checkpoint.architecture})"
            )

    @torch.inference_mode()
    def with_labels(self, examples: Sequence[tuple[str, str, Vector | None]]) -> "TorchClassifier":
        """Return a classifier with the same network that predicts labels given by examples.

        Weights and conversation states stay the same.

        Args:
            examples: (label, words or "", acoustic features or None) of one turn each.

        Raises:
            LabelsError: the network has no embedding space, or there are fewer than two labels.
        """
        self.require_embedding_space()
        network = self._checkpoint.network
        assert isinstance(network, SentEmoContext)
        labels = tuple(dict.fromkeys(label for label, _, _ in examples))
        rows = []
        for first in range(0, len(examples), EXAMPLES_TOGETHER):
            works = [
                ClassifyTurn(i, Turn(0, 0, text), Features(voice), (), None)
                for i, (_, text, voice) in enumerate(examples[first : first + EXAMPLES_TOGETHER])
            ]
            speaker = torch.zeros(len(works), dtype=torch.long, device=self.device)
            before = network.initial_state(len(works))
            rows.append(network.embed_step(self._inputs(works), speaker, before)[0])  # (B, E)
        index = torch.tensor([labels.index(label) for label, _, _ in examples], device=self.device)
        try:
            space = fit(torch.cat(rows), index, labels)
        except ValueError as error:
            raise LabelsError(f"labels from examples: {error}") from error
        other = copy.copy(self)
        other._network, other._calibration = Relabelled(network, space).eval(), Calibration()
        other.labels = labels
        return other

    def state_to_bytes(self, state: ConversationState) -> bytes:
        """Encode a conversation state, for a snapshot that leaves this process."""
        return bytes(state_to_bytes(self._state(state)))

    def state_from_bytes(self, blob: bytes) -> ConversationState:
        """Decode a conversation state, bit for bit.

        Raises:
            CheckpointError: the bytes are not a state of this checkpoint's network.
        """
        try:
            state: ConversationState = self._network.state_from_bytes(blob)
        except ValueError as error:
            raise CheckpointError(f"checkpoint {self.name}: {error}") from error
        return state

    def _inputs(self, works: Sequence[ClassifyTurn]) -> TurnInput:
        """Build the network's input from one turn of each conversation."""
        text = torch.zeros(len(works), self._text_dim, device=self.device)
        text_mask = torch.tensor([bool(work.turn.read) for work in works])
        self.warm_up()
        encoder = self._text_encoder
        if encoder is not None and bool(text_mask.any()):
            windows = [TextWindow(w.past, w.turn.speaker, w.turn.read) for w in works if w.turn.read]
            tokens = {k: v.to(self.device) for k, v in encoder.tokenize(windows).items()}
            text[text_mask.to(self.device)] = encoder(**tokens).to(text.dtype)  # (B_text, D_text)
        audio = np.full((len(works), sum(self.audio_groups)), np.nan, dtype=np.float32)
        for row, work in zip(audio, works, strict=True):
            if work.features.acoustic is not None:
                row[:] = work.features.acoustic
        heard = torch.from_numpy(np.isfinite(audio))  # (B, D_audio)
        groups = torch.split(heard, self.audio_groups, dim=1)
        audio_mask = torch.stack([group.any(1) for group in groups], 1)  # (B, G)
        return TurnInput(text, torch.from_numpy(audio), text_mask, audio_mask).to(self.device)

    def _state(self, state: ConversationState | None) -> State:
        if state is None:
            initial: State = self._network.initial_state()
            return initial
        assert isinstance(state, State), type(state)
        return state

    def _emotion(self, probabilities: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> Emotion:
        best = int(probabilities.argmax())
        by_label = {label: float(p) for label, p in zip(self.labels, probabilities, strict=True)}
        return Emotion(self.labels[best], float(probabilities[best]), by_label)
