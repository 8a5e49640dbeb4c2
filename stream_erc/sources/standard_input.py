"""Standard input as a file that libav reads while it arrives."""

import os

from stream_erc.exceptions import AudioError

NAME = "standard input"


class StandardInput:
    """The bytes of a pipe, in whatever pieces they arrive.

    Args:
        descriptor: of the pipe.

    Attributes:
        head: the first bytes that arrived.
        interrupt: what ended the input while more was waited for. It cannot pass through libav.

    Raises:
        AudioError: nothing came before its end, or it cannot be read.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self.interrupt: KeyboardInterrupt | None = None
        self.head = self._waiting = self._next(65_536)
        if not self.head:
            raise AudioError(f"{NAME}: expected audio, got nothing")

    def read(self, size: int) -> bytes:
        """Return up to `size` of the next bytes, as soon as there are any; none at the end."""
        if not self._waiting:
            try:
                return self._next(size)
            except KeyboardInterrupt as interrupt:
                self.interrupt = interrupt
                return b""
        given, self._waiting = self._waiting[:size], self._waiting[size:]
        return given

    def _next(self, size: int) -> bytes:
        try:
            return os.read(self._descriptor, size)
        except OSError as error:
            raise AudioError(f"{NAME}: expected audio, got {error.strerror}") from error
