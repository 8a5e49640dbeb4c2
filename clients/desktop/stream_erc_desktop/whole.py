"""The whole of a conversation by speaker, once the server has said it."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget
from stream_erc_client import SpeakerSummary

from stream_erc_desktop import captions


class WholePanel(QWidget):
    """Each speaker with their share, emotions, shifts and interruptions; hidden before the end."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[SpeakerSummary, ...] = ()
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 12)
        self._rows.setSpacing(2)
        self.setAccessibleName("The whole of the conversation")
        self.hide()

    def show_summary(self, summary: Sequence[SpeakerSummary]) -> None:
        """Show these speakers."""
        if tuple(summary) == self._shown:
            return
        self._shown = tuple(summary)
        while (item := self._rows.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.deleteLater()
        self.setVisible(bool(summary))
        if not summary:
            return
        self._rows.addWidget(_line("heading", "The whole of the conversation"))
        for one in summary:
            name = _line("", one.speaker)
            font = QFont(name.font())
            font.setWeight(QFont.Weight.DemiBold)
            name.setFont(font)
            self._rows.addSpacing(4)
            self._rows.addWidget(name)
            self._rows.addWidget(_line("small", captions.spoken(one)))
            self._rows.addWidget(_line("small", captions.expressed(one)))
            self._rows.addWidget(_line("small", captions.changes(one)))
        self.setAccessibleDescription(
            ". ".join(f"{one.speaker}: {captions.spoken(one)}; {captions.changes(one)}" for one in summary)
        )


def _line(name: str, text: str) -> QLabel:
    label = QLabel(text)
    label.setObjectName(name)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    return label
