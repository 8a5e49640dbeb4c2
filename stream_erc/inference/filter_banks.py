"""Kaldi's logarithmic filter banks, the input of CAM++."""

import functools
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples
from stream_erc.exceptions import EngineUnavailable

if TYPE_CHECKING:
    import kaldi_native_fbank

BANDS = 80
FRAME = SAMPLE_RATE // 100
"""10 ms from one frame to the next."""
WINDOW = SAMPLE_RATE // 40
"""25 ms that a frame sees."""


def filter_banks(samples: Samples) -> NDArray[np.float32]:
    """Compute filter banks as 3D-Speaker does: 80 bands, no dither, full scale at 1.

    Args:
        samples: (N,), 16 kHz.

    Returns:
        (T, 80), T = (N - 400) // 160 + 1, or 0 below 25 ms; natural logarithm of power.

    Raises:
        EngineUnavailable: kaldi-native-fbank is not installed.
    """
    computed = _loaded().OnlineFbank(_options())
    computed.accept_waveform(SAMPLE_RATE, samples)
    computed.input_finished()
    frames = [computed.get_frame(t) for t in range(computed.num_frames_ready)]
    return np.array(frames, dtype=np.float32).reshape(-1, BANDS)


@functools.cache
def _options() -> "kaldi_native_fbank.FbankOptions":
    options = _loaded().FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = BANDS
    return options


def _loaded() -> ModuleType:
    try:
        import kaldi_native_fbank
    except ImportError as error:
        raise EngineUnavailable(
            "voices expected kaldi-native-fbank: pip install kaldi-native-fbank"
        ) from error
    module: ModuleType = kaldi_native_fbank
    return module
