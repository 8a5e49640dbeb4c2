"""The program that started the window and brings up its server: one line from it tells what came of that."""

import sys
import threading
from typing import BinaryIO

from PySide6.QtCore import QObject, Signal

ENDED = "It ended before it was ready; the terminal it was started from may say why."


class Host(QObject):
    """Tells ``ready URL`` or ``failed REASON``, a line each; is asked by the line ``again`` to try once more.

    Signals:
        ready: the server's URL.
        failed: why there is no server.
    """

    ready = Signal(str)
    failed = Signal(str)

    def __init__(self, told: BinaryIO, asked: BinaryIO) -> None:
        super().__init__()
        self._told, self._asked = told, asked

    def listen(self) -> None:
        """Begin to be told."""
        threading.Thread(target=self._listen, name="host", daemon=True).start()

    def again(self) -> None:
        """Ask for another try."""
        try:
            self._asked.write(b"again\n")
            self._asked.flush()
        except OSError:
            self.failed.emit(ENDED)

    def _listen(self) -> None:
        for line in self._told:
            kind, _, rest = line.decode(errors="replace").strip().partition(" ")
            if kind == "ready":
                self.ready.emit(rest)
                return
            self.failed.emit(rest)
        self.failed.emit(ENDED)


def host_of_this_window() -> Host:
    """The one that speaks to standard input and hears standard output."""
    # Not sys.stdin: a thread that waits in its buffer would keep the program from ending.
    return Host(open(0, "rb", buffering=0, closefd=False), sys.stdout.buffer)
