"""Dropping files on a window."""

from pathlib import Path

from PySide6.QtCore import QEvent, QObject, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QWidget


class DropArea(QObject):
    """A drop target for files, over a whole window.

    Signals:
        over: whether a file is being dragged over the window.
        dropped: the path of the first file.
    """

    over = Signal(bool)
    dropped = Signal(object)

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        window.setAcceptDrops(True)
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Handle drag and drop events of files."""
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
                # Only after the drag has ended: a dialog may open, and the other program would wait for it.
                QTimer.singleShot(0, lambda: self.dropped.emit(files[0]))
        else:
            return False
        return True


def _files(event: QDropEvent) -> list[Path]:
    return [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
