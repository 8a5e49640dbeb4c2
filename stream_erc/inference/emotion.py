"""Turns -> emotions: a checkpoint's networks, run in batches. The only importer of `erc_models`.

The classifier holds only weights: the memory of a conversation is passed in with each turn and returned as a
new value. On a GPU, its tensors stay on the GPU; only probabilities are copied back.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from erc_models.networks import checkpoint as checkpoints
from erc_models.networks.calibration import Calibration
from erc_models.networks.prototypes import fit
from erc_models.networks.sentemocontext import Relabelled, SentEmoContext
from erc_models.networks.streaming import State, TurnInput, state_to_bytes, step_each
from erc_models.networks.text_encoder import TextWindow

from stream_erc.core.work import ClassifyTurn, ConversationState
from stream_erc.events import Emotion, Features, Turn, Vector
from stream_erc.exceptions import CheckpointError, DeviceError, LabelsError
from stream_erc.inference.acoustics import FeatureSpec

EXAMPLES_TOGETHER = 64
"""Batch size for the examples of labels."""


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A shipped checkpoint as listed by ``stream-erc models``."""

    name: str
    architecture: str
    labels: tuple[str, ...]
    summary: str
    folder: Path


def shipped_models() -> list[ShippedModel]:
    """Return the checkpoints that ship with the package."""
    found = []
    for name, folder in checkpoints.available().items():
        try:
            config = checkpoints.read_config(folder)
        except checkpoints.CheckpointProblem as problem:
            raise CheckpointError(str(problem)) from problem
        about = config.get("about", {})
        summary = str(about.get("summary", ""))
        found.append(ShippedModel(name, config["architecture"], tuple(config["labels"]), summary, folder))
    return found


def compute_devices() -> list[str]:
    """Return descriptions of the devices that networks can run on: the CPU and each CUDA device."""
    gpus = range(torch.cuda.device_count())
    return [f"cpu ({torch.get_num_threads()} threads)"] + [
        f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in gpus
    ]


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is the GPU if there is one.

    Raises:
        DeviceError: CUDA was requested, but is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError("expected a CUDA device (--device cuda), found none: use --device cpu or auto")
    return torch.device(name)


class EmotionClassifier:
    """A checkpoint's text encoder and conversation network.

    Args:
        model: the name of a shipped checkpoint, or a folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        warm: whether to load the text encoder now; otherwise `warm_up` does.

    Raises:
        CheckpointError: no such checkpoint, or it is damaged.
        DeviceError: no such device.
    """

    def __init__(self, model: str | Path, device: str = "auto", *, warm: bool = True) -> None:
        self.device = resolve_device(device)
        try:
            self._folder = checkpoints.resolve(model)
            self._checkpoint = checkpoints.load(self._folder, self.device, text_encoder=warm)
        except checkpoints.CheckpointProblem as problem:
            raise CheckpointError(str(problem)) from problem
        self._text_encoder, self.warm = self._checkpoint.text_encoder, warm
        self._network = self._checkpoint.network
        self._calibration = self._checkpoint.calibration
        self._text_dim: int = self._checkpoint.network.config.text_dim
        self._audio_groups: list[int] = list(self._checkpoint.network.config.audio_groups)
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
        except checkpoints.CheckpointProblem as problem:
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
    def with_labels(self, examples: Sequence[tuple[str, str, Vector | None]]) -> "EmotionClassifier":
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
            text[text_mask.to(self.device)] = encoder(**tokens)  # (B_text, D_text)
        audio = np.full((len(works), sum(self._audio_groups)), np.nan, dtype=np.float32)
        for row, work in zip(audio, works, strict=True):
            if work.features.acoustic is not None:
                row[:] = work.features.acoustic
        heard = torch.from_numpy(np.isfinite(audio))  # (B, D_audio)
        groups = torch.split(heard, self._audio_groups, dim=1)
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
