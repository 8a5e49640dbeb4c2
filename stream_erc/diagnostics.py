"""What the program says on standard error: one line for each error and warning of its own, nothing else."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

NOWHERE = logging.NullHandler()
CALM = {
    "CT2_VERBOSE": "-1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""What third-party libraries read when they are imported."""


def tell(error: Exception) -> None:
    """An error as one line."""
    print(f"stream-erc: {' '.join(str(error).split())}", file=sys.stderr)


class _Lines(logging.Handler):
    """Log records as lines of standard error, as it is when they come: a live view redirects it."""

    def __init__(self, verbose: bool) -> None:
        super().__init__()
        self._verbose = verbose

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, with its traceback only where details were asked for."""
        line = self.format(record) if self._verbose else record.getMessage()
        print(f"stream-erc: {line}", file=sys.stderr)


@contextmanager
def quiet(verbose: bool) -> Iterator[None]:
    """Our own warnings as lines; nothing from third parties unless `verbose`."""
    root = logging.getLogger("" if verbose else "stream_erc")
    handler, level = _Lines(verbose), root.level
    root.addHandler(handler)
    with warnings.catch_warnings():
        if verbose:
            root.setLevel(logging.DEBUG)
        else:
            warnings.simplefilter("ignore")
            for name, value in CALM.items():
                os.environ.setdefault(name, value)
            logging.getLogger().addHandler(NOWHERE)
        try:
            yield
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            logging.getLogger().removeHandler(NOWHERE)


@contextmanager
def mute() -> Iterator[None]:
    """Nothing on standard error, not even from C: ALSA complains there about each device that it tries."""
    with ExitStack() as stack:
        try:
            kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
        except OSError:  # there is no standard error to keep quiet
            yield
            return
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
