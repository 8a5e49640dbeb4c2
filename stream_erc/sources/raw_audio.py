"""Raw samples: streams without a header, whose form is told beforehand."""

from dataclasses import dataclass

from stream_erc.audio import MAX_RATE_HZ, MIN_RATE_HZ
from stream_erc.exceptions import ConfigError

ENCODINGS = ("mulaw", "alaw", "u8", "s16le", "s16be", "s24le", "s32le", "f32le", "f64le")
"""The encodings that are read, as libav names its demuxers."""

MAX_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class RawFormat:
    """The form of raw samples.

    Attributes:
        encoding: one of `ENCODINGS`.
        rate_hz: sample rate.
        channels: the number of interleaved channels.
    """

    encoding: str
    rate_hz: int
    channels: int = 1

    @classmethod
    def parse(cls, text: str) -> "RawFormat":
        """Read ``ENCODING:RATE`` or ``ENCODING:RATE:CHANNELS``, as ``mulaw:8000`` or ``s16le:16000:2``.

        Raises:
            ConfigError: saying what was expected.
        """
        encoding, *numbers = text.split(":")
        whole = [int(number) for number in numbers if number.isascii() and number.isdecimal()]
        if len(whole) != len(numbers) or len(whole) not in (1, 2):
            raise ConfigError(f"expected ENCODING:RATE or ENCODING:RATE:CHANNELS, as s16le:16000, got {text}")
        if encoding not in ENCODINGS:
            raise ConfigError(f"expected one of {', '.join(ENCODINGS)}, got {encoding or 'nothing'}")
        rate_hz, channels = whole[0], whole[1] if len(whole) == 2 else 1
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise ConfigError(f"expected a rate of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {rate_hz}")
        if not 1 <= channels <= MAX_CHANNELS:
            raise ConfigError(f"expected 1 to {MAX_CHANNELS} channels, got {channels}")
        return cls(encoding, rate_hz, channels)

    def options(self) -> dict[str, str]:
        """Return the options of libav's demuxer."""
        return {"sample_rate": str(self.rate_hz), "ch_layout": f"{self.channels}C"}
