"""What a session asks of an engine, and what comes back.

A session emits work, a shell has it run (inline, in a thread, in another process), and hands the result
back with `Session.receive_result`. Work is a value: whoever runs it needs nothing but the work and the
weights.
"""

from dataclasses import dataclass
from typing import TypeAlias

from stream_erc.events import Emotion, Features, Hypothesis, SpeechSegment, Turn, Vector

ConversationState: TypeAlias = object
"""The network's memory of a conversation: an immutable value that only `stream_erc.inference.emotion` looks
into.

None stands for the beginning of a conversation.
"""


@dataclass(frozen=True, slots=True, eq=False)
class AnalyzeSegment:
    """Hear one segment. Stateless: may run in parallel and come back in any order.

    Attributes:
        id: unique within the session.
        segment: its audio.
        transcribe: False where the words are given.
        embed_speaker: False where the speaker is given.
        language: of the words, ISO 639-1; None for the recognizer's own.
    """

    id: int
    segment: SpeechSegment
    transcribe: bool
    embed_speaker: bool
    language: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ClassifyTurn:
    """Read the emotion of one turn, given the conversation up to it.

    Attributes:
        id: unique within the session.
        turn: who speaks and what was said.
        features: what else was heard.
        past: (speaker, text) of the turns before this one, oldest first, a bounded number.
        state: the conversation state before this turn, None at the beginning.
        provisional: the returned state will be thrown away.
    """

    id: int
    turn: Turn
    features: Features
    past: tuple[tuple[int, str], ...]
    state: ConversationState | None
    provisional: bool = False


Work: TypeAlias = AnalyzeSegment | ClassifyTurn


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """The answer to `AnalyzeSegment`.

    Attributes:
        hypothesis: None where the words were given.
        speaker_embedding: None where the speaker was given or there was too little voice.
        features: acoustic features.
        asr_ms, features_ms: compute time of the stages; speaker embedding counts as features.
        elapsed_ms: from handing the work over to its end, waiting included.
    """

    hypothesis: Hypothesis | None
    speaker_embedding: Vector | None
    features: Features
    asr_ms: float = 0.0
    features_ms: float = 0.0
    elapsed_ms: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """The answer to `ClassifyTurn`: the emotion, and the conversation state after the turn."""

    emotion: Emotion
    state: ConversationState
    emotion_ms: float = 0.0
    elapsed_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Work that could not be done; the session reports it and goes on."""

    message: str


Result: TypeAlias = Analysis | Classification | Failure
