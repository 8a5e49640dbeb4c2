"""A telephone, simulated. The scripts that train and evaluate voices share it."""

import numpy as np
import scipy.signal

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples


def telephone(samples: Samples) -> Samples:
    """Simulate a telephone: 300 to 3400 Hz, 8-bit mu-law."""
    sos = scipy.signal.butter(4, [300, 3400], "bandpass", fs=SAMPLE_RATE, output="sos")
    band = np.clip(scipy.signal.sosfilt(sos, samples), -1, 1)
    code = np.rint(127 * np.sign(band) * np.log1p(255 * np.abs(band)) / np.log(256)) / 127
    return (np.sign(code) * (256 ** np.abs(code) - 1) / 255).astype(np.float32)
