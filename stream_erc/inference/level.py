"""The speech level of a segment, and scaling to another level."""

import numpy as np

from stream_erc.events import Samples

SILENCE_DBFS = -80.0
"""A segment whose loudest frames are below this level contains only rounding noise."""

_FRAME = 320  # 20 ms


def speech_level_dbfs(samples: Samples) -> float:
    """Return the active speech level in dB re full scale (RMS 1), -inf for silence.

    It is the mean power of the 20 ms frames within 20 dB of the loudest ones, so pauses and the silence at
    both ends of a segment do not count.
    """
    whole = len(samples) // _FRAME * _FRAME
    frames = (samples[:whole] if whole else samples).reshape(-1, _FRAME if whole else len(samples))
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)  # (frames,)
    loudest = float(np.quantile(power, 0.95)) if len(power) else 0.0
    if loudest <= 10 ** (SILENCE_DBFS / 10):
        return -np.inf
    return float(10 * np.log10(np.mean(power[power >= loudest / 100])))


def at_level(samples: Samples, level_dbfs: float) -> Samples:
    """Scale audio so that its speech is at `level_dbfs`; silence is returned unchanged."""
    came = speech_level_dbfs(samples)
    if not np.isfinite(came):
        return samples
    return (samples * np.float32(10 ** ((level_dbfs - came) / 20))).astype(np.float32)
