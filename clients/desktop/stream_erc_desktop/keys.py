"""The keyboard: shortcuts, their list, and the space bar."""

from collections.abc import Callable, Mapping

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QWidget,
)

SHORTCUTS = (
    ("R", "start listening; stop; finish"),
    ("Ctrl+Enter", "finish: process the last turns, then show the whole of the conversation"),
    ("Ctrl+O", "open a recording"),
    ("Space", "talk while it is held (push to talk); pause a recording"),
    ("P", "push to talk on or off"),
    ("↑ ↓", "turn by turn in the transcript"),
    ("L", "hear the turn again, or stop it; a click on its time does it too"),
    ("1 … 9", "say who spoke the turn: the first speaker, the second …"),
    ("Enter", "say who spoke the turn, from a list"),
    ("Esc", "deselect the turn, and go to the newest"),
    ("F2", "rename the speaker of the turn"),
    ("F / W", "follow the newest audio / show the whole conversation"),
    ("+ / -", "zoom; the mouse wheel does it too"),
    ("Ctrl+S", "save as …: events, subtitles, tables, annotations"),
    ("Ctrl+,", "settings"),
    ("Ctrl+T", "light or dark"),
    ("Ctrl+Q", "quit"),
)


def add_shortcuts(window: QWidget, actions: Mapping[str, Callable[[], object]]) -> None:
    """Add shortcuts that act wherever the focus is, except that text fields keep their letters."""
    for key, act in actions.items():
        QShortcut(QKeySequence(key), window, act)


def show_shortcuts(window: QWidget) -> None:
    """Show the list of shortcuts."""
    rows = "".join(
        f"<tr><td><b>{key}</b>&nbsp;&nbsp;&nbsp;</td><td>{what}</td></tr>" for key, what in SHORTCUTS
    )
    box = QMessageBox(window)
    box.setWindowTitle("Keyboard shortcuts")
    box.setText(f"<table cellpadding='3'>{rows}</table>")
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.open()


def application() -> QApplication:
    """Return the running application."""
    running = QApplication.instance()
    assert isinstance(running, QApplication)
    return running


class SpaceBar(QObject):
    """The space bar: it talks while held, or pauses, except in text fields, dialogs and menus.

    Args:
        window: the bar acts only while this window is active.
        talk: called with True when the bar is pressed and False when released; returns whether it acted.
        pause: called when the bar is pressed and `talk` did not act; returns whether it acted.
    """

    KINDS = (QEvent.Type.KeyPress, QEvent.Type.KeyRelease, QEvent.Type.ShortcutOverride)

    def __init__(self, window: QWidget, talk: Callable[[bool], bool], pause: Callable[[], bool]) -> None:
        super().__init__(window)
        self._window, self._talk, self._pause = window, talk, pause
        application().installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Consume the key if `talk` or `pause` acts on it."""
        if event.type() not in self.KINDS or not isinstance(event, QKeyEvent):
            return False
        if event.key() != Qt.Key.Key_Space or event.modifiers() or not self._window.isActiveWindow():
            return False
        focus = QApplication.focusWidget()
        if isinstance(focus, QLineEdit | QComboBox | QAbstractSpinBox):
            return False
        if QApplication.activeModalWidget() is not None or QApplication.activePopupWidget() is not None:
            return False
        if event.type() is QEvent.Type.ShortcutOverride or event.isAutoRepeat():
            return False
        down = event.type() is QEvent.Type.KeyPress
        if self._talk(down):
            return True
        return down and not isinstance(focus, QPushButton) and self._pause()
