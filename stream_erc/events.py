"""The data that flows through a session, in flow order: audio, speech, words, features, turns, emotions.

All types are frozen. Time is in integer samples at 16 kHz since the session's audio began; milliseconds
appear only on the wire (`stream_erc.protocol.encoding`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream_erc.exceptions import VoicesError

Samples: TypeAlias = NDArray[np.float32]
"""Audio at 16 kHz in [-1, 1]: mono, shape (N,), or channels that are heard separately, (N, C)."""

Vector: TypeAlias = NDArray[np.float32]
"""A feature or speaker vector, shape (D,)."""


def unit(vector: NDArray[np.floating]) -> Vector | None:
    """Scale `vector` (D,) to length 1, read-only; return None if it is zero or not finite."""
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm < 1e-12:
        return None
    scaled = (vector / norm).astype(np.float32)
    scaled.setflags(write=False)
    return scaled


ENOUGH = 8_000
"""Samples (0.5 s) that tell something about a voice."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeechSegment:
    """A span of speech, found by VAD and endpointing or given by the client.

    Attributes:
        index: 0-based position among the session's segments.
        start, end: samples since the session's audio began, without pre-roll and trailing silence.
        samples: the audio to analyse, with pre-roll and trailing silence.
        samples_from: the position of the first of these samples.
        decided_at: the sample at which the end was decided; `decided_at - end` is the endpointing latency.
        final: False for a snapshot of a segment that is still running.
        paused: whether it is such a snapshot at the beginning of a pause. If the segment ends with this
            pause, these are the very samples of the final segment.
        channel: 0-based channel that it was found in; None in mono audio, here and in all types below.
        overlap: share of a final segment's speech in which somebody else spoke as well, 0 to 1.
        lead: the number of first samples that only the words need: in them the turn before goes on, or nobody
            speaks yet.
    """

    index: int
    start: int
    end: int
    samples: Samples
    samples_from: int
    decided_at: int
    final: bool = True
    paused: bool = False
    channel: int | None = None
    overlap: float = 0.0
    lead: int = 0

    @property
    def alone(self) -> Samples:
        """The samples in which this turn's speaker can be heard alone; all of them if these are too few."""
        enough = len(self.samples) - self.lead >= ENOUGH
        return self.samples[self.lead :] if self.lead and enough else self.samples


@dataclass(frozen=True, slots=True, eq=False)
class RunningSpeech:
    """The audio of a turn that is still running, in which it is to be told who speaks.

    Attributes:
        position: the sample at which it was asked.
        samples: the audio up to there, (N,).
        samples_from: the position of the first of these samples.
        stretch: samples [start, end) whose voice is to be measured, None if there is too little new speech.
        channel: as in `SpeechSegment`.
    """

    position: int
    samples: Samples
    samples_from: int
    stretch: tuple[int, int] | None
    channel: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SpeakerActivity:
    """The speakers in `RunningSpeech`.

    Attributes:
        samples_from, stretch: as in `RunningSpeech`.
        active: which of three local speakers, in no order, speak in each frame, bool (F, 3).
        voice: the voice vector (D,) of the stretch, None if it has none.
    """

    samples_from: int
    stretch: tuple[int, int] | None
    active: NDArray[np.bool_]
    voice: Vector | None


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its punctuation: samples [start, end), and the mean probability of its tokens."""

    text: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A recognizer's transcript of a segment.

    Attributes:
        text: the transcript, possibly empty.
        confidence: 0 to 1, None if the recognizer gives none.
        language: ISO 639-1 code, None if the recognizer does not tell.
        translation: the text in English, None if it is English or was not translated.
        words: the words of `text` with their times from the segment's first sample on, if requested.
        punctuated: whether the recognizer writes punctuation.
    """

    text: str
    confidence: float | None = None
    language: str | None = None
    translation: str | None = None
    words: tuple[Word, ...] = ()
    punctuated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Inputs of the emotion network besides the words of a turn.

    Attributes:
        acoustic: functionals in the order of the checkpoint's `FeatureSpec`, (D,), NaN for those that could
            not be measured; None if the turn has no audio.
    """

    acoustic: Vector | None


@dataclass(frozen=True, slots=True)
class GivenTurn:
    """A turn that the client knows: its speaker, text and times (samples); None for what is unknown.

    A turn without times is text only, so it needs a text.

    Attributes:
        extra: what else its file tells of it, by the names of the columns; nothing is read from it.
    """

    speaker: str | None
    text: str | None = None
    start: int | None = None
    end: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """A segment with speaker and transcript.

    Attributes:
        index: 0-based position in the session.
        speaker: 0-based index by order of appearance.
        text: the transcript, possibly empty.
        start, end: samples, None for a text-only turn.
        language, translation, words: as in `Hypothesis`, with times since the session's audio began; None
            and empty if the text was given.
        channel: as in `SpeechSegment`.
        overlap: share of the turn's speech in which somebody else spoke as well, 0 to 1.
        unsure: whether the voice told little about who spoke, such as that of a short answer.
    """

    index: int
    speaker: int
    text: str
    start: int | None = None
    end: int | None = None
    language: str | None = None
    translation: str | None = None
    words: tuple[Word, ...] = ()
    channel: int | None = None
    overlap: float = 0.0
    unsure: bool = False

    @property
    def read(self) -> str:
        """The text that the emotion is read from: English wherever there is a translation."""
        return self.translation or self.text


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
    """Time from the end of speech to the event, by stage, in milliseconds."""

    endpointing: float = 0.0
    asr: float = 0.0
    features: float = 0.0
    emotion: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class KnownVoice:
    """A person's voice, known before it is heard: the name, and the voice vector (D,) of unit length."""

    name: str
    embedding: Vector


MAX_VOICE_NAME = 100
_NUMBERED = re.compile(r"(speaker|voice)_\d+")  # the names of speakers who have none


def check_voice_name(name: str) -> None:
    """Refuse a name that a known voice cannot have.

    Raises:
        VoicesError: it is empty, too long, not printable, or one that an unnamed speaker gets.
    """
    if not name.strip() or len(name) > MAX_VOICE_NAME or not name.isprintable():
        wanted = f"a voice's name of 1 to {MAX_VOICE_NAME} printable characters"
        raise VoicesError(f"expected {wanted}, got {name!r}")
    if _NUMBERED.fullmatch(name):
        raise VoicesError(f"expected a name that no unnamed speaker gets, got {name!r}")


@dataclass(frozen=True, slots=True)
class TurnCorrection:
    """A client's correction: who really spoke a finished turn."""

    turn: int
    speaker: str


@dataclass(frozen=True, slots=True)
class SpeakerRenaming:
    """A client's new name for a speaker."""

    speaker: str
    name: str


@dataclass(frozen=True, slots=True)
class TurnEnrolment:
    """A client's name for the voice of a finished turn, which is known from then on.

    Attributes:
        keep: whether the voice is to be kept after the session; the session passes that on.
    """

    turn: int
    name: str
    keep: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ClipEnrolment:
    """A voice that a client makes known with a clip, mono audio at 16 kHz; `keep` as in `TurnEnrolment`."""

    name: str
    clip: Samples
    keep: bool = False


ClientInput: TypeAlias = GivenTurn | TurnCorrection | SpeakerRenaming | TurnEnrolment | ClipEnrolment
"""What a client submits about a conversation; ordered with its audio."""


# --- what a session reports -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at sample `start`; a turn follows."""

    start: int
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The current speech (of the channel) ended at sample `end`; its turn is being analysed."""

    end: int
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class PartialTurn:
    """A turn that is still being spoken, up to now.

    Attributes:
        index: the index that the final turn will have, unless a turn of another channel ends before it.
        speaker: the speaker's name, None while unknown.
        text: the transcript so far.
        start, end: samples.
        emotion: None until it was classified.
    """

    index: int
    speaker: str | None
    text: str
    start: int
    end: int
    emotion: Emotion | None
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class EmotionEvent:
    """A final turn: its speaker, words and expressed emotion.

    Attributes:
        speaker_name: the given name, or ``speaker_1`` ... by order of appearance.
        revision: 0 at first; each speaker correction that affects the turn adds 1.
        others: the names of those whose earlier turns go on into this one, by order of their turns.
    """

    turn: Turn
    speaker_name: str
    emotion: Emotion
    latency: Latency
    revision: int = 0
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """A turn that could not be analysed or classified; the session continues."""

    index: int
    start: int | None
    end: int | None
    message: str
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class SpeakerRenamed:
    """A speaker (by index) has a new name, in all turns."""

    speaker: int
    previous: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class VoiceEnrolled:
    """A voice is known by its name from now on.

    Attributes:
        turn: the turn that it was enrolled from, None for a clip.
        embedding: the voice vector (D,) of the turn or clip, of unit length.
        speech_s: seconds of speech in it.
        keep: whether the client asked to keep it after the session.
    """

    name: str
    turn: int | None
    embedding: Vector
    speech_s: float
    keep: bool


@dataclass(frozen=True, slots=True)
class EmotionTotals:
    """A label in the turns of a speaker.

    Attributes:
        turns, samples: the number and length of the turns that expressed it.
        probability: its mean probability in all turns of the speaker.
    """

    label: str
    turns: int
    samples: int
    probability: float


@dataclass(frozen=True, slots=True)
class EmotionShift:
    """Turns of a speaker with label `after`, where the speaker's turn before had `before`."""

    before: str
    after: str
    count: int


@dataclass(frozen=True, slots=True)
class SpeakerSummary:
    """The whole of a conversation, of one speaker.

    Attributes:
        turns, samples: the number and length of the turns that have an emotion.
        share: share of all speakers' speaking time, 0 to 1; None without audio.
        emotions: every label, in the checkpoint's order.
        shifts: the most frequent first.
        interruptions: turns that begin while somebody else speaks.
    """

    speaker: str
    turns: int
    samples: int
    share: float | None
    emotions: tuple[EmotionTotals, ...]
    shifts: tuple[EmotionShift, ...]
    interruptions: int


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The end of a session, with totals to check against, and its summary by speaker."""

    audio_samples: int
    turns: int
    failed_turns: int
    speakers: tuple[str, ...] = ()
    summary: tuple[SpeakerSummary, ...] = ()


@dataclass(frozen=True, slots=True)
class InputRejected:
    """An invalid input, which changed nothing; reported in input order.

    Attributes:
        number: the input's number in the session: 1, 2, 3 ...
    """

    number: int
    given: ClientInput
    message: str


LastingEvent: TypeAlias = EmotionEvent | TurnFailed | SpeakerRenamed | VoiceEnrolled | SessionClosed
"""Events that become part of the session; the others are momentary."""

Event: TypeAlias = SpeechStarted | SpeechStopped | PartialTurn | InputRejected | LastingEvent
