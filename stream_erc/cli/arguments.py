"""Parsing of the command line, and the configuration that results from it."""

import argparse
import dataclasses
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from stream_erc import config as configuration
from stream_erc.config import DEFAULT_MODEL, DEFAULT_VOICES, Config, ServerConfig, check_channels
from stream_erc.exceptions import ConfigError

if TYPE_CHECKING:
    from stream_erc.sources.channels import ChannelChoice
    from stream_erc.sources.raw_audio import RawFormat

KEEP_VOICES_HELP = "let clients keep the voices that they name, in the file of --voices"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all errors of the program."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Prints the version, which is looked up only on request."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"stream-erc {metadata.version('stream-erc')}")
        parser.exit()


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; the result's `command` is the command's name.

    Raises:
        SystemExit: with code 2 after a one-line error, with 0 after ``--help`` or ``--version``.
    """
    return _parser().parse_args(sys.argv[1:] if argv is None else argv)


def read_config(args: argparse.Namespace, *, partials: bool) -> Config:
    """Read the configuration file and override it with the command line's options.

    Args:
        args: the arguments of a command that opens sessions.
        partials: whether to show partial turns if neither the file nor an option says so.
    """
    config = configuration.load(args.config) if args.config else Config()
    session, engine = config.session, config.engine
    if args.partials is not None or args.config is None:
        session = dataclasses.replace(session, partials=partials if args.partials is None else args.partials)
    if args.words:
        session = dataclasses.replace(session, words=True)
    if args.speakers is not None:
        diarization = dataclasses.replace(session.diarization, speakers=args.speakers)
        session = dataclasses.replace(session, diarization=diarization)
    asr = engine.asr
    if args.asr is not None:
        asr = dataclasses.replace(asr, engine=args.asr)
    if args.language is not None:
        asr = dataclasses.replace(asr, language=None if args.language == "auto" else args.language)
    if args.device is not None:
        asr = dataclasses.replace(asr, device=args.device)
        engine = dataclasses.replace(engine, device=args.device)
    if args.model is not None:
        engine = dataclasses.replace(engine, model=args.model)
    if args.labels_from is not None:
        engine = dataclasses.replace(engine, labels_from=args.labels_from)
    if args.voices is not None:
        engine = dataclasses.replace(engine, voices=args.voices)
    server = _server_config(args, config.server) if args.command == "serve" else config.server
    if args.command in ("serve", "desktop") and args.keep_voices:
        server = dataclasses.replace(server, keep_voices=True)
    return Config(session, dataclasses.replace(engine, asr=asr), server)


def _server_config(args: argparse.Namespace, server: ServerConfig) -> ServerConfig:
    given = {
        "host": args.host,
        "port": args.port,
        "models": None if args.also is None else tuple(args.also),
        "store": args.store,
        "token_file": args.token_file,
        "allow_origins": None if args.allow_origin is None else tuple(args.allow_origin),
        "tls_certificate": args.tls_certificate,
        "tls_key": args.tls_key,
        "max_sessions": args.max_sessions,
        "ray": args.ray,
        "ray_workers": args.ray_workers,
        "ray_cpus": args.ray_cpus,
        "ray_gpus": args.ray_gpus,
    }
    return dataclasses.replace(server, **{key: value for key, value in given.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stream-erc",
        description="Who spoke, what was said, which emotion it expressed, as it happens.",
        epilog="Exit codes: 0; 2 where something given cannot be used; 130 when interrupted.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbose = {"action": "store_true", "help": "log details to standard error"}
    parser.add_argument("--verbose", default=False, **verbose)  # type: ignore[arg-type]
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    replay = commands.add_parser("replay", help="hear a recording, or read a text dialogue")
    replay.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="an audio or video file, - for standard input, or a transcript or text dialogues (as --turns); "
        "several, a folder or a pattern are read into the folder --out",
    )
    replay.add_argument(
        "--jobs", type=_positive, metavar="N", help="processes that read several (default: 1)"
    )
    replay.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="have --jobs processes of a Ray cluster read several: HOST:PORT, auto or local",
    )
    replay.add_argument("--format", choices=("jsonl", "parquet"), help="of the results of several inputs")
    replay.add_argument(
        "--turns",
        type=Path,
        metavar="FILE",
        help="known turns: SRT, VTT, CSV, Parquet, JSON, JSONL, TextGrid, EAF, RTTM, CTM, TXT; see README",
    )
    replay.add_argument(
        "--speed", type=_speed, metavar="max|N", help="N times real time, as if it were live (default: max)"
    )
    replay.add_argument(
        "--channels",
        type=_channels,
        metavar="auto|mix|separate|NAME,NAME",
        help="hear channels as one, or each by itself, with a name for each or without (default: auto)",
    )
    replay.add_argument(
        "--track",
        metavar="N|LANG",
        help="the audio track to hear, by number or language",
    )
    replay.add_argument(
        "--raw", type=_raw, metavar="ENCODING:RATE[:CHANNELS]", help="samples without a header, as mulaw:8000"
    )
    _conversation_options(replay)

    listen = commands.add_parser("listen", help="hear the microphone, live, until Ctrl-C")
    listen.add_argument("--input-device", metavar="NAME|INDEX", help="see `stream-erc devices`")
    _conversation_options(listen)

    serve = commands.add_parser("serve", help="serve conversations over WebSockets, and a page for them")
    _model_options(serve)
    serve.add_argument("--keep-voices", action="store_true", help=KEEP_VOICES_HELP)
    _server_options(serve)

    desktop = commands.add_parser(
        "desktop", help="open the live window, with a server of its own or another's"
    )
    desktop.add_argument("--url", metavar="ws://HOST:PORT", help="a server that runs already")
    desktop.add_argument("--token-file", type=Path, metavar="FILE", help="the server's bearer token")
    desktop.add_argument("--file", type=Path, metavar="FILE", help="hear this recording")
    _model_options(desktop)
    desktop.add_argument("--keep-voices", action="store_true", help=KEEP_VOICES_HELP)

    voices = commands.add_parser("voices", help="add, list and remove the voices that are known by name")
    _voices_commands(voices)

    models = commands.add_parser("models", help="list the checkpoints that are there")
    devices = commands.add_parser("devices", help="list microphones and compute devices")
    for command in (replay, listen, serve, desktop, voices, models, devices):
        command.add_argument("--verbose", default=argparse.SUPPRESS, **verbose)  # type: ignore[arg-type]
    return parser


def _voices_commands(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|remove")
    add = actions.add_parser("add", help="learn a voice from recordings of one person who agrees to it")
    add.add_argument("name", metavar="NAME", help="the person's name")
    add.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="audio or video in which nobody else speaks"
    )
    add.add_argument("--config", type=Path, metavar="FILE.toml", help="configuration: its speaker encoder")
    listed = actions.add_parser("list", help="show the names, and what each voice was learned from")
    remove = actions.add_parser("remove", help="delete a voice from the file")
    remove.add_argument("name", metavar="NAME")
    for action in (add, listed, remove):
        action.add_argument(
            "--voices",
            default=DEFAULT_VOICES,
            metavar="FILE",
            help="the file that holds them (default: one in the user's data folder)",
        )


def _conversation_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="EVENTS.jsonl", help="write every message to this file")
    parser.add_argument(
        "--report", type=Path, metavar="REPORT.html", help="write a page that shows the conversation"
    )
    parser.add_argument(
        "--export",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write the turns for other programs: .srt, .vtt, .csv, .tsv, .txt, .md, .rttm, .TextGrid, .eaf, "
        ".parquet or .json; may be given several times",
    )
    _model_options(parser)


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME|DIR", help=f"a checkpoint (default: {DEFAULT_MODEL})")
    parser.add_argument(
        "--labels-from",
        metavar="PATH",
        help="answer in labels given by examples: a folder of a folder each, or .jsonl, .csv, .tsv",
    )
    parser.add_argument(
        "--asr", metavar="ENGINE", help="auto, faster-whisper[:MODEL], pocketsphinx or none (default: auto)"
    )
    parser.add_argument("--language", metavar="CODE", help="ISO 639-1 code, or auto (default: en)")
    parser.add_argument("--speakers", type=_positive, metavar="N", help="how many there are, where known")
    parser.add_argument(
        "--voices",
        metavar="FILE|DIR",
        help=f"tell these known voices by name; {DEFAULT_VOICES}: those of `stream-erc voices`",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), help="where networks run (default: auto)"
    )
    parser.add_argument("--words", action="store_true", help="tell when each word was said (Whisper)")
    parser.add_argument(
        "--partials",
        action=argparse.BooleanOptionalAction,
        help="show turns while they are spoken (default: live only)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="configuration; options override it")


def _server_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="0 takes a free one (default: 8765)")
    parser.add_argument(
        "--also", action="append", metavar="NAME|DIR", help="another checkpoint that clients may choose"
    )
    parser.add_argument(
        "--store",
        metavar="STORE",
        help="memory, sqlite:PATH or redis://HOST: what lost sessions resume from (default: a SQLite file)",
    )
    parser.add_argument("--token-file", metavar="FILE", help="bearer tokens that are taken, one a line")
    parser.add_argument(
        "--allow-origin", action="append", metavar="URL", help="a web page that may connect, or *"
    )
    parser.add_argument("--tls-certificate", metavar="FILE.pem", help="serve with TLS")
    parser.add_argument("--tls-key", metavar="FILE.pem")
    parser.add_argument(
        "--max-sessions",
        type=_positive,
        metavar="N",
        help="taken at a time (default: what this machine can listen to)",
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="run the engines on a Ray cluster: HOST:PORT, auto or local"
    )
    parser.add_argument(
        "--ray-workers", type=_positive, metavar="N", help="its actors, which servers share (default: 2)"
    )
    parser.add_argument("--ray-cpus", type=float, metavar="X", help="cores reserved for each (default: 1)")
    parser.add_argument("--ray-gpus", type=float, metavar="X", help="GPUs reserved for each (default: 0)")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"expected max or a number above 0, got {text!r}")
    return speed


def _channels(text: str) -> "ChannelChoice":
    if text in ("auto", "mix", "separate"):
        return text  # type: ignore[return-value]
    names = tuple(name.strip() for name in text.split(","))
    try:
        check_channels(names)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("channels: ")) from error
    return names


def _raw(text: str) -> "RawFormat":
    from stream_erc.sources.raw_audio import RawFormat

    try:
        return RawFormat.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)
