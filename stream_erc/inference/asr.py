"""Speech recognizers: the samples of a segment -> `Hypothesis`.

A recognizer loads its weights once, and no call depends on earlier calls. The engines are in `asr_whisper`
and `asr_sphinx`.
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
    """A thread-safe speech recognizer."""

    @property
    def name(self) -> str:
        """Engine and model, such as ``faster-whisper:base.en``."""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the supported languages; empty if it transcribes nothing."""

    def transcribe(
        self,
        samples: Samples,
        *,
        final: bool = True,
        language: str | None = None,
        likely: str | None = None,
        words: bool = False,
    ) -> Hypothesis:
        """Transcribe `samples` (N,); the text is empty if there are no words.

        Args:
            samples: one segment of speech, any length.
            final: False for a segment that is still running, for which speed matters more than accuracy.
            language: one of `languages`; None for the configured one.
            likely: the language of the turn before; kept, where languages are detected, unless another one is
                certain.
            words: whether to tell the times of the words.
        """


class NoRecognizer:
    """A recognizer without words: emotions are recognized from the voice alone."""

    name = "none"
    languages: tuple[str, ...] = ()

    def transcribe(
        self,
        samples: Samples,
        *,
        final: bool = True,
        language: str | None = None,
        likely: str | None = None,
        words: bool = False,
    ) -> Hypothesis:
        """Return an empty hypothesis."""
        return Hypothesis("")


def load_recognizer(config: AsrConfig) -> Recognizer:
    """Load the recognizer that `config.engine` names.

    - ``faster-whisper:MODEL``: that model (size, hub repository or folder), or an error.
    - ``faster-whisper``: the best local model that keeps up with speech (on a CPU ``base`` first, on a GPU
      ``large-v3-turbo``; for English, the English-only variants), ``base`` also from its packages (the extra
      ``whisper``). If there is none, it downloads ``base`` (145 MB) or ``large-v3-turbo`` (1.6 GB) once.
    - ``pocketsphinx``: the embedded English engine.
    - ``none``: no words.
    - ``auto``: as ``faster-whisper``. If no model is available, it logs one warning and falls back to
      ``pocketsphinx``, or to ``none`` for a language other than English.

    Raises:
        ConfigError: any other engine, or a setting that the engine does not support.
        DeviceError: a CUDA device was requested, but there is none.
        EngineUnavailable: the requested engine is not installed, or its model is not available.
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
    """Refuse an unknown engine, without loading one.

    Raises:
        ConfigError: an unknown engine.
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
