"""What the program says on standard error: a line for each error and warning of its own; a server, JSON."""

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

REPEAT_S = 10.0
"""How often a library may report the same."""


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


class _Reports(_JsonLines):
    """What libraries report, as the first line says it; the same again only after `REPEAT_S`."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or not."""
        now, what = record.created, record.getMessage().partition("\n")[0]
        self._told = {told: at for told, at in self._told.items() if 0 <= now - at < REPEAT_S}
        if what not in self._told:
            self._told[what] = now
            super().emit(logging.makeLogRecord(vars(record) | {"msg": what, "args": None}))


@contextmanager
def structured() -> Iterator[None]:
    """What happens in a server, as JSON lines: who came and went and how long, never what was said."""
    with (
        _instead("stream_erc", logging.INFO, _JsonLines()),
        _instead("stream_erc.websockets", logging.WARNING, _Reports()),
        _instead("asyncio", logging.WARNING, _Reports()),
    ):
        yield


@contextmanager
def _instead(name: str, level: int, handler: logging.Handler) -> Iterator[None]:
    """A logger's records go to one handler alone."""
    logger = logging.getLogger(name)
    before = logger.level, logger.handlers, logger.propagate
    logger.setLevel(level)
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.setLevel(before[0])
        logger.handlers, logger.propagate = before[1:]


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
