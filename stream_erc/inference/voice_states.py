"""Statistics of a speaker encoder's hidden states over a segment, as acoustic features.

GE2E's three LSTM layers were trained on thousands of speakers to ignore the words, but not the manner of
speaking. With the mean and deviation of their states besides openSMILE's functionals, acted emotions of
unseen actors are recognized better than with functionals alone.
"""

import numpy as np
import torch

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples, Vector
from stream_erc.exceptions import EngineUnavailable
from stream_erc.inference.ge2e import TARGET_DBFS, Ge2eEncoder
from stream_erc.inference.level import at_level
from stream_erc.inference.prosody import MIN_SAMPLES, speech_span

ENCODERS = ("GE2E",)
"""The supported encoders, by their names in checkpoints."""

MARGIN = SAMPLE_RATE // 5
"""200 ms of audio kept before and after the speech."""


class VoiceStates:
    """Mean and deviation of GE2E's states over a segment's 10 ms frames; thread-safe.

    It always computes on the CPU, so the numbers equal those that networks were trained on.

    Raises:
        EngineUnavailable: GE2E's weights are not available.
    """

    def __init__(self) -> None:
        try:
            self._encoder = encoder = Ge2eEncoder()
        except EngineUnavailable as error:
            raise EngineUnavailable(f"voice states need GE2E: {error}") from error
        self.names: tuple[str, ...] = tuple(
            f"GE2E_layer{layer}_{statistic}_{unit}"
            for layer, width in enumerate(encoder.layer_dims)
            for statistic in ("mean", "deviation")
            for unit in range(width)
        )

    @torch.inference_mode()
    def __call__(self, samples: Samples) -> Vector:
        """Compute the statistics of one segment.

        Args:
            samples: the segment, (N,), finite; its speech is cut out with `MARGIN` and scaled to one level.

        Returns:
            (1536,): mean (256,) and deviation (256,) of the first layer, then of the second and the third;
            NaN if there is less than 100 ms of sound.
        """
        start, end = speech_span(samples)
        if end - start < MIN_SAMPLES:
            return np.full(len(self.names), np.nan, dtype=np.float32)
        speech = at_level(samples[max(0, start - MARGIN) : end + MARGIN], TARGET_DBFS)
        found = []
        for states in self._encoder.layer_states(speech):  # (frames, 256)
            found += [states.mean(0), states.std(0, correction=0)]
        values: Vector = torch.cat(found).numpy()
        return values
