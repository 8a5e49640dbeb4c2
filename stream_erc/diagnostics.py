"""What the program says on standard error: one line for each error and warning of its own, nothing else."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

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


class _JsonLines(logging.Handler):
    """Log records as JSON objects, one a line of standard error, with the fields that came as `extra`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": when, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= {key: str(value) for key, value in vars(record).items() if key not in _PLAIN}
        if record.exc_info:
            line["traceback"] = self.format(record)
        print(json.dumps(line), file=sys.stderr, flush=True)


_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "websocket"}
"""What every record has."""


@contextmanager
def structured() -> Iterator[None]:
    """What happens in a server, as JSON lines: who came and went and how long, never what was said."""
    ours = logging.getLogger("stream_erc")
    handler, level, others = _JsonLines(), ours.level, list(ours.handlers)
    ours.handlers = [handler]
    ours.setLevel(logging.INFO)
    logging.getLogger("stream_erc.websockets").setLevel(logging.WARNING)
    try:
        yield
    finally:
        ours.handlers = others
        ours.setLevel(level)


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
