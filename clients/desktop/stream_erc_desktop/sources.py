"""Sources of audio: the interface of microphones and recordings."""

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

SAMPLE_RATE_HZ = 16_000  # the server's own rate; it accepts others too
BLOCK_MS = 40


class SourceError(Exception):
    """A file or a microphone that cannot be used; the message is one line."""


def silent(text: str) -> None:
    """Tell nobody."""


class Source(Protocol):
    """A source of audio: 16 bits, little-endian.

    Attributes:
        live: whether it comes in real time; otherwise it is read as fast as it is sent.
        duration_ms: None if unknown.
        channels: the names of channels that are heard separately, whose samples stand in turn, None for one
            without; None for mono. Known once it is open.
        tell: called with what the user should know, in the thread that iterates.
    """

    name: str
    live: bool
    duration_ms: int | None
    channels: tuple[str | None, ...] | None
    tell: Callable[[str], None]

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate, known once it is open."""

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
