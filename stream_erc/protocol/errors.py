"""What a client can be told that went wrong, and what follows from it."""

from collections.abc import Mapping
from types import MappingProxyType

ERRORS: Mapping[str, tuple[int | None, bool]] = MappingProxyType(
    {
        "invalid_message": (None, False),
        "invalid_audio": (None, False),
        "invalid_configuration": (None, False),
        "invalid_turn": (None, False),
        "invalid_speaker": (None, False),
        "invalid_input_id": (None, False),
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
"""Error code -> (the code with which the connection is closed, or None; whether the same may work later)."""


class Refusal(Exception):
    """Something a client sent that cannot be used; nothing of it has been taken in.

    Args:
        code: one of `ERRORS`.
        message: what was expected and what came.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.close_code, self.retryable = ERRORS[code]
