"""Everything that flows, in flow order: audio, speech, words, features, turns, emotions.

All of it is frozen. Time is in integer samples at 16 kHz since the session's audio began; milliseconds
appear only on the wire (`stream_erc.protocol.encoding`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
"""Mono audio at 16 kHz in [-1, 1], shape (N,)."""

Vector: TypeAlias = NDArray[np.float32]
"""A feature or speaker vector, shape (D,)."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeechSegment:
    """A span of speech found by VAD and endpointing, or given.

    Attributes:
        index: 0-based position among the session's segments.
        start, end: samples since the session's audio began; speech only, pre-roll excluded.
        samples: the audio to analyse, pre-roll and trailing silence included.
        decided_at: the sample at which its end was known; `decided_at - end` is the endpointing latency.
        final: False for a snapshot of a segment that still goes on.
    """

    index: int
    start: int
    end: int
    samples: Samples
    decided_at: int
    final: bool = True


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a recognizer heard; partial until final.

    Attributes:
        text: the transcript, possibly empty.
        confidence: 0 to 1 where the engine gives one.
    """

    text: str
    confidence: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the network hears of one turn besides its words.

    Attributes:
        acoustic: functionals in the order of the checkpoint's `FeatureSpec`, (D,), NaN where one could not be
            measured; None where the turn has no audio.
    """

    acoustic: Vector | None


@dataclass(frozen=True, slots=True)
class GivenTurn:
    """What is known of a turn beforehand: who, when, what; None where unknown.

    A turn without times is a text-only turn and needs a text.
    """

    speaker: str | None
    text: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A segment with speaker and transcript.

    Attributes:
        index: 0-based position in the session.
        speaker: 0-based index by order of appearance.
        text: the transcript, empty where there is none.
        start, end: samples, None for a text-only turn.
    """

    index: int
    speaker: int
    text: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Emotion:
    """The expressed emotion of one turn.

    Attributes:
        label: the most probable label.
        confidence: its probability.
        probabilities: label -> probability, in the checkpoint's order; they sum to 1.
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time between the end of speech and the event went, in milliseconds."""

    endpointing: float = 0.0
    asr: float = 0.0
    features: float = 0.0
    emotion: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class TurnCorrection:
    """Somebody outside says who really spoke a finished turn."""

    turn: int
    speaker: str


@dataclass(frozen=True, slots=True)
class SpeakerRenaming:
    """Somebody outside gives a speaker another name."""

    speaker: str
    name: str


ClientInput: TypeAlias = GivenTurn | TurnCorrection | SpeakerRenaming
"""What is said of a conversation from outside, in line with its audio."""


# --- what a session reports -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at `start`; a turn follows."""

    start: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The speech that began last ended at `end`; its turn is being understood."""

    end: int


@dataclass(frozen=True, slots=True)
class PartialTurn:
    """A turn that is still being spoken: what has been heard of it so far.

    Attributes:
        turn: its index will be that of the final turn; speaker None while unknown.
    """

    index: int
    speaker: str | None
    text: str
    start: int
    end: int
    emotion: Emotion | None


@dataclass(frozen=True, slots=True)
class EmotionEvent:
    """A final turn: who spoke, what was said, which emotion it expressed.

    Attributes:
        speaker_name: the given name, or ``speaker_1`` ... by order of appearance.
        revision: 0 at first, counted up when a speaker correction changed this turn.
    """

    turn: Turn
    speaker_name: str
    emotion: Emotion
    latency: Latency
    revision: int = 0


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """A turn that could not be analysed or classified; the session goes on."""

    index: int
    start: int | None
    end: int | None
    message: str


@dataclass(frozen=True, slots=True)
class SpeakerRenamed:
    """The speaker of an index goes by another name, in all turns."""

    speaker: int
    previous: str
    name: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The end of a session, with totals that both sides can reconcile."""

    audio_samples: int
    turns: int
    failed_turns: int
    speakers: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class InputRejected:
    """What was said from outside cannot be used, and has changed nothing.

    Attributes:
        number: 1, 2, 3 ... over all that was said in the session.
    """

    number: int
    given: ClientInput
    message: str


LastingEvent: TypeAlias = EmotionEvent | TurnFailed | SpeakerRenamed | SessionClosed
"""What becomes part of the session; the others are of the moment."""

Event: TypeAlias = SpeechStarted | SpeechStopped | PartialTurn | InputRejected | LastingEvent
