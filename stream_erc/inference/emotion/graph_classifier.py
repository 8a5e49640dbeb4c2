"""A checkpoint's graphs in ONNX Runtime, on the CPU.

Windows of text go through their encoder one by one: none is padded to the length of another, and what a turn
gives never depends on the turns that are classified with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from erc_models.formats.checkpoint_files import CheckpointProblem, build
from erc_models.formats.text_windows import TextEncoderConfig, TextWindow, WindowTokenizer
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes
from tokenizers import Tokenizer

from stream_erc.core.work import ClassifyTurn, ConversationState
from stream_erc.events import Emotion, Vector
from stream_erc.exceptions import CheckpointError, EngineUnavailable
from stream_erc.inference.acoustics import FeatureSpec
from stream_erc.inference.emotion.graph_files import Graphs
from stream_erc.inference.onnx_network import open_network

if TYPE_CHECKING:
    from stream_erc.inference.emotion.torch_classifier import TorchClassifier

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class GraphState:
    """The memory of one conversation: arrays (1, ...) by name, those of `per_speaker` (1, S, ...)."""

    arrays: Mapping[str, Array]


class GraphClassifier:
    """See `stream_erc.inference.emotion.classifier.EmotionClassifier`.

    Args:
        folder: the checkpoint.
        graphs: its graphs.

    Raises:
        CheckpointError: it is damaged.
    """

    def __init__(self, folder: Path, graphs: Graphs) -> None:
        config = graphs.config
        self._folder = folder
        self.name, self.warm = folder.resolve().name, True
        try:
            self.labels: tuple[str, ...] = tuple(config["labels"])
            self._text_dim = int(config["network"]["text_dim"])
            self._audio_groups = [int(size) for size in config["network"]["audio_groups"]]
            acoustic = dict(config["features"]).get("acoustic")
            settings = config["text_encoder"]
            self._tokens = None if settings is None else _tokenizer(graphs, settings)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder}: expected a checkpoint, got {error!r} in its config") from error
        self.acoustic_spec = FeatureSpec.from_dict(acoustic) if acoustic else None
        try:
            self._step = open_network(graphs.step, "emotion")
            self._voice = open_network(graphs.voice, "voice")
            self._encoder = None if graphs.text_encoder is None else open_network(graphs.text_encoder, "text")
        except EngineUnavailable as error:
            raise CheckpointError(str(error)) from error
        self._fed = {value.name for value in self._step.get_inputs()}
        names = [output.name for output in self._step.get_outputs()]
        self._fields = [name.removeprefix("next_") for name in names if name.startswith("next_")]
        self._wanted = ["probabilities", *(f"next_{name}" for name in self._fields)]
        self._initial, self._per_speaker = self._begin()

    def warm_up(self) -> None:
        """Do nothing: everything is loaded."""

    def classify(self, works: Sequence[ClassifyTurn]) -> list[tuple[Emotion, ConversationState]]:
        """See `EmotionClassifier.classify`."""
        heard, audio_mask = self._hear(works)
        speakers = [work.turn.speaker for work in works]
        states = [work.state if isinstance(work.state, GraphState) else self._initial for work in works]
        known = [max(self._rows(state), who + 1) for state, who in zip(states, speakers, strict=True)]
        feed = {
            "text": self._read(works),
            "heard": heard,
            "text_mask": np.array([bool(work.turn.read) for work in works]),
            "audio_mask": audio_mask,
            "speaker": np.array(speakers, dtype=np.int64),
            **{f"state_{name}": array for name, array in self._stack(states, max(known)).items()},
        }
        fed = {name: value for name, value in feed.items() if name in self._fed}
        probabilities, *after = self._step.run(self._wanted, fed)
        parts = dict(zip(self._fields, after, strict=True))
        return [
            (self._emotion(row), self._part(parts, i, count))
            for i, (row, count) in enumerate(zip(probabilities, known, strict=True))
        ]

    def state_to_bytes(self, state: ConversationState) -> bytes:
        """See `EmotionClassifier.state_to_bytes`: safetensors, the same as torch writes."""
        assert isinstance(state, GraphState), type(state)
        return tensors_to_bytes(dict(state.arrays))

    def state_from_bytes(self, blob: bytes) -> ConversationState:
        """See `EmotionClassifier.state_from_bytes`."""
        try:
            found = tensors_from_bytes(blob)
        except SafetensorError as error:
            problem = f"expected a conversation state, got {len(blob)} unreadable bytes"
            raise CheckpointError(f"checkpoint {self.name}: {problem}") from error
        expected = self._initial.arrays
        if found.keys() != expected.keys():
            problem = f"expected a state of {sorted(expected)}, got {sorted(found)}"
            raise CheckpointError(f"checkpoint {self.name}: {problem}")
        for name, like in expected.items():
            got, free = found[name], 2 if name in self._per_speaker else 1
            if got.shape[free:] != like.shape[free:] or got.dtype != like.dtype or len(got) != 1:
                problem = f"expected state {name!r} of shape {like.shape} {like.dtype}"
                raise CheckpointError(f"checkpoint {self.name}: {problem}, got {got.shape} {got.dtype}")
        return GraphState(found)

    def require_embedding_space(self) -> None:
        """See `EmotionClassifier.require_embedding_space`."""
        self._with_torch().require_embedding_space()

    def with_labels(self, examples: Sequence[tuple[str, str, Vector | None]]) -> "TorchClassifier":
        """See `EmotionClassifier.with_labels`; the classifier runs with torch."""
        return self._with_torch().with_labels(examples)

    def _with_torch(self) -> "TorchClassifier":
        from stream_erc.inference.emotion.torch_classifier import TorchClassifier

        return TorchClassifier(self._folder, "cpu")

    # --- inputs -----------------------------------------------------------------------------------

    def _read(self, works: Sequence[ClassifyTurn]) -> NDArray[np.float32]:
        """Return the text features (B, D), zeros where there are no words."""
        text = np.zeros((len(works), self._text_dim), np.float32)
        rows = [i for i, work in enumerate(works) if work.turn.read]
        if self._encoder is None or self._tokens is None or not rows:
            return text
        windows = [TextWindow(works[i].past, works[i].turn.speaker, works[i].turn.read) for i in rows]
        for i, window in zip(rows, self._tokens(windows), strict=True):
            ids = np.array([window.ids], dtype=np.int64)  # (1, T)
            target = np.zeros_like(ids)
            target[0, window.target] = 1
            (text[i],) = self._encoder.run(None, {"ids": ids, "target": target})[0]
        return text

    def _hear(self, works: Sequence[ClassifyTurn]) -> tuple[Array, NDArray[np.bool_]]:
        """Return what the network reads of acoustic features (B, V), and which groups are there (B, G)."""
        audio = np.full((len(works), sum(self._audio_groups)), np.nan, dtype=np.float32)
        for row, work in zip(audio, works, strict=True):
            if work.features.acoustic is not None:
                row[:] = work.features.acoustic
        edges = np.cumsum([0, *self._audio_groups[:-1]])
        mask = np.logical_or.reduceat(np.isfinite(audio), edges, axis=1)
        (heard,) = self._voice.run(None, {"audio": audio, "audio_mask": mask})
        return heard, mask

    # --- states -----------------------------------------------------------------------------------

    def _begin(self) -> tuple[GraphState, set[str]]:
        """Return the state of a conversation with one speaker not heard yet, and its fields by speaker."""
        shapes = {value.name: value.shape for value in self._step.get_inputs()}
        empty: dict[str, Array] = {
            name: np.zeros([size if isinstance(size, int) else 1 for size in shapes[name]], _KINDS[kind])
            for name, kind in ((value.name, value.type) for value in self._step.get_inputs())
        }
        found = self._step.run([f"initial_{name}" for name in self._fields], empty)
        arrays = dict(zip(self._fields, found, strict=True))
        per_speaker = {name for name in self._fields if SPEAKERS in shapes.get(f"state_{name}", [])}
        return GraphState(arrays), per_speaker

    def _rows(self, state: GraphState) -> int:
        """Return the number of speakers with rows in a state."""
        return max((state.arrays[name].shape[1] for name in self._per_speaker), default=0)

    def _stack(self, states: Sequence[GraphState], speakers: int) -> dict[str, Array]:
        """Return the states as one batch, each with rows for `speakers` speakers."""
        stacked = {}
        for name in self._fields:
            arrays = [state.arrays[name] for state in states]
            if name in self._per_speaker:
                fresh = self._initial.arrays[name]  # (1, 1, ...)
                arrays = [
                    array
                    if array.shape[1] == speakers
                    else np.concatenate([array, np.repeat(fresh, speakers - array.shape[1], axis=1)], axis=1)
                    for array in arrays
                ]
            stacked[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return stacked

    def _part(self, batch: Mapping[str, Array], index: int, speakers: int) -> GraphState:
        """Return the state of one conversation of a batch, with rows for `speakers` speakers."""
        return GraphState(
            {
                name: (
                    array[index : index + 1, :speakers]
                    if name in self._per_speaker
                    else array[index : index + 1]
                ).copy()
                for name, array in batch.items()
            }
        )

    def _emotion(self, probabilities: NDArray[np.float32]) -> Emotion:
        best = int(probabilities.argmax())
        by_label = {label: float(p) for label, p in zip(self.labels, probabilities, strict=True)}
        return Emotion(self.labels[best], float(probabilities[best]), by_label)


SPEAKERS = "speakers"
"""The dimension of a state, as graphs name it, that has a row for each speaker."""

_KINDS = {"tensor(float)": np.float32, "tensor(bool)": np.bool_, "tensor(int64)": np.int64}


def _tokenizer(graphs: Graphs, settings: Mapping[str, Any]) -> WindowTokenizer:
    """Open the vocabulary beside the text encoder's graph."""
    assert graphs.text_encoder is not None
    place = graphs.text_encoder.parent
    try:
        limits = build(TextEncoderConfig, settings, "text_encoder")
        vocabulary = Tokenizer.from_file(str(place / "tokenizer.json"))
    except Exception as error:  # tokenizers raises plain exceptions
        raise CheckpointProblem(f"{place}: expected a tokenizer, got {error}") from error
    vocabulary.no_truncation()
    vocabulary.no_padding()

    def split(texts: list[str]) -> list[list[int]]:
        return [found.ids for found in vocabulary.encode_batch(texts, add_special_tokens=False)]

    return WindowTokenizer(split, *_special_tokens(place, vocabulary), limits)


def _special_tokens(place: Path, vocabulary: Tokenizer) -> tuple[int, int]:
    """Return the ids of the tokens that begin a window and end a turn."""
    found = vocabulary.encode("", add_special_tokens=True).ids
    if len(found) != 2:
        raise CheckpointProblem(f"{place}: expected a tokenizer with a first and a last token, got {found}")
    return found[0], found[1]
