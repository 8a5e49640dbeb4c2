"""The speech in a stream of audio, heard by Pipecat's own Silero network."""

from typing import Any

import numpy as np
import soxr
from pipecat.audio.vad.silero import SileroVADAnalyzer
from stream_erc_agents.speech import SpeechDetector

RATES_HZ = (8_000, 16_000)
"""The rates that the network hears; any other is converted to the last one."""


class SpeechListener(SpeechDetector):
    """Finds the speech in 16-bit mono audio of any rate, as it arrives.

    It takes the network's probabilities alone: the analyzer's own events come late, since they also wait for
    a smoothed volume.

    Args:
        sample_rate_hz: of the audio; positions are in its samples.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        rate_hz = sample_rate_hz if sample_rate_hz in RATES_HZ else RATES_HZ[-1]
        self._network = SileroVADAnalyzer(sample_rate=rate_hz)
        self._network.set_sample_rate(rate_hz)
        samples = self._network.num_frames_required()
        super().__init__(sample_rate_hz, samples / rate_hz)
        self._size = 2 * samples
        self._waiting = bytearray()  # less than a window
        self._resampler: Any = None
        if rate_hz != sample_rate_hz:
            self._resampler = soxr.ResampleStream(sample_rate_hz, rate_hz, 1, dtype="int16")

    def receive(self, pcm: bytes) -> None:
        """Hear the next samples, 16-bit little-endian."""
        if self._resampler is not None:
            pcm = self._resampler.resample_chunk(np.frombuffer(pcm, "<i2")).astype("<i2").tobytes()
        self._waiting += pcm
        while len(self._waiting) >= self._size:
            window = bytes(self._waiting[: self._size])
            del self._waiting[: self._size]
            self.hear(float(np.max(self._network.voice_confidence(window))))
