"""The dialogs that ask the user something; they return None, or False, if cancelled."""

from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QInputDialog, QLineEdit, QMessageBox, QWidget

TITLE = "Stream ERC"
RECORDINGS = (
    "Recordings (*.wav *.flac *.mp3 *.m4a *.aac *.ogg *.opus *.mp4 *.mkv *.webm *.mov);;All files (*)"
)
SHORT = QFileDialog.Option.HideNameFilterDetails  # show "Recordings" without its file extensions


def may_discard(parent: QWidget) -> bool:
    """Ask whether an unsaved conversation may be discarded."""
    buttons = QMessageBox.StandardButton
    question = "The conversation is not saved. Discard it?"
    answer = QMessageBox.question(parent, TITLE, question, buttons.Discard | buttons.Cancel, buttons.Cancel)
    return answer == buttons.Discard


def recording(parent: QWidget) -> Path | None:
    """Ask for a recording."""
    name, _ = QFileDialog.getOpenFileName(parent, "Open a recording", "", RECORDINGS, options=SHORT)
    return Path(name) if name else None


def save_path(parent: QWidget) -> Path | None:
    """Ask where to save the events."""
    proposed, kinds = "events.jsonl", "Events (*.jsonl)"
    name, _ = QFileDialog.getSaveFileName(parent, "Save the events", proposed, kinds, options=SHORT)
    return Path(name) if name else None


def server(parent: QWidget, url: str) -> str | None:
    """Ask for the address of a server."""
    visible = QLineEdit.EchoMode.Normal
    text, accepted = QInputDialog.getText(parent, TITLE, "The server's address", visible, url)
    return text.strip() or None if accepted else None


def token(parent: QWidget) -> str | None:
    """Ask for the server's token."""
    prompt, hidden = "This server asks for a token", QLineEdit.EchoMode.Password
    text, accepted = QInputDialog.getText(parent, TITLE, prompt, hidden)
    return text.strip() or None if accepted else None
