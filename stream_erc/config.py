"""Configuration: frozen dataclasses with defaults, read from TOML. Loading one loads no model."""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from stream_erc.exceptions import ConfigError


@dataclass(frozen=True, slots=True)
class VadConfig:
    """Speech probability thresholds, with hysteresis.

    Attributes:
        threshold: speech begins at this probability of a 32 ms window.
        release: speech ends below this one.

    The defaults are below Silero's own (0.5 and 0.35), which miss soft and sad voices.
    """

    threshold: float = 0.35
    release: float = 0.2


@dataclass(frozen=True, slots=True)
class EndpointingConfig:
    """The rules for where a segment of speech begins and ends, in milliseconds of audio.

    Attributes:
        pre_roll_ms: audio before the start that is analysed too, since soft beginnings are noticed up to half
            a second late (`scripts/evaluate_onsets`). No audio of the turn before comes again.
        min_speech_ms: the shortest continuous speech that begins a segment.
        min_silence_ms: the pause that ends a segment. It is most of the latency. A longer one splits fewer
            turns at their pauses, but merges more turns that follow each other quickly.
        adaptive: whether that pause depends on the words (see `stream_erc.core.turn_end`): `short_silence_ms`
            after a sentence, `long_silence_ms` after words that sound unfinished.
        short_silence_ms, long_silence_ms: its bounds; `min_silence_ms` lies between them, or is one.
        max_turn_ms: a longer segment is cut at the quietest place of its last third, 5 s at most.
    """

    pre_roll_ms: int = 500
    min_speech_ms: int = 160
    min_silence_ms: int = 320
    adaptive: bool = True
    short_silence_ms: int = 256
    long_silence_ms: int = 800
    max_turn_ms: int = 15_000


@dataclass(frozen=True, slots=True)
class DiarizationConfig:
    """Parameters of the online clustering of voice vectors, tuned with `scripts/tune_diarization`.

    Attributes:
        encoder: ``campplus`` (ships with the project), or a transformers x-vector model by path or hub name,
            such as ``microsoft/wavlm-base-plus-sv``.
        speakers: the number of speakers, None if unknown.
        max_speakers: an upper bound if the number is unknown.
        tau_active_ms: the speech that makes a speaker. A voice with less joins the most similar one.
        delta_new: groups of turns are one speaker if their voices are at least as similar as this share of
            what is expected of so much speech by one. A larger share gives more speakers.
        delta_known: the same if `speakers` is given.
        memory_turns: the number of past turns that are clustered again, and can be corrected.
    """

    encoder: str = "campplus"
    speakers: int | None = None
    max_speakers: int = 8
    tau_active_ms: int = 1_000
    delta_new: float = 0.60
    delta_known: float = 0.75
    memory_turns: int = 32


@dataclass(frozen=True, slots=True)
class AsrConfig:
    """The recognizer and its settings.

    Attributes:
        engine: ``auto``, ``faster-whisper[:MODEL]``, ``pocketsphinx`` or ``none``.
        language: ISO 639-1 code, or None to detect it (Whisper only); a session may override it.
        device: ``auto``, ``cpu`` or ``cuda`` (Whisper only).
        compute_type: one of CTranslate2's, or ``auto``: int8 on a CPU, float16 on a GPU.
        beam_size: beam width of the final decoding; partial decoding is greedy (Whisper only).
        translate: whether speech in another language is translated as well; the emotion is then read from
            the English text, which the text encoder was trained on (Whisper only).
        parallel: transcriptions that may run at the same time; each one costs memory.
    """

    engine: str = "auto"
    language: str | None = "en"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str = "auto"
    beam_size: int = 3
    translate: bool = True
    parallel: int = 2


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Settings of one conversation.

    Attributes:
        language: ISO 639-1 code of the spoken language; None for the recognizer's default.
        words: whether final turns tell the time of every word (Whisper only).
        partials: whether turns are transcribed and classified while they are still being spoken.
        partial_interval_ms: audio between two partial hypotheses; longer in long turns.
        rewind_turns: the number of past turns that a speaker correction can reach.
    """

    vad: VadConfig = field(default_factory=VadConfig)
    endpointing: EndpointingConfig = field(default_factory=EndpointingConfig)
    diarization: DiarizationConfig = field(default_factory=DiarizationConfig)
    language: str | None = None
    words: bool = False
    partials: bool = False
    partial_interval_ms: int = 1_000
    rewind_turns: int = 32


DEFAULT_MODEL = "si-lstm"
"""The shipped checkpoint that is used unless another one is named."""

DEFAULT_VOICES = "default"
"""The word for the user's own voice file, where a path is expected."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The models that the engine loads, and the device that it computes on.

    Attributes:
        model: the name of a shipped checkpoint, or a folder.
        device: the device of the network and of its conversation states.
        labels_from: a folder or file with a few examples of each label (see `label_examples`); the model
            then predicts these labels. Its network needs an embedding space, as ``sentemocontext`` has.
        voices: the known voices that sessions may tell by name: a voice file (see `stream-erc voices`), a
            folder of such files, or ``default``; None knows nobody.
        max_batch: the largest number of turns (of different sessions) in a batch; None for 1 on a CPU and
            1,024 on a GPU. A larger batch is faster, above all on a GPU, but makes the last digits of a
            probability depend on the other sessions.
    """

    model: str = DEFAULT_MODEL
    device: Literal["auto", "cpu", "cuda"] = "auto"
    labels_from: str | None = None
    voices: str | None = None
    asr: AsrConfig = field(default_factory=AsrConfig)
    max_batch: int | None = None


YEAR_S = 365 * 86_400
SERVER_BOUNDS: Mapping[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "retention_s": (1, YEAR_S),
    "max_sessions": (1, 1_000_000),
    "max_sessions_per_address": (1, 1_000_000),
    "max_message_bytes": (1_024, 2**30),
    "max_upload_bytes": (1_024, 2**40),
    "max_frame_ms": (1, 3_600_000),
    "burst_ms": (1, 3_600_000),
    "messages_per_s": (0.1, 1_000_000),
    "idle_timeout_s": (0.1, YEAR_S),
    "penalty_s": (0, 3_600),
    "slow_reader_s": (0.1, YEAR_S),
    "heartbeat_s": (0.05, YEAR_S),
    "drain_s": (0, YEAR_S),
    "threads": (1, 1_024),
    "ray_workers": (1, 1_024),
    "ray_cpus": (0, 1_024),
    "ray_gpus": (0, 64),
}
"""Smallest and largest value of each numeric server setting."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Address, access and limits of the server. A number outside `SERVER_BOUNDS` is a `ConfigError`.

    Attributes:
        host, port: the address to listen on; port 0 picks a free port.
        models: checkpoints that a client may choose besides the engine's.
        store: ``memory``, ``sqlite:PATH`` or ``redis://...``: the store that sessions are resumed from.
        retention_s: how long a session can be resumed after its connection was lost; the store keeps it a
            third longer.
        token_file: a file of accepted bearer tokens, one per line; None requires no token.
        allow_origins: origins of web pages that may connect besides the server's own (see `Origins`), as
            ``https://host[:port]``; ``*`` allows all.
        tls_certificate, tls_key: PEM files; None serves without TLS.
        max_sessions: the largest number of sessions and recordings at a time; None for as many as this
            machine can listen to (see `limits.places_of`).
        max_sessions_per_address: how many of them one address may have; None for three quarters, and for all
            on a server that listens on this machine alone. IPv6 counts by networks of 64 bits.
        max_message_bytes: the largest frame.
        max_upload_bytes: the largest recording that may be uploaded, with the fields of its form.
        max_frame_ms: the most audio in one binary frame.
        burst_ms: how far live audio may run ahead of the clock.
        messages_per_s: text frames per second that a connection may send, with bursts of ten times as many.
        idle_timeout_s: a connection that sends nothing for this long is closed; one that sends nothing but
            pings is, too, once another session needs its place.
        penalty_s: delay before a connection that broke a limit, or had no token, is closed; nothing is read
            from it meanwhile.
        slow_reader_s: a connection that reads nothing for this long is closed.
        heartbeat_s: a connection that was sent nothing for this long gets a heartbeat.
        drain_s: time limit for finishing the work on received audio when the server stops.
        threads: the number of analyses that run at the same time.
        keep_voices: whether a client may keep a voice for other sessions, in the engine's voice file.
        ray: the address of a Ray cluster that runs the engines, HOST:PORT, ``auto`` or ``local``; None for
            this process.
        ray_workers: the number of its actors that hold the engines; servers of the same version and settings
            share them.
        ray_cpus, ray_gpus: what Ray reserves for each of them, also a fraction.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    models: tuple[str, ...] = ()
    store: str = "sqlite:~/.local/state/stream_erc/sessions.sqlite"
    retention_s: float = 600.0
    token_file: str | None = None
    allow_origins: tuple[str, ...] = ()
    tls_certificate: str | None = None
    tls_key: str | None = None
    max_sessions: int | None = None
    max_sessions_per_address: int | None = None
    max_message_bytes: int = 2_097_152
    max_upload_bytes: int = 104_857_600
    max_frame_ms: int = 10_000
    burst_ms: int = 10_000
    messages_per_s: float = 100.0
    idle_timeout_s: float = 60.0
    penalty_s: float = 5.0
    slow_reader_s: float = 30.0
    heartbeat_s: float = 10.0
    drain_s: float = 5.0
    threads: int = 2
    keep_voices: bool = False
    ray: str | None = None
    ray_workers: int = 2
    ray_cpus: float = 1.0
    ray_gpus: float = 0.0

    def __post_init__(self) -> None:
        for name, (least, most) in SERVER_BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # NaN fails too
                raise ConfigError(f"server.{name}: expected {least} to {most}, got {value}")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration: the TOML tables ``[session]``, ``[engine]`` and ``[server]``."""

    session: SessionConfig = field(default_factory=SessionConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    server: ServerConfig = field(default_factory=ServerConfig)


MAX_CHANNELS = 8
"""Channels of one conversation that can be heard separately: each costs the work of a stream of its own."""

MAX_CHANNEL_NAME = 100
"""Characters of a channel's name."""

T = TypeVar("T")


def check_channels(names: Sequence[str | None]) -> None:
    """Check the channels of a conversation.

    Args:
        names: the name of each channel, None for one without a name.

    Raises:
        ConfigError: no channel, too many, or a name that is empty, too long or given twice.
    """
    if not 1 <= len(names) <= MAX_CHANNELS:
        raise ConfigError(f"channels: expected 1 to {MAX_CHANNELS} to hear separately, got {len(names)}")
    given = [name for name in names if name is not None]
    for name in given:
        if not name.strip() or len(name) > MAX_CHANNEL_NAME:
            given_name = name[:MAX_CHANNEL_NAME]
            raise ConfigError(
                f"channels: expected names of 1 to {MAX_CHANNEL_NAME} characters, got {given_name!r}"
            )
    twice = [name for name in given if given.count(name) > 1]
    if twice:
        raise ConfigError(f"channels: expected a different name for each, got {twice[0]!r} twice")


def load(path: Path) -> Config:
    """Read a TOML configuration.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, a value of the wrong type or out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable TOML file, got {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, got {error}") from error
    return from_table(Config, table)


def from_table(kind: type[T], table: Mapping[str, object], at: str = "") -> T:
    """Build a configuration dataclass from a TOML table; unknown keys and wrong types are errors."""
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for key, value in table.items():
        name = f"{at}{key}"
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean {at}{near[0]}?" if near else f"known keys: {', '.join(hints)}"
            raise ConfigError(f"unknown configuration key {name}: {hint}")
        values[key] = _value(hints[key], value, name)
    return kind(**values)


def _value(hint: object, value: object, name: str) -> object:
    """Return `value` as the type of `hint`, or raise a `ConfigError` that names both."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name}: expected a table, got {value!r}")
        return from_table(hint, value, f"{name}.")
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise ConfigError(
                f"{name}: expected one of {', '.join(map(str, typing.get_args(hint)))}, got {value!r}"
            )
        return value
    if typing.get_origin(hint) is tuple:
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise ConfigError(f"{name}: expected a list of strings, got {value!r}")
        return tuple(value)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not any(type(value) is option for option in options):
        wanted = " or ".join(getattr(option, "__name__", str(option)) for option in options)
        raise ConfigError(f"{name}: expected {wanted}, got {value!r}")
    return value
