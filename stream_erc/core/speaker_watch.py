"""The watch over who holds the running turn: what was asked, what was answered, and when it takes effect.

While somebody speaks, the audio of the running turn is handed out every `HOP` samples, and when a pause
begins. Answers may come in any order and at any time before they are due: each takes effect `LAG` samples
after its question, so the outcome depends on the audio alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from stream_erc.core.speaker_change import (
    LAST_WORD,
    LONGEST,
    SHORTEST,
    STRETCH,
    TAKEOVER,
    Change,
    Speaking,
    Stretch,
    find_other_voice,
    find_takeover,
)
from stream_erc.core.vad import WINDOW
from stream_erc.events import RunningSpeech, Samples, SpeakerActivity

SPACING = 7 * WINDOW
"""Samples (224 ms) between the ends of two stretches at least."""

DEAD_TIME = 10 * WINDOW
"""Samples (320 ms) at the start of a turn in which the voice does not change again."""

SEARCH = 12 * WINDOW
"""Samples (384 ms) around a change of voice in which the quietest window is where the turn is cut."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request to tell who speaks.

    Attributes:
        position: the sample at which it was asked.
        end: the end of the speech there.
        paused: whether a pause had begun.
    """

    position: int
    end: int
    paused: bool


@dataclass(frozen=True, slots=True, eq=False)
class WatchState:
    """The state that a watch resumes from: questions without an effect yet, and the voice so far."""

    questions: tuple[Question, ...] = ()
    stretches: tuple[Stretch, ...] = ()


@dataclass(slots=True, eq=False)
class SpeakerWatch:
    """Watches the running turn of one stream.

    Args:
        lag: samples from a question until its answer takes effect.
        state: the state to resume from.
    """

    lag: int
    state: WatchState = field(default_factory=WatchState)
    _answers: dict[int, SpeakerActivity] = field(default_factory=dict)
    _speaking: Speaking | None = None

    def ask(
        self, question: Question, start: int, cut: Callable[[int, int], Samples]
    ) -> tuple[RunningSpeech, ...]:
        """Return the audio of the running turn, in which it is to be told who speaks.

        Args:
            question: asked now.
            start: the first sample of the turn's audio.
            cut: returns the audio of [start, end).
        """
        if question.position - start < SHORTEST:
            return ()
        if question not in self.state.questions:
            self.state = replace(self.state, questions=(*self.state.questions, question))
        samples = cut(max(start, question.position - LONGEST), question.position)
        last = self.state.stretches[-1].end if self.state.stretches else 0
        from_ = question.end - STRETCH
        enough = from_ >= start and question.end >= last + SPACING
        stretch = (from_, question.end) if enough else None
        return (RunningSpeech(question.position, samples, question.position - len(samples), stretch),)

    def answer(self, position: int, activity: SpeakerActivity) -> None:
        """Receive the answer to the question at `position`; ignored if it is not asked any more."""
        if any(question.position == position for question in self.state.questions):
            self._answers[position] = activity

    def awaits(self, position: int) -> bool:
        """Return whether an answer that is due at `position` is missing."""
        due = (q for q in self.state.questions if q.position + self.lag <= position)
        return any(question.position not in self._answers for question in due)

    @property
    def asking(self) -> bool:
        """Whether any answer is missing."""
        return any(question.position not in self._answers for question in self.state.questions)

    def take(self, position: int) -> Question | None:
        """Let the next answer that is due at `position` take effect; return its question, None if none is."""
        questions = self.state.questions
        if not questions or questions[0].position + self.lag > position:
            return None
        question, *rest = questions
        activity = self._answers.pop(question.position, None)
        self.state = replace(self.state, questions=tuple(rest))
        if activity is not None:
            self._speaking = Speaking(activity.samples_from, activity.active)
            if activity.voice is not None and activity.stretch is not None:
                stretch = Stretch(*activity.stretch, activity.voice)
                self.state = replace(self.state, stretches=(*self.state.stretches, stretch))
        return question

    def change(self, start: int, end: int, last: bool, quietest: Callable[[int, int], int]) -> Change | None:
        """Return the first change of speaker in the turn [start, end), None if there is none.

        Args:
            start: the beginning of the turn.
            end: the end of its speech so far.
            last: whether the turn may end here.
            quietest: returns the quietest sample of [start, end).
        """
        if self._speaking is not None:
            found = find_takeover(self._speaking, start, end, LAST_WORD if last else TAKEOVER)
            if found is not None and found.end > start and found.start > start + WINDOW:
                return Change(min(found.end, end), found.start)
        voiced = [stretch for stretch in self.state.stretches if stretch.start >= start - STRETCH // 5]
        near = find_other_voice(voiced)
        if near is not None:
            cut = quietest(max(start, near - SEARCH), min(end, near + SEARCH))
            if start + DEAD_TIME < cut < end:
                return Change(cut, cut)
        return None

    def begin(self, start: int) -> None:
        """Forget what was heard before a turn that begins at `start`."""
        kept = tuple(stretch for stretch in self.state.stretches if stretch.start >= start - STRETCH // 5)
        self.state = replace(self.state, stretches=kept)

    def overlap(self, start: int, end: int) -> float:
        """Return the share of the turn [start, end) in which more than one person spoke."""
        return 0.0 if self._speaking is None else self._speaking.overlap(start, end)

    def extend(self, start: int, end: int, earliest: int, latest: int) -> tuple[int, int]:
        """Return the turn [start, end) with the soft speech at its edges; see `Speaking.extend`."""
        return (start, end) if self._speaking is None else self._speaking.extend(start, end, earliest, latest)

    def stop(self) -> None:
        """Forget all questions and what was heard: the speech is over."""
        self.state, self._speaking = WatchState(), None
        self._answers.clear()
