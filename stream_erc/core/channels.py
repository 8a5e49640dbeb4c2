"""Channels that are heard separately: a segmenter for each, and voices that are never joined across them.

All channels advance together, window by window. Their segments get one running index, in the order in which
their ends are decided, the first channel first among equals. So turns that overlap in time are still one
conversation in one order, which depends on the audio alone.

A voice of one channel that leaks faintly into another one is not heard there a second time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_erc.core.clustering_state import ClusteringState
from stream_erc.core.diarization import Assignment, OnlineClustering
from stream_erc.core.segmentation import BEGINNING, SegmenterMark, SegmenterOutput, SpeechSegmenter
from stream_erc.core.vad import WINDOW
from stream_erc.events import Samples, SpeakerActivity, SpeechSegment, Vector
from stream_erc.exceptions import ProtocolMisuse

T = TypeVar("T")

MAX_DELAY = 160
"""Samples (10 ms) that a leak may be late: some 3 m of air. An echo of a telephone line is later."""

MIN_LOUDER = 10**1.2
"""Ratio of power (12 dB) by which the source must be louder than its leak."""

MIN_EXPLAINED = 0.6
"""Share of a channel's power that one delayed copy of the source must explain."""

IN_A_ROW = 2
"""Windows that must look like a leak. The first is heard, which is too short for a turn."""


class ChannelSegmenter:
    """Finds the speech segments of several channels, as if each were heard alone.

    What leaks from one into another is silenced before (see `CrosstalkGate`).

    Args:
        channels: the number of channels.
        open_segmenter: opens the segmenter of a channel (its number) at a resume point.
        mark: the resume point of all channels.
    """

    def __init__(
        self,
        channels: int,
        open_segmenter: Callable[[int, SegmenterMark], SpeechSegmenter],
        mark: SegmenterMark = BEGINNING,
    ) -> None:
        marks = mark.channels or (BEGINNING,) * channels
        if len(marks) != channels:
            raise ProtocolMisuse(f"expected a resume point of {channels} channels, got one of {len(marks)}")
        self._resumed, self.position = mark, mark.audio_from
        self._channels = [open_segmenter(number, channel) for number, channel in enumerate(marks)]
        self._gate = CrosstalkGate(channels)
        self._segments = mark.segments  # over all channels
        self._ended = [channel.segments for channel in marks]
        self._decided: dict[int, tuple[SpeechSegment, int]] = {}  # channel -> pause and its needed silence
        self._held: dict[int, tuple[SegmenterOutput, ...]] = {}  # channel -> its end at this sample

    @property
    def idle(self) -> bool:
        """Whether no segment is running in any channel."""
        return all(channel.idle for channel in self._channels)

    @property
    def missing(self) -> tuple[int, ...]:
        """Always empty: no turns are given."""
        return ()

    @property
    def awaits_words(self) -> bool:
        """Whether a segment that is running ends here or not, depending on its words."""
        return any(channel.awaits_words for channel in self._channels)

    @property
    def awaits_speakers(self) -> bool:
        """Whether an answer of `hear` must come before the next window."""
        return any(channel.awaits_speakers for channel in self._channels)

    @property
    def asks_for_speakers(self) -> bool:
        """Whether any answer of `hear` is missing."""
        return any(channel.asks_for_speakers for channel in self._channels)

    def hear(self, channel: int, position: int, activity: SpeakerActivity) -> None:
        """Receive who speaks in the `RunningSpeech` of this channel and position."""
        self._channels[channel].hear(position, activity)

    def advance(self, window: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the next 512 samples of each channel, (512, C)."""
        return self._advance(self._gate.push(window), SpeechSegmenter.advance)

    def finish(self, rest: Samples) -> tuple[SegmenterOutput, ...]:
        """Segment the rest of the audio, less than a window, (N, C), and close running segments."""
        return self._advance(rest, SpeechSegmenter.finish)

    def decide(self, paused: SpeechSegment, silence_ms: int) -> tuple[SegmenterOutput, ...]:
        """Say how much silence ends the segment that `paused`, unless it was resumed or has ended.

        Where several channels wait at the same sample, the decisions take effect together, along with ends
        that were found there, so that the order of segments does not depend on whose words came first.
        """
        assert paused.channel is not None
        waiting = {k for k, channel in enumerate(self._channels) if channel.awaits_words}
        if paused.channel not in waiting:  # early, or the segment has ended otherwise
            return self._decide(paused, silence_ms)
        self._decided[paused.channel] = paused, silence_ms
        if waiting - set(self._decided):
            return ()
        decided, self._decided = self._decided, {}
        ends = {channel: self._decide(*one) for channel, one in decided.items()}
        return self._released(ends)

    def _decide(self, paused: SpeechSegment, silence_ms: int) -> tuple[SegmenterOutput, ...]:
        channel = paused.channel
        assert channel is not None
        return self._channels[channel].decide(replace(paused, index=self._ended[channel]), silence_ms)

    def _released(self, found: Mapping[int, tuple[SegmenterOutput, ...]]) -> tuple[SegmenterOutput, ...]:
        """Return what was found, and held, at this sample, in the order of the channels."""
        held, self._held = self._held, {}
        return tuple(
            item
            for channel, items in sorted({**held, **found}.items())
            for item in self._numbered(channel, items)
        )

    def awaits_words_of(self, channel: int | None) -> bool:
        """Return whether the words of this channel decide what comes next."""
        return channel is not None and self._channels[channel].awaits_words

    def interrupt(self) -> tuple[SegmenterOutput, ...]:
        """Close running segments here, since no more audio comes for now."""
        self._decided.clear()
        ends = {number: channel.interrupt() for number, channel in enumerate(self._channels)}
        return self._released({number: found for number, found in ends.items() if found})

    def mark(self) -> SegmenterMark:
        """Return the resume point here."""
        if self.position < self._resumed.position:
            return self._resumed
        marks = tuple(channel.mark() for channel in self._channels)
        audio_from = max(0, min(mark.audio_from for mark in marks) - CrosstalkGate.CONTEXT)
        return SegmenterMark(self.position, audio_from, self._segments, channels=marks)

    def _advance(
        self, audio: Samples, step: Callable[[SpeechSegmenter, Samples], tuple[SegmenterOutput, ...]]
    ) -> tuple[SegmenterOutput, ...]:
        before, found = self.position, dict[int, tuple[SegmenterOutput, ...]]()
        self.position += len(audio)
        for number, channel in enumerate(self._channels):
            if channel.position == before:  # after resuming, a channel may begin later than another
                found[number] = step(channel, np.ascontiguousarray(audio[:, number]))
        if self.awaits_words:
            ends = {number: items for number, items in found.items() if any(map(_is_end, items))}
            now = self._released({number: items for number, items in found.items() if number not in ends})
            self._held = ends
            return now
        return self._released(found)

    def _numbered(self, channel: int, found: Sequence[SegmenterOutput]) -> list[SegmenterOutput]:
        """Return what a channel's segmenter found, with the channel and an index over all channels."""
        numbered: list[SegmenterOutput] = []
        for item in found:
            if not isinstance(item, SpeechSegment):
                numbered.append(replace(item, channel=channel))
                continue
            numbered.append(replace(item, channel=channel, index=self._segments))
            if item.final:
                self._segments += 1
                self._ended[channel] += 1
        return numbered


@dataclass(frozen=True, slots=True, eq=False)
class ChannelMemory:
    """Voices and languages, which a conversation keeps for each channel.

    Attributes:
        voices: (channel, its voice) of each voice, by order of appearance over all channels.
        clusterings: (channel, its voices so far).
        languages: (channel, the language of its last turn that has one).
    """

    voices: tuple[tuple[int, int], ...] = ()
    clusterings: tuple[tuple[int, ClusteringState], ...] = ()
    languages: tuple[tuple[int, str], ...] = ()

    def language(self, channel: int) -> str | None:
        """Return the language of the last turn of a channel that has one."""
        return dict(self.languages).get(channel)

    def with_language(self, channel: int, language: str) -> "ChannelMemory":
        """Return the memory after a turn in `language`."""
        return replace(self, languages=_with(self.languages, channel, language))

    def assign(
        self,
        clustering: OnlineClustering,
        channel: int,
        embedding: Vector | None,
        duration_samples: int,
        turn: int,
    ) -> tuple["ChannelMemory", Assignment]:
        """Assign a turn to a voice of its channel; see `OnlineClustering.assign`.

        Returns:
            The memory after the turn, and the assignment, whose speakers are positions in `voices`.
        """
        before = dict(self.clusterings).get(channel) or clustering.initial()
        after, found = clustering.assign(before, embedding, duration_samples, turn)
        voices = list(self.voices)

        def number(voice: int) -> int:
            if (channel, voice) not in voices:
                voices.append((channel, voice))
            return voices.index((channel, voice))

        corrections = tuple((earlier, number(voice)) for earlier, voice in found.corrections)
        assigned = replace(found, speaker=number(found.speaker), corrections=corrections)
        memory = replace(self, voices=tuple(voices), clusterings=_with(self.clusterings, channel, after))
        return memory, assigned


def _is_end(item: SegmenterOutput) -> bool:
    return isinstance(item, SpeechSegment) and item.final


def _with(pairs: tuple[tuple[int, T], ...], channel: int, value: T) -> tuple[tuple[int, T], ...]:
    """Return the pairs with another value for a channel."""
    return tuple(sorted({**dict(pairs), channel: value}.items(), key=lambda pair: pair[0]))


# --- crosstalk ------------------------------------------------------------------------------------


class CrosstalkGate:
    """Silences the windows of a channel that are a delayed and weaker copy of another channel.

    It compares the last two windows (64 ms) with the same time, and up to `MAX_DELAY` before it, of each
    louder channel; what looks like a leak `IN_A_ROW` times is one. Speech of two people is too unlike for
    that, however faint one of them is; where both are in one window, it stays as it is.

    Args:
        channels: the number of channels.
    """

    CONTEXT = (IN_A_ROW + 1) * WINDOW
    """Samples before a window on which its outcome depends."""

    def __init__(self, channels: int) -> None:
        self._past = np.zeros((2 * WINDOW, channels), dtype=np.float32)
        self._row = np.zeros(channels, dtype=np.int64)  # windows in a row that look like a leak

    def push(self, window: Samples) -> Samples:
        """Return the next 512 samples of each channel, (512, C), with leaks silenced."""
        heard = np.concatenate([self._past, window])
        self._past = heard[WINDOW:]
        exact = heard.astype(np.float64)
        channels = range(window.shape[1])
        like_leak = np.array(
            [
                any(
                    _is_leak(exact[WINDOW:, channel], exact[WINDOW - MAX_DELAY :, source])
                    for source in channels
                    if source != channel
                )
                for channel in channels
            ]
        )
        self._row = np.where(like_leak, self._row + 1, 0)
        leaks = self._row >= IN_A_ROW
        if not leaks.any():
            return window
        clean = window.copy()
        clean[:, leaks] = 0
        return clean


def _is_leak(leak: NDArray[np.float64], source: NDArray[np.float64]) -> bool:
    """Return whether `leak` (N,) is a delayed, weaker copy of `source` (`MAX_DELAY` + N,)."""
    power = float((leak**2).sum())
    if power == 0 or float((source**2).sum()) < MIN_LOUDER * power:
        return False
    sums = np.concatenate([[0.0], np.cumsum(source**2)])
    source_power = np.maximum(sums[len(leak) :] - sums[: -len(leak)], 1e-12)  # at each delay, longest first
    explained = np.correlate(source, leak, "valid") ** 2 / source_power
    best = int(explained.argmax())
    return bool(explained[best] >= MIN_EXPLAINED * power and source_power[best] >= MIN_LOUDER * power)
