"""What is said of a conversation from outside, in line with its audio."""

import sys
from collections import deque
from dataclasses import dataclass

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.core.audio_input import AudioInput
from stream_erc.events import ClientInput, GivenTurn

APPENDED_AUDIO_MS = 30_000
"""How far back into the audio an appended turn may reach."""

MAX_QUEUED_INPUTS = 64
"""How much that was said may wait for what was said before."""

TAKES_NO_TURNS = "expected no appended turns in a session that finds its turns in audio, got one"


@dataclass(frozen=True, slots=True)
class QueuedInput:
    """What was said, after how many samples, and why it cannot be used, if so."""

    given: ClientInput
    at: int
    problem: str | None


class InputQueue:
    """Waits for its place: what was said takes effect after all that was heard and said before.

    Args:
        audio: of the same session.
    """

    def __init__(self, audio: AudioInput) -> None:
        self._audio = audio
        self._waiting: deque[QueuedInput] = deque()

    def __len__(self) -> int:
        """How much waits."""
        return len(self._waiting)

    @property
    def input_queue_full(self) -> bool:
        """Whether so much waits, and not for audio, that more should wait outside."""
        return len(self._waiting) > MAX_QUEUED_INPUTS and not self._audio.awaited

    @property
    def before(self) -> int | None:
        """Where the audio ends that has to be heard before the next one takes effect."""
        return self._waiting[0].at if self._waiting else None

    def add(self, given: ClientInput) -> None:
        """Line up what was said now."""
        problem = self.problem(given) if isinstance(given, GivenTurn) else None
        self._waiting.append(QueuedInput(given, self._audio.received, problem))
        self._hold_audio()

    def take(self) -> QueuedInput | None:
        """The next one, if the audio before it was heard."""
        if not self._waiting or not self._audio.reached(self._waiting[0].at):
            return None
        taken = self._waiting.popleft()
        self._hold_audio()
        return taken

    def problem(self, turn: GivenTurn) -> str | None:
        """Why an appended turn cannot be used, if so."""
        if not self._audio.takes_turns:
            return TAKES_NO_TURNS
        start, end = (None if at is None else at / SAMPLE_RATE for at in (turn.start, turn.end))
        if (start is None) != (end is None) or (start or 0.0) >= (end or 1.0):
            return f"expected a span that begins before it ends, got {_seconds(start)} to {_seconds(end)}"
        if start is None and not (turn.text and turn.text.strip()):
            return f"expected a turn with a text or a span of audio, got the text {turn.text!r}"
        if start is not None and self._audio.silent:
            return "expected a text without a span in a session without audio, got a span"
        reach = (self._audio.received - ms_to_samples(APPENDED_AUDIO_MS)) / SAMPLE_RATE
        if start is not None and start < reach:
            return f"expected a turn from {_seconds(reach)} on, got one from {_seconds(start)} on"
        return None

    def _hold_audio(self) -> None:
        """Have the audio held that turns which wait will need."""
        turns = [waiting.given for waiting in self._waiting if isinstance(waiting.given, GivenTurn)]
        starts = [turn.start for turn in turns if turn.start is not None]
        self._audio.hold_from(min(starts, default=sys.maxsize))


def _seconds(at: float | None) -> str:
    return "nothing" if at is None else f"{at:.3f} s"
