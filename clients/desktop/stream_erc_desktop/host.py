"""The program that started the window and starts its server: it reports the result in one line."""

import sys
import threading
from typing import BinaryIO

from PySide6.QtCore import QObject, Signal

ENDED = "The server ended before it was ready; the terminal from which it was started may say why."


class Host(QObject):
    """The connection to that program.

    It writes ``ready URL`` or ``failed REASON``, one a line; the line ``again`` asks it for another attempt.

    Args:
        lines: the lines that it writes.
        requests: takes the lines that it reads.

    Signals:
        ready: the server's URL.
        failed: why there is no server.
    """

    ready = Signal(str)
    failed = Signal(str)

    def __init__(self, lines: BinaryIO, requests: BinaryIO) -> None:
        super().__init__()
        self._lines, self._requests = lines, requests

    def listen(self) -> None:
        """Start reading its lines, in a thread."""
        threading.Thread(target=self._listen, name="host", daemon=True).start()

    def again(self) -> None:
        """Ask for another attempt."""
        try:
            self._requests.write(b"again\n")
            self._requests.flush()
        except OSError:
            self.failed.emit(ENDED)

    def _listen(self) -> None:
        for line in self._lines:
            kind, _, rest = line.decode(errors="replace").strip().partition(" ")
            if kind == "ready":
                self.ready.emit(rest)
                return
            self.failed.emit(rest)
        self.failed.emit(ENDED)


def host_of_this_window() -> Host:
    """Return the host connected to standard input and output."""
    # Not sys.stdin: a thread blocked in its buffer would keep the program from ending.
    return Host(open(0, "rb", buffering=0, closefd=False), sys.stdout.buffer)
