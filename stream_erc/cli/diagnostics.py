"""The program's messages on standard error: one line per error or warning, or JSON lines for a server."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

NOWHERE = logging.NullHandler()
QUIET_ENVIRONMENT = {
    "CT2_VERBOSE": "-1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Environment variables that silence third-party libraries when they are imported."""

REPEAT_S = 10.0
"""A library's same report is logged once in this time."""


def print_error(error: Exception) -> None:
    """Print an error as one line."""
    print(f"stream-erc: {' '.join(str(error).split())}", file=sys.stderr)


MAX_WARNINGS = 20
"""Warnings of one file that are printed; of the rest, only their number."""


def print_warnings(warnings: Sequence[str]) -> None:
    """Print what was odd in a file and not used, one line each."""
    for warning in warnings[:MAX_WARNINGS]:
        print(f"stream-erc: {' '.join(warning.split())}", file=sys.stderr)
    if len(warnings) > MAX_WARNINGS:
        print(f"stream-erc: and {len(warnings) - MAX_WARNINGS} more of the kind", file=sys.stderr)


class _Lines(logging.Handler):
    """A log handler that prints lines to the current standard error, which a live view redirects."""

    def __init__(self, verbose: bool) -> None:
        super().__init__()
        self._verbose = verbose

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, with its traceback only if verbose."""
        line = self.format(record) if self._verbose else record.getMessage()
        print(f"stream-erc: {line}", file=sys.stderr)


class _JsonLines(logging.Handler):
    """A log handler that prints JSON lines to standard error, including the fields of `extra`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": when, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= {
            key: str(value) for key, value in vars(record).items() if key not in _PLAIN and key[0] != "_"
        }
        if record.exc_info:
            line["traceback"] = self.format(record)
        print(json.dumps(line), file=sys.stderr, flush=True)


_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "websocket"}
"""Attributes that every record has."""


class _RateLimited(_JsonLines):
    """A log handler for libraries: the first line of each report, the same one only once in `REPEAT_S`."""

    def __init__(self) -> None:
        super().__init__()
        self._last_written: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless the same one was written recently."""
        now, what = record.created, record.getMessage().partition("\n")[0]
        self._last_written = {
            report: at for report, at in self._last_written.items() if 0 <= now - at < REPEAT_S
        }
        if what not in self._last_written:
            self._last_written[what] = now
            super().emit(logging.makeLogRecord(vars(record) | {"msg": what, "args": None}))


@contextmanager
def json_logs() -> Iterator[None]:
    """Log a server's events as JSON lines: connections and durations, never transcripts."""
    with (
        _only_handler("stream_erc", logging.INFO, _JsonLines()),
        _only_handler("stream_erc.websockets", logging.WARNING, _RateLimited()),
        _only_handler("asyncio", logging.WARNING, _RateLimited()),
    ):
        yield


@contextmanager
def _only_handler(name: str, level: int, handler: logging.Handler) -> Iterator[None]:
    """Send a logger's records to one handler only."""
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
def plain_logs(verbose: bool) -> Iterator[None]:
    """Log our own warnings as plain lines; silence third parties unless `verbose`."""
    root = logging.getLogger("" if verbose else "stream_erc")
    handler, level = _Lines(verbose), root.level
    root.addHandler(handler)
    with warnings.catch_warnings():
        if verbose:
            root.setLevel(logging.DEBUG)
        else:
            warnings.simplefilter("ignore")
            for name, value in QUIET_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            logging.getLogger().addHandler(NOWHERE)
        try:
            yield
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            logging.getLogger().removeHandler(NOWHERE)


@contextmanager
def silenced_stderr() -> Iterator[None]:
    """Silence standard error, even for C code: ALSA prints errors for each device that it tries."""
    with ExitStack() as stack:
        try:
            kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
        except OSError:  # there is no standard error
            yield
            return
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
