"""``stream-erc replay`` of many files: progress on standard error, and what failed in the end."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from stream_erc.bulk.inputs import Inputs, Unit, is_pattern
from stream_erc.bulk.processes import read_in_processes
from stream_erc.bulk.reading import Outcome, Settings
from stream_erc.bulk.results import Results
from stream_erc.cli.arguments import read_config
from stream_erc.cli.diagnostics import MAX_WARNINGS, print_error
from stream_erc.exceptions import InputError, OutputError

LINE_S = 5.0
"""Time between two lines of progress."""


def is_bulk(args: argparse.Namespace) -> bool:
    """Return whether a replay is one of many files."""
    several = len(args.inputs) > 1 or args.jobs is not None or args.ray is not None
    return several or args.inputs[0].is_dir() or is_pattern(args.inputs[0])


def run_bulk(args: argparse.Namespace) -> int:
    """Replay many files; return the exit code, 2 if one of them failed.

    Raises:
        InputError: an option that cannot be used with many files, no inputs, or a folder in use.
    """
    for option in ("report", "export", "speed"):
        if getattr(args, option):
            raise InputError(f"--{option}: expected a single input with it, got several")
    if args.out is None or args.out.is_file():
        got = "none" if args.out is None else f"a file: {args.out}"
        raise OutputError(f"--out: expected a folder for the results of several inputs, got {got}")
    config = read_config(args, partials=False)
    form: Literal["jsonl", "parquet"] = args.format or "jsonl"
    if form == "parquet":
        from stream_erc.exports.tables import check_parquet

        check_parquet()
    settings = Settings(args.out, config, args.turns, args.channels, args.track, args.raw, form)
    inputs = Inputs(args.inputs)
    with Results(args.out, "." + form).locked():
        total = sum(1 for _ in inputs)
        if not total:
            words = ", ".join(map(str, args.inputs))
            raise InputError(f"expected a recording or a conversation in text, got none in {words}")
        return _read(args, settings, inputs, total)


def _read(args: argparse.Namespace, settings: Settings, inputs: Inputs, total: int) -> int:
    counts = {"read": 0, "skipped": 0, "failed": 0}
    failed: list[str] = []
    began = shown = time.monotonic()
    for outcome in _outcomes(args, settings, iter(inputs)):
        if outcome.kind == "stopped":
            raise InputError(outcome.reason)
        counts[outcome.kind] += 1
        if outcome.kind == "failed":
            print_error(InputError(outcome.reason))
            failed = [*failed, outcome.name][:MAX_WARNINGS]
        now = time.monotonic()
        if now - shown >= LINE_S:
            shown = now
            _say(_progress(counts, total, now - began))
    _say(f"{counts['read']} read, {counts['skipped']} done before, {counts['failed']} failed, of {total}")
    for name in failed:
        _say(f"failed: {name}")
    if counts["failed"] > len(failed):
        _say(f"and {counts['failed'] - len(failed)} more, see above")
    return 2 if counts["failed"] else 0


def _outcomes(args: argparse.Namespace, settings: Settings, units: Iterator[Unit]) -> Iterator[Outcome]:
    key, jobs = settings.digest(), args.jobs or 1
    if args.ray is None:
        return read_in_processes(settings, key, units, jobs)
    from stream_erc.bulk.ray_data import read_on_ray

    return read_on_ray(settings, key, units, jobs, args.ray)


def _progress(counts: dict[str, int], total: int, seconds: float) -> str:
    done = sum(counts.values())
    worked = done - counts["skipped"]
    line = f"{done}/{total}, {worked / seconds:.2f} files/s"
    return f"{line}, {(total - done) * seconds / worked / 60:.0f} min left" if worked else line


def _say(line: str) -> None:
    print(f"stream-erc: {line}", file=sys.stderr, flush=True)


def input_of(args: argparse.Namespace) -> Path:
    """Return the input of a single replay.

    Raises:
        InputError: an option of many files.
    """
    if args.format is not None:
        raise InputError("--format: expected several inputs, a folder or --jobs with it, got a single input")
    found: Path = args.inputs[0]
    return found
