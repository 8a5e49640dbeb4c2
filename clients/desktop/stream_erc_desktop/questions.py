"""What the window asks the user; None, or False, where it is not answered."""

from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QInputDialog, QLineEdit, QMessageBox, QWidget

TITLE = "Stream ERC"
RECORDINGS = (
    "Recordings (*.wav *.flac *.mp3 *.m4a *.aac *.ogg *.opus *.mp4 *.mkv *.webm *.mov);;All files (*)"
)
SHORT = QFileDialog.Option.HideNameFilterDetails  # "Recordings", without all the endings


def may_discard(parent: QWidget) -> bool:
    """Whether a conversation that is not saved may go."""
    buttons = QMessageBox.StandardButton
    question = "The conversation is not saved. Go on without it?"
    answer = QMessageBox.question(parent, TITLE, question, buttons.Discard | buttons.Cancel, buttons.Cancel)
    return answer == buttons.Discard


def recording(parent: QWidget) -> Path | None:
    """Which file to hear."""
    name, _ = QFileDialog.getOpenFileName(parent, "Open a recording", "", RECORDINGS, options=SHORT)
    return Path(name) if name else None


def place(parent: QWidget) -> Path | None:
    """Where to write the events."""
    proposed, kinds = "events.jsonl", "Events (*.jsonl)"
    name, _ = QFileDialog.getSaveFileName(parent, "Save the events", proposed, kinds, options=SHORT)
    return Path(name) if name else None


def server(parent: QWidget, url: str) -> str | None:
    """Which server to speak to."""
    usual = QLineEdit.EchoMode.Normal
    given, said = QInputDialog.getText(parent, TITLE, "The server's address", usual, url)
    return given.strip() or None if said else None


def token(parent: QWidget) -> str | None:
    """The server's token."""
    words, hidden = "The server asks for a token.", QLineEdit.EchoMode.Password
    given, said = QInputDialog.getText(parent, TITLE, words, hidden)
    return given.strip() or None if said else None
