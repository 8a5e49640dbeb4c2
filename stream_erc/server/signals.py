"""The signals that a server heeds, where asyncio handles signals and where it does not (Windows)."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def handle_signals(
    loop: asyncio.AbstractEventLoop, handler: Callable[[], None], on_hang_up: Callable[[], None]
) -> None:
    """Have the loop call `handler` at `SIGNALS` and `on_hang_up` at SIGHUP; from the main thread only."""
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    with contextlib.suppress(NotImplementedError):
        if hang_up is not None:
            loop.add_signal_handler(hang_up, on_hang_up)

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
