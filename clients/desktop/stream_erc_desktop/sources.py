"""What audio comes from: a microphone or a recording."""

from collections.abc import AsyncGenerator
from typing import Protocol

SAMPLE_RATE_HZ = 16_000  # what the server works at; other rates are taken too
BLOCK_MS = 40


class SourceError(Exception):
    """A file or a microphone that cannot be used; one line says why."""


class Source(Protocol):
    """Audio: mono, 16 bits, little-endian.

    Attributes:
        live: it comes as it is spoken; False where it is read as fast as it is taken.
        sample_rate_hz: known once it is open.
        duration_ms: None where nobody knows.
    """

    name: str
    live: bool
    sample_rate_hz: int
    duration_ms: int | None

    def open(self) -> None:
        """Get ready; may take a while. Raises SourceError."""

    def blocks(self) -> AsyncGenerator[bytes, None]:
        """The audio as it comes, until its end or `stop`. Raises SourceError."""

    def pause(self, paused: bool) -> None:
        """Stop for a while, or go on."""

    def stop(self) -> None:
        """End it."""

    def close(self) -> None:
        """Let the file or the device go."""
