"""A segment to statistics of the hidden states of the network that tells speakers apart.

GE2E's three LSTM layers have heard thousands of people and were taught to be deaf to what is said, not to
how: their mean and deviation, beside openSMILE's functionals, tell acted emotions of unseen actors apart
better than functionals alone.
"""

import numpy as np
import torch

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples, Vector
from stream_erc.exceptions import EngineUnavailable
from stream_erc.inference.level import at_level
from stream_erc.inference.prosody import MIN_SAMPLES, speech_span
from stream_erc.inference.speaker_encoder import TARGET_DBFS, Ge2eEncoder, SpeakerEncoder

ENCODERS = ("GE2E",)
"""The encoders whose states can be read, by the names that a checkpoint gives them."""

MARGIN = SAMPLE_RATE // 5
"""200 ms around the speech."""


class VoiceStates:
    """Mean and deviation of GE2E's states over a segment's 10 ms frames; safe to call from several threads.

    It always computes on the CPU, so that the numbers are those that networks were trained on.

    Args:
        encoder: the encoder that tells speakers apart. Its weights are shared where it is GE2E on the CPU;
            otherwise GE2E is loaded here (6 MB).

    Raises:
        EngineUnavailable: GE2E's weights cannot be had.
    """

    def __init__(self, encoder: SpeakerEncoder | None = None) -> None:
        if not isinstance(encoder, Ge2eEncoder) or encoder.device.type != "cpu":
            try:
                encoder = Ge2eEncoder("cpu")
            except EngineUnavailable as error:
                raise EngineUnavailable(f"voice states need GE2E: {error}") from error
        self._encoder = encoder
        self.names: tuple[str, ...] = tuple(
            f"GE2E_layer{layer}_{statistic}_{unit}"
            for layer, width in enumerate(encoder.layer_dims)
            for statistic in ("mean", "deviation")
            for unit in range(width)
        )

    @torch.inference_mode()
    def __call__(self, samples: Samples) -> Vector:
        """The statistics of one segment.

        Args:
            samples: the segment, (N,), finite; speech is cut out with `MARGIN` and brought to one level.

        Returns:
            (1536,): the mean (256,), then the deviation of the first layer, of the second, of the third. NaN
            where there is less than 100 ms of sound.
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
