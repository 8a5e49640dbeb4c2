"""The command line: ``stream-erc replay | listen | models | devices``.

Exit codes: 0, 1 for a bug, 2 for something given that cannot be used (one line on standard error says what
was expected and what came), 130 when interrupted before there was anything to finish.
"""

import argparse
import dataclasses
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from stream_erc import config as configuration
from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import Config
from stream_erc.events import Samples
from stream_erc.exceptions import InputError, OutputError, StreamErcError
from stream_erc.protocol import Message, to_json


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = _parser().parse_args(argv)
    level = logging.DEBUG if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="stream-erc: %(message)s", stream=sys.stderr)
    if not args.verbose:
        warnings.simplefilter("ignore")  # third parties' deprecations are not the user's business
    try:
        code: int = args.run(args)
    except StreamErcError as error:
        print(f"stream-erc: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stream-erc", description="Who spoke, what was said, which emotion it expressed, as it happens."
    )
    parser.add_argument("--verbose", action="store_true", help="log details to standard error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    replay = commands.add_parser("replay", help="hear a recording, or read a text dialogue")
    replay.add_argument(
        "input", type=Path, metavar="INPUT", help="an audio or video file, or .jsonl/.csv text dialogues"
    )
    replay.add_argument(
        "--turns", type=Path, metavar="FILE", help="what is known: RTTM, SRT, VTT, CSV or JSON"
    )
    replay.add_argument(
        "--speed", type=_speed, default=None, metavar="max|N", help="N times real time (default: max)"
    )
    _shared_options(replay)
    replay.set_defaults(run=_replay)

    listen = commands.add_parser("listen", help="hear the microphone, live, until Ctrl-C")
    listen.add_argument("--input-device", metavar="NAME|INDEX", help="see `stream-erc devices`")
    _shared_options(listen)
    listen.set_defaults(run=_listen)

    models = commands.add_parser("models", help="list the checkpoints that are there")
    models.set_defaults(run=_models)
    devices = commands.add_parser("devices", help="list microphones and compute devices")
    devices.set_defaults(run=_devices)
    return parser


def _shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="EVENTS.jsonl", help="write every message to this file")
    parser.add_argument(
        "--report", type=Path, metavar="REPORT.html", help="write a page that shows the conversation"
    )
    parser.add_argument("--model", metavar="NAME|DIR", help="a checkpoint (default: si-lstm)")
    parser.add_argument("--asr", metavar="ENGINE", help="auto, faster-whisper[:MODEL], pocketsphinx or none")
    parser.add_argument(
        "--language", metavar="CODE", help="ISO 639-1 code for Whisper, or auto (default: en)"
    )
    parser.add_argument(
        "--speakers", type=_positive, metavar="N", help="how many speakers there are, where known"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), help="where networks run (default: auto)"
    )
    parser.add_argument(
        "--partials", action=argparse.BooleanOptionalAction, help="show turns while they are spoken"
    )
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="configuration; options override it")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"expected max or a number above 0, got {text}")
    return speed


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text}")
    return int(text)


def _config(args: argparse.Namespace, *, partials: bool) -> Config:
    """The configuration file under the command line's options."""
    config = configuration.load(args.config) if args.config else Config()
    session, engine = config.session, config.engine
    if args.partials is not None or args.config is None:
        session = dataclasses.replace(session, partials=partials if args.partials is None else args.partials)
    if args.speakers is not None:
        diarization = dataclasses.replace(session.diarization, speakers=args.speakers)
        session = dataclasses.replace(session, diarization=diarization)
    if args.model is not None:
        engine = dataclasses.replace(engine, model=args.model)
    if args.device is not None:
        asr = dataclasses.replace(engine.asr, device=args.device)
        engine = dataclasses.replace(engine, device=args.device, asr=asr)
    if args.asr is not None:
        engine = dataclasses.replace(engine, asr=dataclasses.replace(engine.asr, engine=args.asr))
    if args.language is not None:
        language = None if args.language == "auto" else args.language
        engine = dataclasses.replace(engine, asr=dataclasses.replace(engine.asr, language=language))
    return Config(session, engine)


# --- commands -------------------------------------------------------------------------------------


def _replay(args: argparse.Namespace) -> int:
    from stream_erc import turns
    from stream_erc.sources import AudioFile, paced

    text = turns.is_text_input(args.input)
    if text and args.turns:
        raise InputError(f"--turns goes with an audio file: {args.input} is a text dialogue")
    config = _config(args, partials=args.speed is not None)
    with ExitStack() as stack:
        out = _open_output(args.out, stack)
        if text:
            from stream_erc.engine import TEXT_ONLY, Engine
            from stream_erc.replay import replay_text
            from stream_erc.workers import InlineWorker

            dialogues = turns.read_dialogues(args.input)
            engine = Engine.load(config.engine, config.session, TEXT_ONLY, time.perf_counter)
            worker = InlineWorker(engine)
            messages = replay_text(engine, worker, config.session, dialogues, name=args.input.name)
            return _show(args, messages, out, engine.classifier.labels, None, None)
        audio = AudioFile(args.input)
        chunks = audio.chunks() if args.speed is None else paced(audio.chunks(), args.speed)
        total_ms = None if audio.duration_s is None else round(1000 * audio.duration_s)
        return _hear(args, config, chunks, out, args.input.name, total_ms, live=args.speed is not None)


def _listen(args: argparse.Namespace) -> int:
    from stream_erc.sources import Microphone

    wanted = args.input_device
    microphone = Microphone(int(wanted) if wanted is not None and wanted.isdecimal() else wanted)
    with ExitStack() as stack:
        out = _open_output(args.out, stack)
        return _hear(
            args, _config(args, partials=True), _stream(microphone), out, "microphone", None, live=True
        )


def _stream(microphone: "Iterable[Samples]") -> Iterator[Samples]:
    """Open the microphone only when the first chunk is asked for, after the models have loaded."""
    from stream_erc.sources import Microphone

    assert isinstance(microphone, Microphone)
    with microphone:
        yield from microphone


def _hear(
    args: argparse.Namespace,
    config: Config,
    chunks: Iterable[Samples],
    out: TextIO | None,
    name: str,
    total_ms: int | None,
    *,
    live: bool,
) -> int:
    """Replay a recording or the microphone."""
    from stream_erc.engine import Engine, Needs
    from stream_erc.replay import replay_audio
    from stream_erc.turns import read_turns
    from stream_erc.workers import InlineWorker, ThreadWorker, Worker

    turns_file: Path | None = getattr(args, "turns", None)
    given = read_turns(turns_file) if turns_file else None
    engine = Engine.load(config.engine, config.session, Needs.of(given), time.perf_counter)
    worker: Worker = ThreadWorker(engine) if live else InlineWorker(engine)
    heard = [0]

    def count(samples: int) -> None:
        heard[0] = samples

    messages = replay_audio(
        engine, worker, config.session, chunks, name=name, duration_ms=total_ms, given=given, heard=count
    )
    try:
        return _show(
            args, messages, out, engine.classifier.labels, total_ms, lambda: heard[0] * 1000 // SAMPLE_RATE
        )
    finally:
        worker.close()


def _show(
    args: argparse.Namespace,
    messages: Iterable[Message],
    out: TextIO | None,
    labels: tuple[str, ...],
    total_ms: int | None,
    heard_ms: Callable[[], int] | None,
) -> int:
    """Show messages as they come, keep them in the file, and make the report at the end."""
    from rich.console import Console

    from stream_erc.report import ReportAudio, write_report
    from stream_erc.terminal import TerminalView

    kept: list[Message] = []
    failure: InputError | None = None
    with TerminalView(Console(), total_ms=total_ms, labels=labels) as view:
        try:
            for message in messages:
                if out is not None:
                    out.write(to_json(message) + "\n")
                    out.flush()
                if args.report is not None and message["type"] != "turn.partial":
                    kept.append(message)
                view.show(message)
                if heard_ms is not None:
                    view.progress(heard_ms())
        except InputError as error:
            failure = error
    if args.report is not None:
        source: Path | None = getattr(args, "input", None)
        audio = ReportAudio(source) if source is not None and heard_ms is not None else None
        title = source.name if source is not None else "microphone"
        write_report(kept, args.report, title=title, audio=audio)
    if failure is not None:
        raise failure
    return 0


def _open_output(path: Path | None, stack: ExitStack) -> TextIO | None:
    """Open the events file before any model is loaded, so that a bad place is known at once."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise OutputError(
            f"--out {path}: expected a place that can be written, got: {error.strerror}"
        ) from error


def _models(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from stream_erc.emotion import shipped_models

    table = Table("name", "architecture", "labels", "summary", "where")
    for model in shipped_models():
        table.add_row(
            model.name, model.architecture, ", ".join(model.labels), model.summary, str(model.folder)
        )
    Console().print(table)
    return 0


def _devices(args: argparse.Namespace) -> int:
    from rich.console import Console

    from stream_erc.emotion import compute_devices
    from stream_erc.sources import list_input_devices

    console = Console(highlight=False)
    for device in compute_devices():
        console.print(f"compute: {device}", markup=False)
    for microphone in list_input_devices():
        mark = " (default)" if microphone.is_default else ""
        console.print(
            f"microphone {microphone.index}: {microphone.name}, {microphone.channels} channels, "
            f"{microphone.rate_hz:.0f} Hz{mark}",
            markup=False,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
