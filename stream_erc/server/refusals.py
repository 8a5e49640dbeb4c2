"""The errors that one client is sent: counted, shortened, and too many in a row refused."""

import msgspec

from stream_erc.protocol.encoding import MessageEncoder
from stream_erc.protocol.errors import Refusal
from stream_erc.protocol.messages import Failed
from stream_erc.server.metrics import Telemetry

MAX_CONSECUTIVE_ERRORS = 20
"""Number of errors in a row at which a connection is closed."""

MAX_ERROR_CHARS = 500
"""Length limit for an error's message, which may quote what a client sent."""


class Refusals:
    """The refusals on one connection.

    Args:
        telemetry: counts the errors.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._in_a_row = 0

    def accept(self) -> None:
        """End a row of errors: the client has sent something usable."""
        self._in_a_row = 0

    def refuse(self, refusal: Refusal, encoder: MessageEncoder) -> Failed:
        """Return the error to send for a refusal that leaves the connection open.

        Raises:
            Refusal: `refusal` itself if it closes the connection, or ``too_many_errors``.
        """
        if refusal.close_code is not None:
            raise refusal
        self._in_a_row += 1
        if self._in_a_row >= MAX_CONSECUTIVE_ERRORS:
            raise Refusal(
                "too_many_errors", f"expected a usable message, got {MAX_CONSECUTIVE_ERRORS} errors in a row"
            )
        return self.error(refusal, encoder)

    def error(self, refusal: Refusal, encoder: MessageEncoder) -> Failed:
        """Return the error message of a refusal."""
        envelope, retryable = encoder.envelope(), refusal.retryable
        error = Failed(**envelope, code=refusal.code, message=str(refusal), retryable=retryable)
        return self.count(error)

    def count(self, error: Failed) -> Failed:
        """Count an error in the metrics, and return it with its text in one line."""
        self._telemetry.errors.labels(error.code).inc()
        return msgspec.structs.replace(error, message=_in_one_line(error.message))


def _in_one_line(text: str) -> str:
    """Return a text without line breaks, cut to `MAX_ERROR_CHARS`."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_ERROR_CHARS else f"{line[: MAX_ERROR_CHARS - 4]} ..."
