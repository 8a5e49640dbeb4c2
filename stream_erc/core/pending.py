"""Turns under way: found and not yet classified, and work that was begun before they ended."""

from dataclasses import dataclass

from stream_erc.audio import SAMPLE_RATE
from stream_erc.core.conversation import AnalyzedTurn, Conversation, IdentifiedTurn
from stream_erc.core.work import Analysis, AnalyzeSegment, Classification, ClassifyTurn, Failure
from stream_erc.events import GivenTurn, SpeechSegment


@dataclass(slots=True, eq=False)
class AheadWork:
    """Work that was begun when a pause began, in case it ends the turn.

    Attributes:
        work: the analysis of the turn.
        analysis: its result, None until it is there.
        guess: the turn with its speaker.
        classify, classification: the same for its emotion.
        waiting: whether it waits for the language of the turn before.
        decided_at: the sample at which the end was decided.
        ended: whether the turn has ended with this pause.
    """

    work: AnalyzeSegment
    analysis: Analysis | None = None
    guess: IdentifiedTurn | None = None
    classify: ClassifyTurn | None = None
    classification: Classification | None = None
    waiting: bool = False
    decided_at: int = 0
    ended: bool = False

    def late_ms(self, elapsed_ms: float) -> float:
        """Return how long after the end was decided the result of work came that took `elapsed_ms`."""
        head_start_ms = (self.decided_at - self.work.segment.decided_at) * 1000 / SAMPLE_RATE
        return max(0.0, elapsed_ms - head_start_ms)

    def matches(self, segment: SpeechSegment) -> bool:
        """Return whether the final `segment` has the same samples."""
        paused = self.work.segment
        return (paused.samples_from, len(paused.samples)) == (segment.samples_from, len(segment.samples))


@dataclass(slots=True, eq=False)
class PendingTurn:
    """A turn that was found, perhaps analysed, but not yet classified.

    Attributes:
        waiting: the analysis that waits for the language of the turn before, None if none does.
    """

    segment: SpeechSegment | None
    given: GivenTurn
    analysis: Analysis | Failure | None = None
    waiting: AnalyzeSegment | None = None

    @property
    def channel(self) -> int | None:
        """The channel in which it was found."""
        return self.segment.channel if self.segment else None


def same_input(work: ClassifyTurn, analyzed: AnalyzedTurn, now: Conversation) -> bool:
    """Return whether `work` classifies this turn in this conversation."""
    return (
        (work.turn.speaker, work.turn.read) == (analyzed.turn.speaker, analyzed.turn.read)
        and work.features is analyzed.features
        and work.past == now.past
        and work.state is now.state
    )
