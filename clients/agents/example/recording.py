"""A recorded call for the examples: its audio in real time, and its words in place of a speech recognizer."""

import asyncio
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

FRAME_S = 0.02
SILENCE_S = 2.0
"""Silence after the recording, in which its last turn ends."""


class Recording:
    """A WAV file, 16-bit and mono.

    Args:
        path: of the file.

    Raises:
        ValueError: another kind of file.
    """

    def __init__(self, path: Path) -> None:
        try:
            with wave.open(str(path), "rb") as file:
                if (file.getsampwidth(), file.getnchannels()) != (2, 1):
                    kind = f"{8 * file.getsampwidth()}-bit and {file.getnchannels()} channels"
                    raise ValueError(f"{path}: expected 16-bit mono, got {kind}")
                self.rate_hz = file.getframerate()
                self.pcm = file.readframes(file.getnframes())
        except (wave.Error, EOFError) as error:
            raise ValueError(f"{path}: expected a WAV file, got: {error}") from error

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield 20 ms of audio every 20 ms."""
        size = 2 * round(FRAME_S * self.rate_hz)
        audio = self.pcm + bytes(2 * round(SILENCE_S * self.rate_hz))
        began = asyncio.get_running_loop().time()
        for k, at in enumerate(range(0, len(audio), size)):
            await asyncio.sleep(began + k * FRAME_S - asyncio.get_running_loop().time())
            yield audio[at : at + size]


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, without empty lines and comments (#)."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()
