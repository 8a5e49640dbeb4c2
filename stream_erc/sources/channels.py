"""The channels of a recording: mixed to one, or heard separately, and which of both suits a recording."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import sanitize
from stream_erc.config import check_channels
from stream_erc.exceptions import AudioError, ConfigError
from stream_erc.sources.audio_files import AudioFile

ChannelChoice: TypeAlias = Literal["auto", "mix", "separate"] | tuple[str, ...]
"""What to do with the channels: look, mix them, or hear them separately, with a name for each or without."""

LOOK_S = 600
"""Length of the beginning of a recording, in seconds, that `carry_different_speech` looks at."""

FRAME_S = 0.05
RANGE_DB = 30.0
"""A frame is active if it is at most this far below the recording's loud frames."""

APART_DB = 12.0
"""A channel is alone in a frame if the other one is so much weaker."""

MIN_SHARE_EACH, MIN_SHARE_BOTH = 0.05, 0.5
"""Shares of the active frames in which each of two channels, and either, must be alone."""


def choose_channels(audio: AudioFile, choice: ChannelChoice) -> tuple[str | None, ...] | None:
    """Return the name of each channel to hear separately, None for one without; None to mix them.

    Args:
        audio: the recording.
        choice: what was asked for. ``auto`` mixes, except two channels that carry different speech, and
            mixes what cannot be read twice, a pipe.

    Raises:
        ConfigError: more or fewer names than channels, or more channels than can be heard separately.
        AudioError: the recording cannot be read.
    """
    if choice == "mix":
        return None
    if choice == "auto":
        looked_at = audio.channels == 2 and audio.repeatable
        return (None, None) if looked_at and carry_different_speech(audio) else None
    names: tuple[str | None, ...] = (None,) * audio.channels if choice == "separate" else choice
    if len(names) != audio.channels:
        raise ConfigError(
            f"--channels: expected a name for each of {audio.channels} channel(s), got {len(names)}: "
            f"{', '.join(choice)}"
        )
    check_channels(names)
    return names


def carry_different_speech(audio: AudioFile) -> bool:
    """Return whether the two channels of a recording carry different speech, as the two ends of a call do.

    In a call, one channel is nearly silent while the other one speaks, in both directions; in a stereo
    recording of a room or of music, both are heard nearly all the time. It looks at the first `LOOK_S`
    seconds.

    Raises:
        AudioError: the recording has no samples that can be read.
    """
    levels = _levels_db(audio)
    if not len(levels):
        return False
    louder = levels.max(axis=1)
    active = levels[louder >= np.percentile(louder, 95) - RANGE_DB]
    apart = active[:, 0] - active[:, 1]
    first, second = float(np.mean(apart >= APART_DB)), float(np.mean(apart <= -APART_DB))
    return min(first, second) >= MIN_SHARE_EACH and first + second >= MIN_SHARE_BOTH


def _levels_db(audio: AudioFile) -> NDArray[np.float64]:
    """Return the level of each frame in each of two channels, (frames, 2), relative to full scale."""
    blocks: list[NDArray[np.float64]] = []
    rest = np.zeros((0, 2), dtype=np.float32)
    size, rate_hz, count = 0, 0, 0
    try:
        for decoded in audio.frames():
            rate, samples = decoded.rate_hz, decoded.samples
            if samples.shape[1] != 2:
                break
            if rate != rate_hz:
                rest, rate_hz, size = rest[:0], rate, round(rate * FRAME_S)
            rest = np.concatenate([rest, samples])
            whole = len(rest) // size
            if not whole:
                continue
            frames = sanitize(rest[: whole * size]).astype(np.float64).reshape(whole, size, 2)
            blocks.append((frames**2).mean(axis=1))
            rest = rest[whole * size :]
            count += whole
            if count * FRAME_S >= LOOK_S:
                break
    except AudioError:
        if not blocks:
            raise  # otherwise whoever hears it comes to the fault
    power = np.concatenate(blocks) if blocks else np.zeros((0, 2))
    return np.asarray(10 * np.log10(power + 1e-10))[: round(LOOK_S / FRAME_S)]
