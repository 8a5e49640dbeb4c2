"""The top of the window: title, facts, state of the connection, and the notice bar."""

from collections.abc import Callable

from PySide6.QtCore import QPointF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from stream_erc_desktop.icons import icon
from stream_erc_desktop.model import ConnectionState, Notice, Tone
from stream_erc_desktop.palette import COLOURS, LIGHT, Theme

IN_PROGRESS = (ConnectionState.STARTING, ConnectionState.CONNECTING, ConnectionState.RECONNECTING)
NOTICE_MS = 7_000  # how long a good or plain notice stays; a bad one stays until it is closed


class Dot(QWidget):
    """A coloured dot beside the state of the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = "#808080"
        self.setFixedSize(10, 10)

    def show_colour(self, colour: str) -> None:
        """Set the colour."""
        if colour != self.colour:
            self.colour = colour
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.colour))
        painter.drawEllipse(QPointF(5, 5), 4.5, 4.5)
        painter.end()


class Elided(QLabel):
    """A one-line label that ends in an ellipsis if it does not fit, and has no minimum width."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return a minimum size of no width."""
        return QSize(0, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw as much as fits."""
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        fits = painter.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter, fits)
        painter.end()


class Retry(QWidget):
    """The buttons shown when there is no connection.

    Signals:
        again: connect again.
        elsewhere: connect to another server.
    """

    again = Signal()
    elsewhere = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.same, self.other = QPushButton("Try again"), QPushButton("Another server …")
        self.same.clicked.connect(self.again)
        self.other.clicked.connect(self.elsewhere)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.same)
        layout.addWidget(self.other)


class Header(QWidget):
    """The title, the facts, the connection and the small buttons."""

    def __init__(self) -> None:
        super().__init__()
        self.theme: Theme = LIGHT
        self._connection_state = ConnectionState.CONNECTING
        self.title = Elided("Conversation")
        self.title.setObjectName("title")
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.meta = Elided()
        self.meta.setObjectName("meta")
        self.meta.setTextFormat(Qt.TextFormat.PlainText)
        self.dot = Dot()
        self.status = QLabel()
        self.status.setAccessibleName("Connection")
        self.retry = Retry()
        self.save = self._plain("Save as … (Ctrl+S)")
        self.settings = self._plain("Settings (Ctrl+,)")
        self.help = self._plain("Keyboard shortcuts (F1)")
        self.look = self._plain("Light or dark (Ctrl+T)")
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self.title)
        words.addWidget(self.meta)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(words, 1)
        layout.addWidget(self.dot)
        layout.addSpacing(4)
        layout.addWidget(self.status)
        layout.addSpacing(6)
        layout.addWidget(self.retry)
        layout.addSpacing(6)
        for button in (self.save, self.settings, self.help, self.look):
            layout.addWidget(button)

    def show_connection(self, state: ConnectionState, detail: str, *, retry: bool) -> None:
        """Show the state of the connection, and the retry buttons if asked for."""
        self._connection_state = state
        self.status.setText(state.value + (" …" if state in IN_PROGRESS else ""))
        self.status.setToolTip(detail)
        self.status.setAccessibleDescription(detail)
        self.retry.setVisible(retry)
        self._colour()

    def show_facts(self, title: str, facts: list[str]) -> None:
        """Show the title and the facts of the conversation."""
        if title != self.title.text():
            self.title.setText(title)
        self.meta.setText("  ·  ".join(facts))

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = theme
        buttons = {"save": self.save, "settings": self.settings, "help": self.help, "theme": self.look}
        for name, button in buttons.items():
            button.setIcon(icon(name, theme.soft))
        self._colour()

    def _colour(self) -> None:
        dark = self.theme.name == "dark"
        self.dot.show_colour(
            {
                ConnectionState.CONNECTED: COLOURS["disgust"][dark],
                ConnectionState.FINISHED: self.theme.soft,
                ConnectionState.FAILED: self.theme.error,
            }.get(self._connection_state, COLOURS["joy"][dark])
        )

    def _plain(self, name: str) -> QPushButton:
        button = QPushButton()
        button.setObjectName("plain")
        button.setToolTip(name)
        button.setAccessibleName(name.partition(" (")[0])
        button.setFixedSize(36, 36)
        return button


class NoticeBar(QFrame):
    """A message, which disappears by itself unless it is an error, or to be read by everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("notice")
        self.words = QLabel()
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setWordWrap(True)
        self.more = QPushButton()
        self.more.setObjectName("name")
        self.more.clicked.connect(lambda: self._act())
        self.more.hide()
        self._act: Callable[[], object] = self.hide
        self._on_dismiss: Callable[[], object] = self.hide
        self.shut = QPushButton("Dismiss")
        self.shut.setObjectName("name")
        self.shut.clicked.connect(self._dismiss)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 6, 8, 6)
        layout.addWidget(self.words, 1)
        layout.addWidget(self.more)
        layout.addWidget(self.shut)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.hide)
        self.hide()

    def show_notice(self, notice: Notice) -> None:
        """Show a notice, and announce it to screen readers."""
        self.more.hide()
        self._on_dismiss = self.hide
        self._say(notice)
        if notice.tone is Tone.BAD:
            self._timer.stop()
        else:
            self._timer.start(NOTICE_MS)

    def show_lasting(
        self, text: str, more: str, act: Callable[[], object], on_dismiss: Callable[[], object]
    ) -> None:
        """Show a text until it is dismissed, with a button that tells more.

        Args:
            text: the text.
            more: the button's.
            act: called when the button is pressed.
            on_dismiss: called when the user dismisses it.
        """
        self.more.setText(more)
        self.more.show()
        self._act, self._on_dismiss = act, on_dismiss
        self._timer.stop()
        self._say(Notice(text))

    def _dismiss(self) -> None:
        self.hide()
        self._on_dismiss()

    def _say(self, notice: Notice) -> None:
        self.words.setText(notice.text)
        self.setProperty("tone", notice.tone.value)
        self.style().unpolish(self)
        self.style().polish(self)
        self.show()
        announce(self, notice.text)


def announce(widget: QWidget, text: str) -> None:
    """Have screen readers announce a text, after what they are reading."""
    QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(widget, text))
