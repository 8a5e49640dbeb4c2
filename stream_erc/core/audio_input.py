"""The audio of a session: buffered as it arrives, segmented window by window."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from stream_erc.core.channels import ChannelSegmenter
from stream_erc.core.given_segmentation import AppendedSegmenter
from stream_erc.core.segmentation import (
    Segmenter,
    SegmenterMark,
    SegmenterOutput,
    SpeechSegmenter,
)
from stream_erc.core.vad import WINDOW
from stream_erc.events import RunningSpeech, Samples, SpeakerActivity, SpeechSegment
from stream_erc.exceptions import ProtocolMisuse

SAMPLE_BYTES = 4
"""Bytes of a float32 sample."""


class AudioInput:
    """The audio queue in front of a segmenter, and the resume points in that audio.

    Args:
        segmenter: finds the turns; None in a session without audio.
        mark: the point to resume from.
        turns: the number of turns before that point.
        channels: the number of channels; None for mono audio.

    Attributes:
        received: samples received since the session's audio began, in each channel.
        eof: whether the audio is complete.
    """

    def __init__(
        self, segmenter: Segmenter | None, mark: SegmenterMark, turns: int, channels: int | None = None
    ) -> None:
        self._segmenter, self._mark = segmenter, mark
        self._appended = segmenter if isinstance(segmenter, AppendedSegmenter) else None
        self._spoken = segmenter if isinstance(segmenter, SpeechSegmenter | ChannelSegmenter) else None
        self._shape = () if channels is None else (channels,)  # of a sample
        self.received = mark.audio_from
        self.eof = self._finished = False
        self._chunks: deque[Samples] = deque()
        self._buffered = 0
        self._found = self._found_to = turns  # number of turns found, highest index found + 1
        self._marks: dict[int, SegmenterMark] = {turns: mark}  # by the number of turns found before

    @property
    def waiting(self) -> int:
        """Number of samples received and not yet segmented, in each channel."""
        return self._buffered

    @property
    def bytes(self) -> int:
        """The size of what waits: samples that are not segmented, or kept for appended turns that wait."""
        channels = self._shape[0] if self._shape else 1
        kept = 0 if self._appended is None else self._appended.kept
        return SAMPLE_BYTES * (channels * self._buffered + kept)

    @property
    def text_only(self) -> bool:
        """Whether the session has no audio at all."""
        return self._segmenter is None

    @property
    def takes_turns(self) -> bool:
        """Whether the client may append turns."""
        return self._segmenter is None or self._appended is not None

    @property
    def exhausted(self) -> bool:
        """Whether all audio has been segmented."""
        return self._finished or self._segmenter is None

    @property
    def idle(self) -> bool:
        """Whether no turn is running or waiting for its audio."""
        return self._segmenter is None or self._segmenter.idle

    @property
    def turn_awaits_audio(self) -> bool:
        """Whether an appended turn waits for its audio."""
        return self._appended is not None and not self._appended.idle

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of the turns that the audio did not reach; empty until all audio has been segmented."""
        return () if self._segmenter is None or not self._finished else self._segmenter.missing

    def check(self, chunk: Samples) -> None:
        """Check the type and shape of audio.

        Raises:
            ProtocolMisuse: samples of another kind, or of another number of channels.
        """
        if chunk.ndim != 1 + len(self._shape) or chunk.shape[1:] != self._shape or chunk.dtype != np.float32:
            expected = f"(N, {self._shape[0]})" if self._shape else "(N,)"
            kind = "" if self._shape else "mono "
            raise ProtocolMisuse(
                f"expected {kind}float32 samples {expected}, got {chunk.dtype} {chunk.shape}"
            )

    def receive(self, chunk: Samples) -> None:
        """Buffer float32 samples at 16 kHz."""
        if len(chunk):
            self._chunks.append(chunk)
            self._buffered += len(chunk)
            self.received += len(chunk)

    def reached(self, position: int) -> bool:
        """Return whether all whole windows before `position` have been segmented; True for appended turns."""
        return (
            self._segmenter is None
            or self._appended is not None
            or self._segmenter.position + WINDOW > position
        )

    def advance(self, until: int | None) -> tuple[SegmenterOutput, ...] | None:
        """Segment the next window; None if there is none, or if it would end after `until`."""
        segmenter = self._segmenter
        if self.awaits_words or (self._spoken is not None and self._spoken.awaits_speakers):
            return None
        if segmenter is None or (until is not None and self._appended is None and self.reached(until)):
            return None
        if self._buffered >= WINDOW:
            found = segmenter.advance(self._take(WINDOW))
        elif self.eof and not self._finished:
            if self._spoken is not None and self._spoken.asks_for_speakers:
                return None
            self._finished = True
            found = segmenter.finish(self._take(self._buffered))
        elif self._buffered and self.turn_awaits_audio:
            found = segmenter.advance(self._take(self._buffered))  # a waiting turn may end with them
        else:
            return None
        self._count(found)
        return found

    def hear(self, speech: RunningSpeech, activity: SpeakerActivity) -> None:
        """Receive who speaks in `speech`."""
        if isinstance(self._spoken, ChannelSegmenter):
            assert speech.channel is not None
            self._spoken.hear(speech.channel, speech.position, activity)
        elif self._spoken is not None:
            self._spoken.hear(speech.position, activity)

    @property
    def awaits_words(self) -> bool:
        """Whether the words of a pause decide what comes next."""
        return self._spoken is not None and self._spoken.awaits_words

    def awaits_words_of(self, channel: int | None) -> bool:
        """Return whether the words of a channel's pause decide what comes next."""
        if isinstance(self._spoken, ChannelSegmenter):
            return self._spoken.awaits_words_of(channel)
        return self.awaits_words

    def decide(self, paused: SpeechSegment, silence_ms: int) -> tuple[SegmenterOutput, ...]:
        """Say how much silence ends the segment that `paused`."""
        found = self._spoken.decide(paused, silence_ms) if self._spoken is not None else ()
        self._count(found)
        return found

    def settled(self, position: int) -> bool:
        """Return whether all whole windows before `position` are segmented, and no answer is missing."""
        asking = self._spoken is not None and (self.awaits_words or self._spoken.asks_for_speakers)
        return self.reached(position) and not asking

    def interrupt(self) -> tuple[SegmenterOutput, ...]:
        """Close a running segment that was found in the audio: no more comes for now."""
        found = self._spoken.interrupt() if self._spoken is not None and not self._finished else ()
        self._count(found)
        return found

    def _count(self, found: Sequence[SegmenterOutput]) -> None:
        """Count the segments that were found, and keep a resume point after them."""
        segmenter = self._segmenter
        assert segmenter is not None or not found
        finals = [item.index for item in found if isinstance(item, SpeechSegment) and item.final]
        if finals and segmenter is not None and self._appended is None:
            self._found, self._found_to = self._found + len(finals), max(self._found_to, max(finals) + 1)
            if self._found == self._found_to:
                self._marks[self._found] = segmenter.mark()

    def request(self, index: int, start: int, end: int) -> tuple[SegmenterOutput, ...]:
        """Request the segment of an appended turn: returned at once, or later with its audio."""
        assert self._appended is not None
        return self._appended.request(index, start, end)

    def keep_from(self, start: int) -> None:
        """Keep the audio from `start` on, for appended turns that are still queued."""
        if self._appended is not None:
            self._appended.needed_from = start

    def add_resume_point(self) -> None:
        """Record a resume point here; the caller ensures that no turn is running."""
        if self._segmenter is not None and self._appended is None:
            self._marks[self._found] = self._segmenter.mark()

    def resume_point(self, turns: int) -> SegmenterMark | None:
        """Return the resume point after the first `turns` turns, None if there is none.

        Given turns may overlap. If one ends within another, it is found first, so there is no resume point
        until both are found: a resume point divides turns that were found from turns still to be found.
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
        """Remove and return the next `count` buffered samples."""
        parts: list[Samples] = []
        self._buffered -= count
        while count:
            chunk = self._chunks.popleft()
            parts.append(chunk[:count])
            if len(chunk) > count:
                self._chunks.appendleft(chunk[count:])
            count -= len(parts[-1])
        none = np.zeros((0, *self._shape), dtype=np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [none])
