"""The settings dialog: the configuration of the next conversation, and the look of the window."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QWidget,
)

from stream_erc_desktop.feed import Options
from stream_erc_desktop.preferences import CHANNELS, LOOKS, Preferences

MAX_SPEAKERS = 16  # the protocol's limit
SERVER_DEFAULT = "Server default"


class SettingsDialog(QDialog):
    """The settings that the server offers, and those of the window."""

    def __init__(
        self,
        parent: QWidget,
        preferences: Preferences,
        *,
        models: Sequence[str],
        languages: Sequence[str],
        voices: Sequence[str],
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Settings")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._preferences, options = preferences, preferences.options
        default = f"{SERVER_DEFAULT} ({models[0]})" if models else SERVER_DEFAULT
        self.model = _choice((None, default), *((name, name) for name in models))
        self.language = _choice((None, SERVER_DEFAULT), *((code, code) for code in languages))
        self.model.setCurrentIndex(max(0, self.model.findData(options.model)))
        if options.language is not None and self.language.findData(options.language) < 0:
            self.language.addItem(options.language, options.language)
        self.language.setCurrentIndex(max(0, self.language.findData(options.language)))
        self.speakers = _choice((None, "Not known"), *((n, str(n)) for n in range(1, MAX_SPEAKERS + 1)))
        self.speakers.setCurrentIndex(options.speakers or 0)
        self.partials = QCheckBox("Show words while they are spoken")
        self.partials.setChecked(options.partials)
        self.voices = QCheckBox("Recognize the voices that the server knows")
        self.voices.setChecked(options.voices)
        self.voices.setToolTip(", ".join(voices))
        self.voices.setVisible(bool(voices))
        self.pace = _choice((True, "As they are spoken"), (False, "As fast as the server can"))
        self.pace.setCurrentIndex(0 if preferences.live else 1)
        self.channels = _choice(*CHANNELS.items())
        self.channels.setCurrentIndex(list(CHANNELS).index(preferences.channels))
        self.look = _choice(*LOOKS.items())
        self.look.setCurrentIndex(list(LOOKS).index(preferences.look))
        form = QFormLayout(self)
        form.setContentsMargins(24, 20, 24, 20)
        form.setSpacing(12)
        form.addRow("&Model", self.model)
        form.addRow("&Language", self.language)
        form.addRow("&Speakers", self.speakers)
        form.addRow("", self.partials)
        if voices:
            form.addRow("", self.voices)
        form.addRow("&Channels", self.channels)
        form.addRow("&Files", self.pace)
        form.addRow("&Look", self.look)
        note = QLabel("Everything but the look applies from the next conversation on.")
        note.setObjectName("soft")
        form.addRow("", note)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        form.addRow(buttons)

    def accept(self) -> None:
        """Save the choices."""
        self._preferences.options = Options(
            model=self.model.currentData(),
            language=self.language.currentData(),
            speakers=self.speakers.currentData(),
            partials=self.partials.isChecked(),
            voices=self.voices.isChecked(),
        )
        self._preferences.channels = self.channels.currentData()
        self._preferences.live = bool(self.pace.currentData())
        self._preferences.look = self.look.currentData()
        super().accept()


def _choice(*items: tuple[object, str]) -> QComboBox:
    box = QComboBox()
    for data, text in items:
        box.addItem(text, data)
    return box
