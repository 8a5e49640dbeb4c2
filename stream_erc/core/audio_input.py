"""What a session hears: audio that has come, taken by a segmenter window by window."""

from collections import deque

import numpy as np

from stream_erc.core.segmentation import AppendedSegmenter, Segmenter, SegmenterMark, SegmenterOutput
from stream_erc.core.vad import WINDOW
from stream_erc.events import Samples, SpeechSegment


class AudioInput:
    """Audio on its way into the segmenter, and the points at which it can be gone on from.

    Args:
        segmenter: finds the turns; None where there is no audio.
        mark: where it goes on from.
        turns: how many turns lie before.

    Attributes:
        received: where the audio that has come ends.
        eof: whether no more comes.
    """

    def __init__(self, segmenter: Segmenter | None, mark: SegmenterMark, turns: int) -> None:
        self._segmenter, self._mark = segmenter, mark
        self._appended = segmenter if isinstance(segmenter, AppendedSegmenter) else None
        self.received = mark.audio_from
        self.eof = self._finished = False
        self._chunks: deque[Samples] = deque()
        self._buffered = 0
        self._found = self._found_to = turns  # turns, and the end of their range
        self._marks: dict[int, SegmenterMark] = {turns: mark}  # after how many turns that were found

    @property
    def silent(self) -> bool:
        """Whether there is no audio at all."""
        return self._segmenter is None

    @property
    def takes_turns(self) -> bool:
        """Whether turns come from outside."""
        return self._segmenter is None or self._appended is not None

    @property
    def over(self) -> bool:
        """Whether nothing is left to be heard."""
        return self._finished or self._segmenter is None

    @property
    def idle(self) -> bool:
        """Whether no turn is running, or waits for its audio."""
        return self._segmenter is None or self._segmenter.idle

    @property
    def awaited(self) -> bool:
        """Whether a turn from outside waits for its audio."""
        return self._appended is not None and not self._appended.idle

    @property
    def missing(self) -> tuple[int, ...]:
        """The turns that the audio did not reach, when it is over."""
        return () if self._segmenter is None or not self._finished else self._segmenter.missing

    def receive(self, chunk: Samples) -> None:
        """Take mono float32 samples at 16 kHz."""
        if len(chunk):
            self._chunks.append(chunk)
            self._buffered += len(chunk)
            self.received += len(chunk)

    def reached(self, position: int) -> bool:
        """Whether all that can be heard before `position` was heard; turns from outside need no order."""
        return (
            self._segmenter is None
            or self._appended is not None
            or self._segmenter.position + WINDOW > position
        )

    def advance(self, until: int | None) -> tuple[SegmenterOutput, ...] | None:
        """What the next window brought; None where there is none, or it would end after `until`."""
        segmenter = self._segmenter
        if segmenter is None or (until is not None and self._appended is None and self.reached(until)):
            return None
        if self._buffered >= WINDOW:
            found = segmenter.advance(self._take(WINDOW))
        elif self.eof and not self._finished:
            self._finished = True
            found = segmenter.finish(self._take(self._buffered))
        elif self._buffered and self.awaited:
            found = segmenter.advance(self._take(self._buffered))  # the turn waits for these very samples
        else:
            return None
        finals = [item.index for item in found if isinstance(item, SpeechSegment) and item.final]
        if finals and self._appended is None:
            self._found, self._found_to = self._found + len(finals), max(self._found_to, max(finals) + 1)
            if self._found == self._found_to:
                self._marks[self._found] = segmenter.mark()
        return found

    def request(self, index: int, start: int, end: int) -> tuple[SegmenterOutput, ...]:
        """Ask for the segment of a turn from outside, which comes now or when its audio does."""
        assert self._appended is not None
        return self._appended.request(index, start, end)

    def hold_from(self, start: int) -> None:
        """Hold audio from `start` on, for turns from outside that wait."""
        if self._appended is not None:
            self._appended.needed_from = start

    def mark_here(self) -> None:
        """Nothing is running: all turns so far fit the audio so far."""
        if self._segmenter is not None and self._appended is None:
            self._marks[self._found] = self._segmenter.mark()

    def mark_after(self, turns: int) -> SegmenterMark | None:
        """The point in the audio that fits the first `turns` turns, if there is one.

        Given turns may overlap: where one ends within another, the later one is found first, and only after
        both is there a point behind which turns are either found and finished, or still to be found.
        """
        if self._segmenter is None:
            return self._mark
        if self._appended is not None:
            return self._appended.mark()
        mark = self._marks.get(turns)
        if mark is not None:
            self._marks = {after: m for after, m in self._marks.items() if after >= turns}
        return mark

    def _take(self, count: int) -> Samples:
        """The next `count` buffered samples."""
        parts: list[Samples] = []
        self._buffered -= count
        while count:
            chunk = self._chunks.popleft()
            parts.append(chunk[:count])
            if len(chunk) > count:
                self._chunks.appendleft(chunk[count:])
            count -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, dtype=np.float32)])
