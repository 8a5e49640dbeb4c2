"""The measuring of a voice in a clip."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import SessionConfig
from stream_erc.core.segmentation import SegmenterOutput, SpeechSegmenter
from stream_erc.core.vad import WINDOW, Vad
from stream_erc.events import Samples, SpeechSegment, Vector, unit
from stream_erc.exceptions import VoicesError

MIN_SPEECH_S = 1.0
"""Seconds of speech that a clip or a turn needs: a shorter one tells little about a voice."""


def measure_voice(
    chunks: Iterable[Samples], vad: Vad, embed: Callable[[Samples], Vector | None]
) -> tuple[Vector, float]:
    """Measure the voice in a clip in which one person speaks; its length does not matter.

    Args:
        chunks: the clip, mono float32 at 16 kHz, in pieces of any length.
        vad: finds the speech.
        embed: returns the voice vector (D,) of a segment, None if it is too short, as for a turn.

    Returns:
        The mean vector (D,) of unit length, weighted by duration, and the seconds of speech.

    Raises:
        VoicesError: there is too little speech.
    """
    total: NDArray[np.float64] = np.zeros(1)
    speech = 0
    for segment in _speech(chunks, vad):
        vector = embed(segment.samples)
        if vector is not None:
            total = total + vector.astype(np.float64) * (segment.end - segment.start)
            speech += segment.end - segment.start
    mean = unit(total)
    if mean is None or speech < MIN_SPEECH_S * SAMPLE_RATE:
        raise VoicesError(
            f"expected a clip with at least {MIN_SPEECH_S:g} s of speech, got {speech / SAMPLE_RATE:.2f} s"
        )
    return mean, speech / SAMPLE_RATE


def _speech(chunks: Iterable[Samples], vad: Vad) -> Iterator[SpeechSegment]:
    """Yield the segments of speech in a clip."""
    config = SessionConfig()
    config = replace(config, endpointing=replace(config.endpointing, adaptive=False))
    segmenter, rest = SpeechSegmenter(vad, config), np.zeros(0, np.float32)
    for chunk in chunks:
        rest = np.concatenate([rest, chunk])
        whole = len(rest) - len(rest) % WINDOW
        for at in range(0, whole, WINDOW):
            yield from _finals(segmenter.advance(rest[at : at + WINDOW]))
        rest = rest[whole:]
    yield from _finals(segmenter.finish(rest))


def _finals(found: Iterable[SegmenterOutput]) -> Iterator[SpeechSegment]:
    return (item for item in found if isinstance(item, SpeechSegment) and item.final)
