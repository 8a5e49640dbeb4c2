"""The events of a conversation, in an unnamed temporary file until they are saved."""

import json
import tempfile
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from shutil import copyfileobj

from stream_erc_client import (
    Failed,
    SessionClosed,
    SessionCreated,
    SessionUpdated,
    SpeakerUpdated,
    SpeechStarted,
    SpeechStopped,
    TurnFailed,
    TurnFinal,
    TurnPartial,
    TurnRevised,
    Unknown,
    VoiceEnrolled,
    Warned,
)

KEPT = (
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TurnPartial,
    TurnFinal,
    TurnRevised,
    TurnFailed,
    SpeakerUpdated,
    VoiceEnrolled,
    Warned,
    Failed,
    SessionClosed,
    Unknown,
)
"""Events of the conversation; the others concern the connection."""

SECRET = "resume_token"  # whoever has it can take over the session


class EventLog:
    """The events so far, on disk, so that a long conversation takes no memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")

    def append(self, event: object) -> None:
        """Write an event of the conversation; ignore others."""
        if isinstance(event, KEPT):
            self._file.write(to_json(event) + "\n")

    def copy_to(self, path: Path) -> None:
        """Write the events so far to a file, one a line.

        Raises:
            OSError: it cannot be written.
        """
        self._file.flush()
        end = self._file.tell()
        self._file.seek(0)
        try:
            partial = path.with_name(f".{path.name}.part")
            with partial.open("w", encoding="utf-8", newline="\n") as out:
                copyfileobj(self._file, out)
            partial.replace(path)
        finally:
            self._file.seek(end)

    def clear(self) -> None:
        """Remove all events."""
        self._file.seek(0)
        self._file.truncate()

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._file.close()


def to_json(event: object) -> str:
    """Return an event as the server sent it, without the secret."""
    if isinstance(event, Unknown):
        message = {"type": event.type, **event.fields}
    else:
        optional = {field.name for field in fields(event) if field.default is not MISSING}  # type: ignore[arg-type]
        values = asdict(event)  # type: ignore[call-overload]
        sent = {name: value for name, value in values.items() if value is not None or name not in optional}
        message = {"type": event.type, **sent}  # type: ignore[attr-defined]
    message.pop(SECRET, None)
    return json.dumps(message, ensure_ascii=False, allow_nan=False)
