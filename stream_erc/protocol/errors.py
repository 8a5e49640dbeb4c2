"""Error codes of the protocol, and the exception that carries one."""

from collections.abc import Mapping
from types import MappingProxyType

ERRORS: Mapping[str, tuple[int | None, bool]] = MappingProxyType(
    {
        "invalid_message": (None, False),
        "invalid_audio": (None, False),
        "invalid_configuration": (None, False),
        "invalid_turn": (None, False),
        "invalid_speaker": (None, False),
        "invalid_voice": (None, False),
        "invalid_input_id": (None, False),
        "invalid_export": (None, False),
        "out_of_order": (None, False),
        "session_full": (None, False),
        "too_many_errors": (1008, False),
        "authentication": (1008, False),
        "audio_too_fast": (1008, True),
        "too_many_messages": (1008, True),
        "resume_refused": (4404, False),
        "idle": (4408, True),
        "taken_over": (4409, False),
        "slow_reader": (4429, True),
        "server_full": (1013, True),
        "internal": (1011, True),
    }
)
"""Error code -> (close code, or None if the connection stays open; whether a retry may succeed)."""


class Refusal(Exception):
    """An error for the client: what it sent is refused, and nothing of it has been taken in.

    Args:
        code: one of `ERRORS`.
        message: one line, "expected X, got Y".
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.close_code, self.retryable = ERRORS[code]
