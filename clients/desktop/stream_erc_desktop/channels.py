"""Channels that are heard separately: mixed for eye and ear, and whether two of them differ. No Qt."""

from collections.abc import Iterable

import numpy as np

# As in stream_erc/sources/channels.py: the beginning that is looked at, the length of a frame, how far below
# the loud frames a frame is silent, from which difference on one channel is alone, and in how many frames.
LOOK_S = 600
FRAME_MS = 50
RANGE_DB = 30.0
APART_DB = 12.0
MIN_SHARE_EACH, MIN_SHARE_BOTH = 0.05, 0.5


def mix(pcm: bytes, channels: int) -> bytes:
    """Return the mean of channels.

    Args:
        pcm: 16 bits, little-endian, the samples of the channels in turn.
        channels: their number.
    """
    if channels == 1:
        return pcm
    mixed: bytes = np.frombuffer(pcm, "<i2").reshape(-1, channels).mean(1).astype("<i2").tobytes()
    return mixed


def carry_different_speech(blocks: Iterable[bytes], sample_rate_hz: int) -> bool:
    """Return whether two channels carry different speech, as the two ends of a call do.

    One is nearly silent while the other one speaks, in both directions.

    Args:
        blocks: the samples of the two channels in turn, 16 bits; only the first `LOOK_S` seconds are read.
        sample_rate_hz: samples a second.
    """
    size = sample_rate_hz * FRAME_MS // 1_000
    powers, rest, frames = [], np.zeros((0, 2)), 0
    for block in blocks:
        rest = np.concatenate([rest, np.frombuffer(block, "<i2").reshape(-1, 2) / 32_768.0])
        whole = len(rest) // size
        powers.append((rest[: whole * size].reshape(whole, size, 2) ** 2).mean(axis=1))
        rest = rest[whole * size :]
        frames += whole
        if frames * FRAME_MS >= LOOK_S * 1_000:
            break
    if not frames:
        return False
    levels = 10 * np.log10(np.concatenate(powers) + 1e-10)
    louder = levels.max(axis=1)
    active = levels[louder >= np.percentile(louder, 95) - RANGE_DB]
    apart = active[:, 0] - active[:, 1]
    first, second = float(np.mean(apart >= APART_DB)), float(np.mean(apart <= -APART_DB))
    return min(first, second) >= MIN_SHARE_EACH and first + second >= MIN_SHARE_BOTH
