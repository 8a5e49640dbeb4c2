"""The embedded recognizer: PocketSphinx with the US English model inside its package, no download."""

import ctypes
import logging
import re
import warnings
import weakref
from queue import LifoQueue
from typing import Protocol

from stream_erc.audio import to_pcm16
from stream_erc.config import AsrConfig
from stream_erc.events import Hypothesis, Samples
from stream_erc.exceptions import ConfigError, EngineUnavailable
from stream_erc.inference.asr_guards import is_silent

log = logging.getLogger(__name__)

MIN_SAMPLES = 1_600
"""100 ms: too short for a word."""

SEARCH = {
    # Normalise over the whole utterance: the running mean (``live``, the default) carries over from one
    # call to the next, so transcripts would depend on their order. It also has 1.6 times the word errors.
    "cmn": "batch",
    "loglevel": "FATAL",
}
"""Settings that differ from PocketSphinx's defaults."""


class PocketSphinx:
    """CMU PocketSphinx, US English, lower-case text without punctuation.

    It needs no download and runs at about 0.2 of real time on one core. It mishears one word in four of clear
    read speech, and more of acted speech. Partial and final hypotheses take the same time. It is thread-safe:
    up to `AsrConfig.parallel` decoders of about 95 MB each are created when needed.

    Raises:
        ConfigError: a language other than English.
        EngineUnavailable: the package is not installed.
    """

    def __init__(self, config: AsrConfig) -> None:
        if config.language not in (None, "en"):
            raise ConfigError(
                f"pocketsphinx supports English only: expected language en, got {config.language}"
            )
        self.name, self.languages = "pocketsphinx", ("en",)
        self._idle: LifoQueue[_Decoder | None] = LifoQueue()  # None: a decoder that may still be created
        for _ in range(config.parallel - 1):
            self._idle.put(None)
        self._idle.put(_make_decoder())

    def transcribe(
        self,
        samples: Samples,
        *,
        final: bool = True,
        language: str | None = None,
        likely: str | None = None,
        words: bool = False,
    ) -> Hypothesis:
        """Transcribe `samples` (N,), silence as ""; wait while all decoders are busy."""
        if len(samples) < MIN_SAMPLES or is_silent(samples):
            return Hypothesis("")
        decoder = self._idle.get()
        try:
            decoder = decoder or _make_decoder()
            return Hypothesis(strip_fillers(decoder.decode(to_pcm16(samples))), language="en")
        finally:
            self._idle.put(decoder)


def strip_fillers(text: str) -> str:
    """Remove silences, noises (``<sil>``, ``[NOISE]``, ``++BREATH++``) and pronunciation marks."""
    words = (re.sub(r"\(\d+\)$", "", word) for word in text.split())
    return " ".join(word for word in words if not re.fullmatch(r"<.*>|\[.*\]|\+\+.*\+\+", word))


class _Decoder(Protocol):
    """A decoder of one utterance at a time, for one thread at a time."""

    def decode(self, pcm: bytes) -> str: ...


def _make_decoder() -> _Decoder:
    try:
        import pocketsphinx
        from pocketsphinx import _pocketsphinx
    except ImportError as error:
        raise EngineUnavailable(
            f"pocketsphinx is not installed: pip install pocketsphinx ({error})"
        ) from error
    folder = pocketsphinx.get_model_path("en-us")
    settings = {
        "hmm": f"{folder}/en-us",
        "lm": f"{folder}/en-us.lm.bin",
        "dict": f"{folder}/cmudict-en-us.dict",
        **SEARCH,
    }
    try:
        return _LibraryDecoder(_pocketsphinx.__file__, settings)
    except (OSError, AttributeError) as error:  # a build that hides the C functions
        log.info("pocketsphinx holds the GIL while decoding: %s", error)
        return _PackageDecoder(settings)


class _LibraryDecoder:
    """A decoder that calls the extension module's C library through ctypes, which releases the GIL.

    The package's own `Decoder` holds the GIL for the whole utterance: a second or more in which no other
    thread runs, so a microphone would lose audio.
    """

    def __init__(self, library: str, settings: dict[str, str]) -> None:
        self._sphinx = _declare(ctypes.CDLL(library))
        config = self._sphinx.ps_config_init(None)
        for name, value in settings.items():
            self._sphinx.ps_config_set_str(config, name.encode(), value.encode())
        self._decoder = self._sphinx.ps_init(config)
        self._sphinx.ps_config_free(config)  # the decoder holds its own reference
        if not self._decoder:
            raise EngineUnavailable(
                f"pocketsphinx: expected its English model in {settings['hmm']}, cannot load it"
            )
        weakref.finalize(self, self._sphinx.ps_free, self._decoder)

    def decode(self, pcm: bytes) -> str:
        self._sphinx.ps_start_stream(self._decoder)  # reset the noise estimate of the previous utterance
        self._sphinx.ps_start_utt(self._decoder)
        self._sphinx.ps_process_raw(self._decoder, pcm, len(pcm) // 2, 0, 1)  # search; the whole utterance
        self._sphinx.ps_end_utt(self._decoder)
        text: bytes | None = self._sphinx.ps_get_hyp(self._decoder, None)
        return text.decode() if text else ""


def _declare(sphinx: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the C signatures (pocketsphinx.h, version 5); AttributeError if a function is not exported."""
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("ps_config_init", pointer, [pointer]),
        ("ps_config_set_str", pointer, [pointer, text, text]),
        ("ps_config_free", ctypes.c_int, [pointer]),
        ("ps_init", pointer, [pointer]),
        ("ps_free", ctypes.c_int, [pointer]),
        ("ps_start_stream", ctypes.c_int, [pointer]),
        ("ps_start_utt", ctypes.c_int, [pointer]),
        ("ps_process_raw", ctypes.c_int, [pointer, text, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]),
        ("ps_end_utt", ctypes.c_int, [pointer]),
        ("ps_get_hyp", text, [pointer, pointer]),
    ):
        function = getattr(sphinx, name)
        function.restype, function.argtypes = result, arguments
    return sphinx


class _PackageDecoder:
    """A decoder that uses the package's own binding, for builds that do not export the C functions."""

    def __init__(self, settings: dict[str, str]) -> None:
        import pocketsphinx

        self._decoder = pocketsphinx.Decoder(**settings)

    def decode(self, pcm: bytes) -> str:
        with warnings.catch_warnings():  # deprecated as needless, but without it noise estimates carry over
            warnings.simplefilter("ignore", DeprecationWarning)
            self._decoder.start_stream()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""
