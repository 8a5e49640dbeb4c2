"""Files that are dropped on a window."""

from pathlib import Path

from PySide6.QtCore import QEvent, QObject, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QWidget


class DropArea(QObject):
    """Takes files that are dropped on a window.

    Signals:
        over: a file is held over the window, or no longer.
        dropped: the path of the first of the files.
    """

    over = Signal(bool)
    dropped = Signal(object)

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        window.setAcceptDrops(True)
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Look at what is dragged."""
        if isinstance(event, QDragEnterEvent):
            if _files(event):
                event.acceptProposedAction()
                self.over.emit(True)
        elif event.type() is QEvent.Type.DragLeave:
            self.over.emit(False)
        elif isinstance(event, QDropEvent) and event.type() is QEvent.Type.Drop:
            self.over.emit(False)
            files = _files(event)
            if files:
                event.acceptProposedAction()
                # After the drag is over: a question may be asked, and the other program waits until then.
                QTimer.singleShot(0, lambda: self.dropped.emit(files[0]))
        else:
            return False
        return True


def _files(event: QDropEvent) -> list[Path]:
    return [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
