"""Recognizers: the samples of a segment -> `Hypothesis`.

Weights are loaded once and no call leaves a trace in them; `asr_whisper` and `asr_sphinx` hold the engines.
"""

import logging
from typing import Protocol

from stream_erc.config import AsrConfig
from stream_erc.events import Hypothesis, Samples
from stream_erc.exceptions import ConfigError, EngineUnavailable
from stream_erc.inference.asr_sphinx import PocketSphinx
from stream_erc.inference.asr_whisper import FasterWhisper, best_whisper

__all__ = ["FasterWhisper", "NoRecognizer", "PocketSphinx", "Recognizer", "load_recognizer"]

log = logging.getLogger(__name__)

ENGINES = "auto, faster-whisper, faster-whisper:MODEL, pocketsphinx, none"
PLAIN_ENGINES = frozenset({"auto", "pocketsphinx", "none"})


class Recognizer(Protocol):
    """Turns speech into words; may be called from several threads."""

    @property
    def name(self) -> str:
        """Engine and model, as ``faster-whisper:base.en``."""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the languages it knows; none where it writes nothing."""

    def transcribe(self, samples: Samples, *, final: bool = True, language: str | None = None) -> Hypothesis:
        """The words in `samples` (N,), empty where there are none.

        Args:
            samples: one segment of speech, any length.
            final: False for a segment that still goes on, where speed counts more than the last word.
            language: one of `languages`; None for the one that it was loaded for.
        """


class NoRecognizer:
    """No words at all: the emotion is recognized from the voice alone."""

    name = "none"
    languages: tuple[str, ...] = ()

    def transcribe(self, samples: Samples, *, final: bool = True, language: str | None = None) -> Hypothesis:
        """An empty hypothesis."""
        return Hypothesis("")


def load_recognizer(config: AsrConfig) -> Recognizer:
    """The recognizer that `config.engine` names.

    - ``faster-whisper:MODEL``: that model (size, hub repository or folder), or an error.
    - ``faster-whisper``: the best model that is on this machine and keeps up with speech (on a CPU ``base``,
      on a GPU ``large-v3-turbo`` first, English-only variants where the language is English); where there is
      none, ``base`` (145 MB) or ``large-v3-turbo`` (1.6 GB) is downloaded once.
    - ``pocketsphinx``: the embedded English engine.
    - ``none``: no words.
    - ``auto``: as ``faster-whisper``; where no model can be had it logs one warning and falls back to
      ``pocketsphinx``, or to ``none`` for another language than English.

    Raises:
        ConfigError: any other engine, or a setting that the engine does not know.
        DeviceError: no CUDA device where one was asked for.
        EngineUnavailable: the engine asked for is not installed, or its model cannot be had.
    """
    check_engine(config.engine)
    if config.beam_size < 1 or config.parallel < 1:
        raise ConfigError(f"asr: expected beam_size and parallel of 1 or more, got {config}")
    engine, colon, model = config.engine.partition(":")
    if engine == "faster-whisper" and bool(colon) == bool(model):
        return FasterWhisper(model, config) if model else best_whisper(config)
    match config.engine:
        case "auto":
            return _auto(config)
        case "pocketsphinx":
            return PocketSphinx(config)
        case "none":
            return NoRecognizer()
    raise AssertionError(config.engine)


def check_engine(engine: str) -> None:
    """Refuse a name that is no engine's, without loading any.

    Raises:
        ConfigError: it is none of them.
    """
    name, colon, model = engine.partition(":")
    if not (name == "faster-whisper" and bool(colon) == bool(model)) and engine not in PLAIN_ENGINES:
        raise ConfigError(f"unknown speech recognition engine: expected one of {ENGINES}, got {engine!r}")


def _auto(config: AsrConfig) -> Recognizer:
    try:
        return best_whisper(config)
    except EngineUnavailable as error:
        embedded = config.language in (None, "en")
        log.warning(
            "speech recognition falls back to %s: %s",
            "pocketsphinx, which mishears far more words" if embedded else "none, voice only",
            error,
        )
        return PocketSphinx(config) if embedded else NoRecognizer()
