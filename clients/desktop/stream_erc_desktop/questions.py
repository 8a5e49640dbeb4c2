"""The dialogs that ask the user something; they return None, or False, if cancelled."""

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QInputDialog, QLineEdit, QMessageBox, QWidget

from stream_erc_desktop.files import EVENTS, choices

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


def save_path(parent: QWidget, stem: str, exports: Sequence[str]) -> Path | None:
    """Ask where, and as what, to save the conversation; a name without an ending gets that of the kind.

    Args:
        parent: the window.
        stem: the proposed name, without an ending.
        exports: the formats that the server gives.
    """
    kinds = {f"{name} (*.{ending})": ending for name, ending in choices(exports)}
    proposed = f"{stem}.{EVENTS[1]}"
    name, kind = QFileDialog.getSaveFileName(
        parent, "Save the conversation as", proposed, ";;".join(kinds), options=SHORT
    )
    if not name:
        return None
    path, chosen = Path(name), kinds.get(kind, EVENTS[1])
    if path.suffix.removeprefix(".").lower() in {ending.lower() for ending in kinds.values()}:
        # The dialog keeps the proposed ending when another kind is chosen.
        return path.with_suffix(f".{chosen}") if path.name == proposed else path
    return path.with_name(f"{path.name}.{chosen}")


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
