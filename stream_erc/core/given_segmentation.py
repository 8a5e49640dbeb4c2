"""Audio -> the segments of turns that are known: given beforehand, or appended by the client."""

import sys
from collections.abc import Sequence

from stream_erc.core.audio_tail import AudioTail
from stream_erc.core.segmentation import BEGINNING, SegmenterMark, SegmenterOutput
from stream_erc.events import GivenTurn, Samples, SpeechSegment


class GivenSegmenter:
    """Cuts the segments of turns that are given beforehand.

    Turns are numbered by their start and reported once the audio has passed their end.
    """

    def __init__(self, turns: Sequence[GivenTurn], mark: SegmenterMark | None = None) -> None:
        mark = mark or BEGINNING
        self.position = mark.audio_from
        self._tail = AudioTail(mark.audio_from)
        timed = ((t.end, t.start, i) for i, t in enumerate(turns))
        spans = [(end, start, i) for end, start, i in timed if end is not None and start is not None]
        self._open = sorted((span for span in spans if span[0] > mark.position), reverse=True)  # by end
        self._earliest = self._earliest_start()

    @property
    def idle(self) -> bool:
        """Whether no turn is running."""
        return self._earliest >= self.position

    def advance(self, window: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the next 512 samples."""
        self._tail.push(window)
        self.position += len(window)
        return self._close(self.position)

    def finish(self, rest: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the rest of the audio and close all turns that it reached; the others stay `missing`."""
        self._tail.push(rest)
        self.position += len(rest)
        ended_at = self.position
        reached = [(min(end, ended_at), start, i) for end, start, i in self._open if start < ended_at]
        missing = [span for span in self._open if span[1] >= ended_at]
        self._open = missing + sorted(reached, reverse=True)
        found = self._close(ended_at)
        self._open = missing
        return found

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of the given turns that the audio has not reached."""
        return tuple(sorted(i for _, _, i in self._open))

    def mark(self) -> SegmenterMark:
        """Return the resume point here; resuming needs the given turns again."""
        return SegmenterMark(self.position, self._tail.start)

    def _close(self, position: int) -> tuple[SegmenterOutput, ...]:
        found = []
        while self._open and self._open[-1][0] <= position:
            end, start, i = self._open.pop()
            samples = self._tail.cut(start, end)
            found.append(SpeechSegment(i, start, end, samples, end - len(samples), decided_at=end))
        if found:
            self._earliest = self._earliest_start()
        self._tail.trim(min(self._earliest, position))
        return tuple(found)

    def _earliest_start(self) -> int:
        """Return the earliest start of an open turn."""
        return min((start for _, start, _ in self._open), default=sys.maxsize)


class AppendedSegmenter:
    """Cuts the segments of turns that the client appends, one at a time.

    Args:
        keep: samples of past audio to keep for turns that are still to be appended.
        mark: the point to resume from.

    Attributes:
        needed_from: the audio from here on is also kept, for turns that are still queued.
    """

    def __init__(self, keep: int, mark: SegmenterMark | None = None) -> None:
        mark = mark or BEGINNING
        self.position = mark.audio_from
        self._keep = keep
        self._tail = AudioTail(mark.audio_from)
        self._span: tuple[int, int, int] | None = None  # index, start, end
        self._ended = False
        self.needed_from = sys.maxsize

    @property
    def idle(self) -> bool:
        """Whether no turn waits for its audio."""
        return self._span is None

    @property
    def kept(self) -> int:
        """Samples that are kept for turns that wait, beyond those kept for turns still to be appended."""
        return max(0, self.position - self._keep - self._tail.start)

    @property
    def missing(self) -> tuple[int, ...]:
        """The index of the turn whose audio has not arrived."""
        return () if self._span is None else (self._span[0],)

    def request(self, index: int, start: int, end: int) -> tuple[SegmenterOutput, ...]:
        """Request the segment of a turn: returned at once, or later with its audio; one at a time."""
        self._span = (index, start, end)
        return self._cut()

    def advance(self, window: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the next 512 samples."""
        self._tail.push(window)
        self.position += len(window)
        found = self._cut()
        needed = min(self.needed_from, self._span[1] if self._span else self.position)
        self._tail.trim(min(self.position - self._keep, needed))
        return found

    def finish(self, rest: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the rest of the audio; a turn that it reached ends with it."""
        self._tail.push(rest)
        self.position += len(rest)
        self._ended = True
        return self._cut()

    def mark(self) -> SegmenterMark:
        """Return the resume point here."""
        return SegmenterMark(self.position, self._tail.start)

    def _cut(self) -> tuple[SegmenterOutput, ...]:
        """Return the requested segment if its audio has arrived."""
        if self._span is None:
            return ()
        index, start, end = self._span
        if self._ended and start < self.position:
            end = min(end, self.position)
        if end > self.position:
            return ()
        self._span = None
        samples = self._tail.cut(start, end)
        return (SpeechSegment(index, start, end, samples, end - len(samples), decided_at=end),)
