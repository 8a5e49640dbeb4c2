"""Sources of audio: the interface of microphones and recordings."""

from collections.abc import AsyncGenerator
from typing import Protocol

SAMPLE_RATE_HZ = 16_000  # the server's own rate; it accepts others too
BLOCK_MS = 40


class SourceError(Exception):
    """A file or a microphone that cannot be used; the message is one line."""


class Source(Protocol):
    """A source of audio: mono, 16 bits, little-endian.

    Attributes:
        live: whether it comes in real time; otherwise it is read as fast as it is sent.
        sample_rate_hz: known once it is open.
        duration_ms: None if unknown.
    """

    name: str
    live: bool
    sample_rate_hz: int
    duration_ms: int | None

    def open(self) -> None:
        """Open the source; may take a while. Raises SourceError."""

    def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio until its end or `stop`. Raises SourceError."""

    def pause(self, paused: bool) -> None:
        """Pause or continue."""

    def stop(self) -> None:
        """End the iteration."""

    def close(self) -> None:
        """Close the file or the device."""
