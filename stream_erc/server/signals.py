"""The signals that end a server, on systems where asyncio handles signals and where it does not (Windows)."""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def handle_signals(loop: asyncio.AbstractEventLoop, handler: Callable[[], None]) -> None:
    """Have the loop call `handler` at `SIGNALS`; from the main thread only."""

    def wake(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(handler)

    for signum in SIGNALS:
        try:
            loop.add_signal_handler(signum, handler)
        except NotImplementedError:
            signal.signal(signum, wake)


def restore_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Restore the default actions of `SIGNALS`."""
    for signum in SIGNALS:
        try:
            loop.remove_signal_handler(signum)
        except NotImplementedError:
            default = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
            signal.signal(signum, default)
