"""The classifier that an engine asks. It holds weights only: the memory of a conversation comes and goes."""

from collections.abc import Sequence
from typing import Protocol

from stream_erc.core.work import ClassifyTurn, ConversationState
from stream_erc.events import Emotion, Vector
from stream_erc.inference.acoustics import FeatureSpec


class EmotionClassifier(Protocol):
    """A checkpoint's text encoder and conversation network.

    Attributes:
        name: the checkpoint's name.
        labels: its emotions.
        acoustic_spec: the acoustic features that it reads, None if none.
        warm: whether everything is loaded; `warm_up` loads the rest.
    """

    name: str
    labels: tuple[str, ...]
    acoustic_spec: FeatureSpec | None
    warm: bool

    def warm_up(self) -> None:
        """Load what was left for later.

        Raises:
            CheckpointError: it is damaged.
        """

    def classify(self, works: Sequence[ClassifyTurn]) -> list[tuple[Emotion, ConversationState]]:
        """Classify one turn of each of B conversations, in one batch.

        Returns:
            The emotion of each turn, and the conversation state after it.
        """

    def state_to_bytes(self, state: ConversationState) -> bytes:
        """Encode a conversation state, for a snapshot that leaves this process."""

    def state_from_bytes(self, blob: bytes) -> ConversationState:
        """Decode a conversation state, bit for bit.

        Raises:
            CheckpointError: the bytes are not a state of this checkpoint's network.
        """

    def require_embedding_space(self) -> None:
        """Refuse a network that cannot predict labels given by examples.

        Raises:
            LabelsError: it has no embedding space; the message names the checkpoints that have one.
        """

    def with_labels(self, examples: Sequence[tuple[str, str, Vector | None]]) -> "EmotionClassifier":
        """Return a classifier with the same network that predicts labels given by examples.

        Args:
            examples: (label, words or "", acoustic features or None) of one turn each.

        Raises:
            LabelsError: the network has no embedding space, or there are fewer than two labels.
        """
