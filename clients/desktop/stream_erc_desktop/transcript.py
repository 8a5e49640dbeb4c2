"""The transcript: speakers and words, grey until they are final, with the expressed emotion."""

from collections.abc import Sequence

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QAbstractItemView, QInputDialog, QListView, QMenu, QWidget

from stream_erc_desktop.model import Turn
from stream_erc_desktop.palette import EmotionStyle, Theme
from stream_erc_desktop.rows import TURN, TurnDelegate, TurnList, on_name, on_time

MAX_NAME = 100  # characters, the protocol's limit


class Transcript(QListView):
    """The list of turns.

    Signals:
        chosen: index of the turn selected by click or key.
        left: no turn is selected any more; the newest one is shown.
        corrected: a turn's index and its corrected speaker.
        voice_asked: the turn whose voice is to be named.
        again: the turn whose time was clicked, to be played.
    """

    chosen = Signal(int)
    left = Signal()
    corrected = Signal(int, str)
    voice_asked = Signal(object)
    again = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.speakers: list[str] = []
        self.list = TurnList()
        self._delegate = TurnDelegate(self)
        self.setModel(self.list)
        self.setItemDelegate(self._delegate)
        self.setAccessibleName("Transcript")
        self.setFrameShape(self.Shape.NoFrame)
        self.setMouseTracking(True)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.selectionModel().currentChanged.connect(self._moved)
        self._at_end = True
        bar = self.verticalScrollBar()
        bar.valueChanged.connect(self._scrolled)
        bar.rangeChanged.connect(self._stay_at_end)

    def show_turns(
        self, turns: Sequence[Turn], speakers: Sequence[str], styles: dict[str, EmotionStyle]
    ) -> None:
        """Show the turns; the newest stays in view unless the user scrolled away from it."""
        self._delegate.styles, self.speakers = styles, list(speakers)
        if self._at_end:
            self.list.sync(turns)
            return
        first = QPersistentModelIndex(self.indexAt(QPoint(1, 1)))
        top = self.visualRect(QModelIndex(first)).top()
        self.list.sync(turns)
        if first.isValid():  # rows above may have grown: what the user looks at stays where it is
            grown = self.visualRect(QModelIndex(first)).top() - top
            self.verticalScrollBar().setValue(self.verticalScrollBar().value() + grown)

    def select(self, turn: int) -> None:
        """Select a turn."""
        for row, known in enumerate(self.list.turns):
            if known.index == turn and self.currentIndex().row() != row:
                self.setCurrentIndex(self.list.index(row))

    def show_playing(self, turn: int | None) -> None:
        """Mark the turn being played, None for none."""
        self._delegate.playing = turn
        self.viewport().update()

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        self._delegate.set_theme(theme)
        self.viewport().update()

    @property
    def current_turn(self) -> Turn | None:
        """The selected turn."""
        turn: Turn | None = self.currentIndex().data(TURN) if self.currentIndex().isValid() else None
        return turn

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Ask for the speaker on Enter, set it on a digit (1 is the first lane), deselect on Escape."""
        turn = self.current_turn
        if turn is not None and event.key() == Qt.Key.Key_Escape:
            self.setCurrentIndex(QModelIndex())
            self.scrollToBottom()
            return
        if turn is not None and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._ask_who(turn, self.viewport().mapToGlobal(self.visualRect(self.currentIndex()).center()))
        elif turn is not None and event.text().isdecimal() and not event.modifiers():
            number = int(event.text())
            if 1 <= number <= len(self.speakers):
                self._correct(turn, self.speakers[number - 1])
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:  # noqa: N802
        """Ask for the turn's speaker."""
        turn = self.indexAt(event.pos()).data(TURN)
        if turn is not None:
            self._ask_who(turn, event.globalPos())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Ask for the speaker on a click on the name; play the turn on a click on the time."""
        super().mouseReleaseEvent(event)
        turn, x = self.indexAt(event.position().toPoint()).data(TURN), event.position().x()
        if turn is None or event.button() is not Qt.MouseButton.LeftButton:
            return
        if on_name(x):
            self._ask_who(turn, event.globalPosition().toPoint())
        elif on_time(x) and not turn.partial:
            self.again.emit(turn)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Show a pointing hand over a name or a time."""
        super().mouseMoveEvent(event)
        x = event.position().x()
        over = self.indexAt(event.position().toPoint()).isValid() and (on_name(x) or on_time(x))
        self.viewport().setCursor(Qt.CursorShape.PointingHandCursor if over else Qt.CursorShape.ArrowCursor)

    def who_menu(self, turn: Turn) -> QMenu:
        """Build the menu of the known speakers and of a new one."""
        menu = QMenu(self)
        menu.setAccessibleName("Who said this?")
        menu.addAction("Who said this?").setEnabled(False)
        for number, speaker in enumerate(self.speakers, 1):
            action = menu.addAction(f"{speaker}\t{number}" if number < 10 else speaker)
            action.setCheckable(True)
            action.setChecked(speaker == turn.speaker)
            action.triggered.connect(lambda _=False, name=speaker: self._correct(turn, name))
        menu.addSeparator()
        menu.addAction("Somebody else …", lambda: self._ask_name(turn))
        menu.addAction("Name this voice …", lambda: self.voice_asked.emit(turn))
        return menu

    def _ask_who(self, turn: Turn, where: QPoint) -> None:
        if turn.partial:
            return
        menu = self.who_menu(turn)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(where)

    def _ask_name(self, turn: Turn) -> None:
        name, given = QInputDialog.getText(self, "Who said this?", "A new name")
        if given:
            self._correct(turn, name.strip()[:MAX_NAME])

    def _correct(self, turn: Turn, speaker: str) -> None:
        if speaker and speaker != turn.speaker and not turn.partial:
            self.corrected.emit(turn.index, speaker)

    def _scrolled(self, value: int) -> None:
        self._at_end = value >= self.verticalScrollBar().maximum() - 4

    def _stay_at_end(self, _: int, end: int) -> None:
        if self._at_end:
            self.verticalScrollBar().setValue(end)

    def _moved(self, current: QModelIndex) -> None:
        turn = current.data(TURN)
        if turn is not None:
            self.chosen.emit(turn.index)
        else:
            self.left.emit()
