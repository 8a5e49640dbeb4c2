"""Endpointing: a transition table from speech probabilities to the boundaries of speech segments.

One `step` per 32 ms window. All functions are pure: the state is a frozen dataclass of numbers and one
string, so a snapshot stores it as it is.

::

                    speech                 lasted min_speech
    SILENCE ──────────────────▶ MAYBE_SPEECH ─────────────▶ SPEECH ◀──┐
       ▲ ▲                           │  Started               │       │ speech
       │ └───────────────────────────┘                silence │       │
       │          silence: Cancelled                          ▼       │
       └───────────────────────────────────────────── MAYBE_SILENCE ──┘
                  lasted min_silence: Ended

A segment that reaches max_turn is cut at the quietest place of its last part; the next segment begins at the
cut, and neither has a sample of the other's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.config import EndpointingConfig, VadConfig
from stream_erc.core.vad import WINDOW
from stream_erc.exceptions import ConfigError, ProtocolMisuse

CUT_REGION = 5 * SAMPLE_RATE
"""Samples before max_turn in which a cut may fall: who has no pause in one second has one in five."""

MIN_MAX_TURN_MS = 1_000

TRAIL = 3 * WINDOW
"""Samples (96 ms) after the end of speech that are analysed, however long the silence is that ends it.

So the analysis can begin at the first moment of a pause that may be the end, on the final samples.
"""

SOFT = 0.03
"""The speech probability below which nobody speaks, however softly."""


class Phase(StrEnum):
    """The states of the transition table."""

    SILENCE = "silence"
    MAYBE_SPEECH = "maybe_speech"
    SPEECH = "speech"
    MAYBE_SILENCE = "maybe_silence"


class Input(StrEnum):
    """The inputs of the transition table: a window's sound, or that a candidate has lasted its minimum."""

    SPEECH = "speech"
    SILENCE = "silence"
    LASTED = "lasted"  # the candidate has lasted its minimum


class Action(StrEnum):
    """The side effect of a transition."""

    OPEN = "open"  # speech may have begun: store where
    CANCEL = "cancel"  # it did not begin
    CONFIRM = "confirm"  # it did begin
    MARK = "mark"  # speech may have ended: store where
    RESUME = "resume"  # it did not end
    CLOSE = "close"  # it did end


TRANSITIONS: Mapping[tuple[Phase, Input], tuple[Phase, Action | None]] = MappingProxyType(
    {
        (Phase.SILENCE, Input.SILENCE): (Phase.SILENCE, None),
        (Phase.SILENCE, Input.SPEECH): (Phase.MAYBE_SPEECH, Action.OPEN),
        (Phase.MAYBE_SPEECH, Input.SILENCE): (Phase.SILENCE, Action.CANCEL),
        (Phase.MAYBE_SPEECH, Input.SPEECH): (Phase.MAYBE_SPEECH, None),
        (Phase.MAYBE_SPEECH, Input.LASTED): (Phase.SPEECH, Action.CONFIRM),
        (Phase.SPEECH, Input.SILENCE): (Phase.MAYBE_SILENCE, Action.MARK),
        (Phase.SPEECH, Input.SPEECH): (Phase.SPEECH, None),
        (Phase.MAYBE_SILENCE, Input.SILENCE): (Phase.MAYBE_SILENCE, None),
        (Phase.MAYBE_SILENCE, Input.SPEECH): (Phase.SPEECH, Action.RESUME),
        (Phase.MAYBE_SILENCE, Input.LASTED): (Phase.SILENCE, Action.CLOSE),
    }
)
"""(phase, input) -> (next phase, action). Only candidates, MAYBE_..., have a transition for LASTED."""

SOUNDING = frozenset({Phase.MAYBE_SPEECH, Phase.SPEECH})
"""The phases whose last window was speech: the lower threshold, `release`, applies in them."""


@dataclass(frozen=True, slots=True)
class Started:
    """Speech began at sample `start`; reported once it has lasted min_speech."""

    start: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The speech of [start, end) is over.

    Attributes:
        start, end: samples, without pre-roll and trailing silence.
        decided_at: the sample at which the end was decided.
        heard_to: the end of the audio to analyse.
        earliest, latest: samples [earliest, latest) without a gap in what may be speech, if soft.
    """

    start: int
    end: int
    decided_at: int
    heard_to: int
    earliest: int
    latest: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The candidate that began at `start` was too short for speech; it had no `Started`."""

    start: int


Boundary: TypeAlias = Started | Ended | Cancelled


@dataclass(frozen=True, slots=True)
class EndpointState:
    """The endpointing state of one stream; all times in samples since its audio began.

    Attributes:
        phase: the state of the transition table.
        position: samples consumed.
        start: start of the open segment or candidate; meaningless in SILENCE.
        end: end of its speech, if it has ended; meaningful only in MAYBE_SILENCE.
        needed: the silence that ends the segment, 0 while nothing but the configuration says so.
        soft_from: start of the run of windows that may be speech, if soft; `position` if there is none.
        earliest, latest: bounds of what may be speech without a gap before `start` and after `end`.
    """

    phase: Phase = Phase.SILENCE
    position: int = 0
    start: int = 0
    end: int = 0
    needed: int = 0
    soft_from: int = 0
    earliest: int = 0
    latest: int = 0


def validate(vad: VadConfig, endpointing: EndpointingConfig) -> None:
    """Check that the settings are consistent.

    Raises:
        ConfigError: naming the key, what was expected and what it got.
    """
    if not 0 < vad.threshold <= 1:
        raise ConfigError(f"vad.threshold: expected more than 0 and at most 1, got {vad.threshold}")
    if not 0 < vad.release <= vad.threshold:
        raise ConfigError(
            f"vad.release: expected more than 0 and at most the threshold {vad.threshold}, got {vad.release}"
        )
    least_silences = (("short_silence_ms", 1), ("long_silence_ms", 1))
    for key, lowest in (("pre_roll_ms", 0), ("min_speech_ms", 1), ("min_silence_ms", 1), *least_silences):
        value = getattr(endpointing, key)
        if value < lowest:
            raise ConfigError(f"endpointing.{key}: expected {lowest} or more, got {value}")
    least = max(MIN_MAX_TURN_MS, 2 * endpointing.min_speech_ms)
    if endpointing.max_turn_ms < least:
        raise ConfigError(
            f"endpointing.max_turn_ms: expected {least} or more (1 s and twice min_speech_ms), "
            f"got {endpointing.max_turn_ms}"
        )


def step(
    state: EndpointState,
    probability: float,
    vad: VadConfig,
    endpointing: EndpointingConfig,
    quietest: Callable[[int, int], int],
) -> tuple[EndpointState, tuple[Boundary, ...]]:
    """Process the next window.

    Args:
        state: the state returned by the previous step.
        probability: the speech probability of the 512 samples from `state.position` on.
        vad: the thresholds, checked by `validate`.
        endpointing: the durations, checked by `validate`.
        quietest: returns the quietest sample of [start, end), where an overlong segment is cut.

    Returns:
        The state after the window, and the boundaries that it revealed, in order.
    """
    threshold = vad.release if state.phase in SOUNDING else vad.threshold
    given = Input.SPEECH if probability >= threshold else Input.SILENCE
    state, boundaries = _transition(_after(state, probability >= SOFT), given)
    if _has_lasted(state, endpointing):
        state, more = _transition(state, Input.LASTED)
        boundaries += more
    if _is_overlong(state, endpointing):
        state, more = _cut(state, endpointing, quietest)
        boundaries += more
    return state, boundaries


def begins_pause(state: EndpointState) -> bool:
    """Return whether `TRAIL` has just passed since speech stopped, which may be the end of the segment."""
    return state.phase == Phase.MAYBE_SILENCE and state.position - state.end == TRAIL


def awaits_words(state: EndpointState, endpointing: EndpointingConfig) -> bool:
    """Return whether the next window may end the segment, or not, depending on its words."""
    shortest = ms_to_samples(min(endpointing.short_silence_ms, endpointing.min_silence_ms))
    return is_undecided(state, endpointing) and state.position - state.end >= shortest


def is_undecided(state: EndpointState, endpointing: EndpointingConfig) -> bool:
    """Return whether the words of a pause that has begun have yet to say how long it must be."""
    pausing = state.phase == Phase.MAYBE_SILENCE and state.position - state.end >= TRAIL
    return endpointing.adaptive and pausing and not state.needed


def shortest_silence(endpointing: EndpointingConfig) -> int:
    """Return the silence that may end a segment, at least, in samples."""
    usual = endpointing.min_silence_ms
    return ms_to_samples(min(usual, endpointing.short_silence_ms) if endpointing.adaptive else usual)


def divide(state: EndpointState, start: int) -> EndpointState:
    """Return the state of a running segment whose part before `start` has been told apart.

    How long a pause must be that has begun is decided anew, by the words of the rest.
    """
    return replace(state, start=start, earliest=start, needed=0)


def decide(
    state: EndpointState, silence: int, endpointing: EndpointingConfig
) -> tuple[EndpointState, tuple[Boundary, ...]]:
    """Say how much silence ends the segment; it ends now if that has passed.

    Args:
        state: the state in a pause.
        silence: samples.
        endpointing: as for `step`.
    """
    state = replace(state, needed=silence)
    return _transition(state, Input.LASTED) if _has_lasted(state, endpointing) else (state, ())


def finish(
    state: EndpointState, at_sample: int, endpointing: EndpointingConfig
) -> tuple[EndpointState, tuple[Boundary, ...]]:
    """End the stream: an open segment ends, a candidate is confirmed or cancelled.

    Args:
        state: the state returned by the last step.
        at_sample: the length of the audio, up to 511 samples more than the steps processed. These samples
            count as a continuation of the last phase.
        endpointing: as for `step`.

    Raises:
        ProtocolMisuse: an `at_sample` before `state.position`, or a whole window or more after it.
    """
    if not state.position <= at_sample < state.position + WINDOW:
        raise ProtocolMisuse(
            f"expected the end of audio less than a window after sample {state.position}, got {at_sample}"
        )
    state = replace(state, position=at_sample)
    boundaries: tuple[Boundary, ...] = ()
    if _has_lasted(state, endpointing):
        state, boundaries = _transition(state, Input.LASTED)
    if state.phase in SOUNDING:  # cancels a candidate, or stores a segment's end
        state, more = _transition(replace(state, position=at_sample + WINDOW), Input.SILENCE)
        state, boundaries = replace(state, position=at_sample), boundaries + more
    if state.phase == Phase.MAYBE_SILENCE:
        state, more = _transition(state, Input.LASTED)
        boundaries += more
    return state, boundaries


def _after(state: EndpointState, soft: bool) -> EndpointState:
    """Return the state with one window more, which may be speech, if `soft`, or is none."""
    before, position = state.position, state.position + WINDOW
    if not soft:
        return replace(state, position=position, soft_from=position)
    goes_on = state.phase == Phase.MAYBE_SILENCE and state.latest == before
    return replace(state, position=position, latest=position if goes_on else state.latest)


def _transition(state: EndpointState, given: Input) -> tuple[EndpointState, tuple[Boundary, ...]]:
    """Look up the transition and perform its action; `state.position` is the end of the window."""
    phase, action = TRANSITIONS[state.phase, given]
    before = state.position - WINDOW
    state = replace(state, phase=phase)
    match action:
        case Action.OPEN:
            return replace(state, start=before, earliest=min(state.soft_from, before)), ()
        case Action.CANCEL:
            return state, (Cancelled(state.start),)
        case Action.CONFIRM:
            return state, (Started(state.start),)
        case Action.MARK:
            latest = state.position if state.soft_from < state.position else before
            return replace(state, end=before, latest=latest, needed=0), ()
        case Action.CLOSE:
            heard_to = min(state.end + TRAIL, state.position)
            bounds = (state.earliest, min(state.latest, heard_to))
            return state, (Ended(state.start, state.end, state.position, heard_to, *bounds),)
        case Action.RESUME | None:
            return state, ()


def _has_lasted(state: EndpointState, endpointing: EndpointingConfig) -> bool:
    if state.phase == Phase.MAYBE_SPEECH:
        return state.position - state.start >= ms_to_samples(endpointing.min_speech_ms)
    if state.phase == Phase.MAYBE_SILENCE:
        needed = state.needed or ms_to_samples(endpointing.min_silence_ms)
        return not is_undecided(state, endpointing) and state.position - state.end >= needed
    return False


def _is_overlong(state: EndpointState, endpointing: EndpointingConfig) -> bool:
    """Return whether one more window would make the segment longer than max_turn."""
    longest = ms_to_samples(endpointing.max_turn_ms)
    return state.phase != Phase.SILENCE and state.position + WINDOW - state.start > longest


def _cut(
    state: EndpointState, endpointing: EndpointingConfig, quietest: Callable[[int, int], int]
) -> tuple[EndpointState, tuple[Boundary, ...]]:
    """Cut a segment that has reached max_turn; the next segment begins at the cut."""
    if state.phase == Phase.MAYBE_SILENCE:  # it has ended already
        return _transition(state, Input.LASTED)
    longest = ms_to_samples(endpointing.max_turn_ms)
    cut = quietest(state.position - min(CUT_REGION, longest // 2), state.position)
    ended = Ended(state.start, cut, state.position, cut, state.earliest, cut)
    return divide(state, cut), (ended, Started(cut))
