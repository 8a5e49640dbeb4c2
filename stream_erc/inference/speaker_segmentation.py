"""Speaker segmentation: who of up to three local speakers speaks when in a piece of audio.

The network is pyannote's segmentation-3.0 (Plaquet and Bredin, 2023, arXiv:2310.13025). For each frame it
tells the most probable set of at most two of three speakers.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_erc.core.speaker_change import LOCAL_SPEAKERS
from stream_erc.events import Samples
from stream_erc.inference.onnx_network import open_network, shipped_network

SETS = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
"""The speakers of each of the network's classes."""

_SPEAKING = np.array([[k in speakers for k in range(LOCAL_SPEAKERS)] for speakers in SETS])


class SpeakerSegmentation:
    """Tells who speaks when; thread-safe.

    Args:
        path: the ONNX file; None for the shipped one.
        gpu: whether to compute on the GPU, if ONNX Runtime can.

    Raises:
        EngineUnavailable: the network is not there, or cannot be read.
    """

    def __init__(self, path: Path | None = None, *, gpu: bool = False) -> None:
        path = path or shipped_network("segmentation-3.0")
        self._session = open_network(path, "speaker segmentation", gpu=gpu)

    def __call__(self, samples: Samples) -> NDArray[np.bool_]:
        """Return who speaks in each frame, (F, 3); F = 0 below 62 ms.

        Args:
            samples: (N,), 16 kHz; the network was trained on 10 s.
        """
        if len(samples) < 991:  # its receptive field
            return np.zeros((0, LOCAL_SPEAKERS), dtype=bool)
        feeds = {"samples": np.ascontiguousarray(samples[None], dtype=np.float32)}
        (logits,) = self._session.run(["log_probabilities"], feeds)
        return np.asarray(_SPEAKING[np.asarray(logits)[0].argmax(1)])
