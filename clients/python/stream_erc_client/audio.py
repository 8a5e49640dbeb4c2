"""WAV files as 16-bit audio."""

from __future__ import annotations

import array
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from stream_erc_client.errors import AudioError

CHUNK_MS = 40
TO_SIGNED = bytes(value ^ 0x80 for value in range(256))  # 8-bit samples are the only unsigned ones


class WavFile:
    """A WAV file of integer samples.

    Args:
        path: the file.

    Attributes:
        sample_rate_hz: its sample rate.
        channels: the number of its channels.
        duration_ms: the duration in its header.

    Raises:
        AudioError: no such file, not a WAV file, another sample format, or no samples.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._wave = wave.open(str(path), "rb")
        except OSError as error:
            raise AudioError(f"{path}: expected a WAV file, got {error.strerror or error}") from error
        except (wave.Error, EOFError) as error:
            raise AudioError(f"{path}: expected a WAV file of integers, got {error or 'its end'}") from error
        self.sample_rate_hz, self.channels = self._wave.getframerate(), self._wave.getnchannels()
        if not self.sample_rate_hz or not self._wave.getnframes():
            self._wave.close()
            raise AudioError(f"{path}: expected audio, got a file without samples, or at 0 Hz")
        self.duration_ms = self._wave.getnframes() * 1000 / self.sample_rate_hz

    def __enter__(self) -> WavFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._wave.close()

    def chunks(self, chunk_ms: int = CHUNK_MS, *, separate: bool = False) -> Iterator[bytes]:
        """Yield signed 16-bit little-endian samples in chunks of `chunk_ms`; the last one may be shorter.

        Args:
            chunk_ms: length of a chunk.
            separate: whether channels stay separate, interleaved; otherwise they are averaged.
        """
        width, channels = self._wave.getsampwidth(), self.channels
        size = max(1, self.sample_rate_hz * chunk_ms // 1000)
        while data := self._wave.readframes(size):
            whole = len(data) // (width * channels) * width * channels  # a file may end within a frame
            samples = _sixteen_bits(data[:whole], width)
            yield samples if separate else _mono(samples, channels)


def _sixteen_bits(data: bytes, width: int) -> bytes:
    """Return the two upper bytes of every sample."""
    if width == 2:
        return data
    wide = bytearray(len(data) // width * 2)
    wide[1::2] = data.translate(TO_SIGNED) if width == 1 else data[width - 1 :: width]
    if width > 1:
        wide[0::2] = data[width - 2 :: width]
    return bytes(wide)


def _mono(data: bytes, channels: int) -> bytes:
    """Return the mean of the channels, 16-bit little-endian."""
    if channels == 1:
        return data
    samples = array.array("h", data)
    if sys.byteorder == "big":
        samples.byteswap()
    by_channel = [samples[channel::channels] for channel in range(channels)]
    mean = array.array("h", (sum(frame) // channels for frame in zip(*by_channel)))  # noqa: B905 - same length
    if sys.byteorder == "big":
        mean.byteswap()
    return mean.tobytes()
