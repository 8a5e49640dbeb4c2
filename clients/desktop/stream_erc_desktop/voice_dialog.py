"""The dialog that names the voice of a turn, with what the person agrees to."""

from collections.abc import Sequence

from PySide6.QtWidgets import QCheckBox, QComboBox, QDialog, QDialogButtonBox, QLabel, QVBoxLayout, QWidget

MAX_NAME = 100  # characters, the protocol's limit
CONSENT = (
    "Only with the person's consent: the server stores numbers that tell this voice from others, no audio"
)
WIDTH = 460
FOR_NOW = "until this conversation is over."
KEPT = "until whoever runs it removes them (stream-erc voices remove)."


class VoiceDialog(QDialog):
    """Asks for the name of a turn's voice, and whether the server keeps it.

    Args:
        parent: the window.
        speaker: the present name of the turn's speaker.
        names: names to choose from.
        keeps: whether the server keeps voices for later conversations.
    """

    def __init__(self, parent: QWidget, speaker: str, names: Sequence[str], *, keeps: bool) -> None:
        super().__init__(parent)
        self.setWindowTitle("Name this voice")
        self.setFixedWidth(WIDTH)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(24, 20, 24, 20)
        layout.setSpacing(12)
        says = QLabel(f"All turns of {speaker} get the name, and the voice is recognized from now on.")
        says.setWordWrap(True)
        layout.addWidget(says)
        self.name = QComboBox()
        self.name.setEditable(True)
        self.name.addItems(names)
        self.name.setCurrentText("")
        self.name.setAccessibleName("The person's name")
        field = self.name.lineEdit()
        assert field is not None
        field.setMaxLength(MAX_NAME)
        field.setPlaceholderText("The person's name")
        layout.addWidget(self.name)
        self.keep = QCheckBox("&Keep it on the server for later conversations")
        self.keep.setVisible(keeps)
        self.keep.toggled.connect(self._show_consent)
        layout.addWidget(self.keep)
        self.consent = QLabel()
        self.consent.setObjectName("soft")
        self.consent.setWordWrap(True)
        layout.addWidget(self.consent)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout.addWidget(buttons)
        self._show_consent()
        self.name.setFocus()

    @property
    def chosen(self) -> str:
        """The name that was typed or chosen."""
        return self.name.currentText().strip()

    def accept(self) -> None:
        """Close the dialog, unless there is no name yet."""
        if self.chosen:
            super().accept()

    def _show_consent(self) -> None:
        self.consent.setText(f"{CONSENT}, {KEPT if self.keep.isChecked() else FOR_NOW}")
        layout = self.layout()
        assert layout is not None
        self.setFixedHeight(layout.totalHeightForWidth(WIDTH))
