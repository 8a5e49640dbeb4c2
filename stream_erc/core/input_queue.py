"""The queue of a client's inputs (turns, corrections, names), ordered with the audio."""

import sys
from collections import deque
from dataclasses import dataclass

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.core.audio_input import AudioInput
from stream_erc.events import ClientInput, ClipEnrolment, GivenTurn

APPENDED_AUDIO_MS = 30_000
"""How far back into the received audio an appended turn may begin."""

MAX_TURN_MS = 120_000
"""The longest span of an appended turn, and how far it may begin before the end of a turn appended earlier.

So a queued turn has at most so much audio kept for it, besides `APPENDED_AUDIO_MS`: 7.7 MB.
"""

MAX_QUEUED_INPUTS, MAX_QUEUED_BYTES = 64, 2 * 2**20
"""Inputs, and their bytes, that may wait in the queue before the caller should stop submitting."""

INPUT_BYTES = 1_024
"""Bytes of an input with names of 100 characters, besides the text of a turn and the samples of a clip."""

TAKES_NO_TURNS = "expected no appended turns in a session that finds its turns in audio, got one"


@dataclass(frozen=True, slots=True)
class QueuedInput:
    """An input, the number of samples received before it, and why it is invalid (None if valid)."""

    given: ClientInput
    at: int
    problem: str | None


class InputQueue:
    """Inputs that wait until all earlier audio and inputs have been processed.

    Args:
        audio: the same session's audio.

    Attributes:
        bytes: the size of the queued inputs. The caller bounds it (see `input_queue_full`).
    """

    def __init__(self, audio: AudioInput) -> None:
        self._audio = audio
        self._waiting: deque[QueuedInput] = deque()
        self.bytes = 0
        self._latest_end = 0  # of the appended turns that were valid

    def __len__(self) -> int:
        """Return the number of queued inputs."""
        return len(self._waiting)

    @property
    def input_queue_full(self) -> bool:
        """Whether the caller should stop submitting inputs until queued ones are processed.

        Inputs that wait for audio do not count, since more audio has to come first.
        """
        full = len(self._waiting) > MAX_QUEUED_INPUTS or self.bytes > MAX_QUEUED_BYTES
        return full and not self._audio.turn_awaits_audio

    @property
    def next_position(self) -> int | None:
        """The audio position at which the next input takes effect, None if the queue is empty."""
        return self._waiting[0].at if self._waiting else None

    def add(self, given: ClientInput, problem: str | None = None) -> None:
        """Queue an input behind the audio received so far; `problem` says why it is invalid, if it is."""
        if problem is None and isinstance(given, GivenTurn):
            problem = self._problem(given)
        self._waiting.append(QueuedInput(given, self._audio.received, problem))
        self.bytes += input_bytes(given)
        self._keep_audio()

    def take(self) -> QueuedInput | None:
        """Remove and return the next input, None while audio before it is unprocessed."""
        if not self._waiting or not self._audio.reached(self._waiting[0].at):
            return None
        taken = self._waiting.popleft()
        self.bytes -= input_bytes(taken.given)
        self._keep_audio()
        return taken

    def _problem(self, turn: GivenTurn) -> str | None:
        """Return why an appended turn is invalid, None if it is valid."""
        if not self._audio.takes_turns:
            return TAKES_NO_TURNS
        start, end = (None if at is None else at / SAMPLE_RATE for at in (turn.start, turn.end))
        if (start is None) != (end is None) or (start or 0.0) >= (end or 1.0):
            return f"expected a span that begins before it ends, got {_seconds(start)} to {_seconds(end)}"
        if start is None and not (turn.text and turn.text.strip()):
            return f"expected a turn with a text or a span of audio, got the text {turn.text!r}"
        if start is not None and self._audio.text_only:
            return "expected a text without a span in a session without audio, got a span"
        reach = (self._audio.received - ms_to_samples(APPENDED_AUDIO_MS)) / SAMPLE_RATE
        if start is not None and start < reach:
            return f"expected a turn from {_seconds(reach)} on, got one from {_seconds(start)} on"
        if start is None or end is None:
            return None
        latest = max(self._latest_end, turn.end or 0)
        if latest - (turn.start or 0) > ms_to_samples(MAX_TURN_MS):
            return (
                f"expected a turn of at most {MAX_TURN_MS // 1000} s that begins as late as "
                f"{_seconds(max(0.0, self._latest_end / SAMPLE_RATE - MAX_TURN_MS / 1000))}, "
                f"got {_seconds(start)} to {_seconds(end)}"
            )
        self._latest_end = latest
        return None

    def _keep_audio(self) -> None:
        """Keep the audio that queued turns will need."""
        turns = [waiting.given for waiting in self._waiting if isinstance(waiting.given, GivenTurn)]
        starts = [turn.start for turn in turns if turn.start is not None]
        self._audio.keep_from(min(starts, default=sys.maxsize))


def input_bytes(given: ClientInput) -> int:
    """Return the size of an input in memory."""
    match given:
        case GivenTurn(text=text):
            return INPUT_BYTES + sys.getsizeof(text)
        case ClipEnrolment(clip=clip):
            return INPUT_BYTES + clip.nbytes
        case _:
            return INPUT_BYTES


def _seconds(at: float | None) -> str:
    return "nothing" if at is None else f"{at:.3f} s"
