"""The work that a session requests of an engine, and its results.

A session emits work; a shell runs it (inline, in a thread, in another process) and hands the result back
with `Session.receive_result`. Work is a value: running it needs only the work and the weights.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from stream_erc.events import (
    Emotion,
    Features,
    Hypothesis,
    RunningSpeech,
    Samples,
    SpeakerActivity,
    SpeechSegment,
    Turn,
    Vector,
)

ConversationState: TypeAlias = object
"""The network's memory of a conversation: an immutable value, opaque outside `stream_erc.inference.emotion`.

None stands for the beginning of a conversation.
"""


@dataclass(frozen=True, slots=True, eq=False)
class AnalyzeSegment:
    """The analysis of one segment. It is stateless: segments may be analysed in parallel and in any order.

    Attributes:
        id: unique within the session.
        segment: the segment, with its audio.
        transcribe: False if the words are given.
        embed_speaker: False if the speaker is given.
        language: the spoken language, ISO 639-1; None for the recognizer's default.
        likely: the language of the turn before, where languages are detected.
        words: whether to tell the times of the words.
        awaited: whether the end of the turn depends on the words, so that segmentation waits for them.
        begun: the id of unfinished work on a pause with the very same samples, whose result will do; whoever
            ignores it computes the same.
    """

    id: int
    segment: SpeechSegment
    transcribe: bool
    embed_speaker: bool
    language: str | None = None
    likely: str | None = None
    words: bool = False
    awaited: bool = False
    begun: int | None = None

    @property
    def ahead(self) -> bool:
        """Whether nobody may need the result: speech may go on after the pause."""
        return self.segment.paused


@dataclass(frozen=True, slots=True, eq=False)
class ClassifyTurn:
    """The emotion classification of one turn, given the conversation before it.

    Attributes:
        id: unique within the session.
        turn: its speaker and words.
        features: its acoustic features.
        past: (speaker, text) of the last turns before this one, oldest first, a bounded number.
        state: the conversation state before this turn, None at the beginning.
        provisional: whether this is a partial turn, whose new state will be discarded.
        ahead: whether this is a turn that has ended unless speech goes on; nobody may need the result.
        begun: the id of unfinished work ahead with the same input, as in `AnalyzeSegment`.
    """

    id: int
    turn: Turn
    features: Features
    past: tuple[tuple[int, str], ...]
    state: ConversationState | None
    provisional: bool = False
    ahead: bool = False
    begun: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SegmentSpeakers:
    """The question who speaks in a running turn. It is stateless, and never begun ahead."""

    ahead: ClassVar[bool] = False
    begun: ClassVar[int | None] = None

    id: int
    speech: RunningSpeech


@dataclass(frozen=True, slots=True, eq=False)
class MeasureVoice:
    """The measuring of a voice in a clip, mono audio at 16 kHz. It is stateless, and never begun ahead."""

    ahead: ClassVar[bool] = False
    begun: ClassVar[int | None] = None

    id: int
    clip: Samples


Work: TypeAlias = AnalyzeSegment | SegmentSpeakers | ClassifyTurn | MeasureVoice


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """The result of `AnalyzeSegment`.

    Attributes:
        hypothesis: None if the words were given.
        speaker_embedding: None if the speaker was given or there was too little speech.
        features: acoustic features.
        asr_ms, features_ms: compute time of the stages; features include the speaker embedding.
        elapsed_ms: time from emitting the work to its result, queueing included.
    """

    hypothesis: Hypothesis | None
    speaker_embedding: Vector | None
    features: Features
    asr_ms: float = 0.0
    features_ms: float = 0.0
    elapsed_ms: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """The result of `ClassifyTurn`: the emotion, and the conversation state after the turn."""

    emotion: Emotion
    state: ConversationState
    emotion_ms: float = 0.0
    elapsed_ms: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredVoice:
    """The result of `MeasureVoice`: a voice vector (D,) of unit length, and the seconds of speech."""

    embedding: Vector
    speech_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """The result of failed work; the session reports it and continues."""

    message: str


Result: TypeAlias = Analysis | SpeakerActivity | Classification | MeasuredVoice | Failure
