"""Whisper through faster-whisper: finding a model, loading it, decoding deterministically."""

import dataclasses
import http.client
import logging
import math
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import AsrConfig
from stream_erc.events import Hypothesis, Samples
from stream_erc.exceptions import ConfigError, DeviceError, EngineUnavailable
from stream_erc.inference.asr_guards import collapse_repeats, credible_text, is_silent
from stream_erc.inference.packaged_whisper import MODEL as PACKAGED
from stream_erc.inference.packaged_whisper import packaged_folder
from stream_erc.inference.whisper_decoding import WhisperDecoder

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

log = logging.getLogger(__name__)

CPU_MODELS = ("base", "small", "tiny")  # best first among those that keep up on two cores
GPU_MODELS = ("large-v3-turbo", "medium", "small", "base")
MULTILINGUAL_ONLY = ("large-v3-turbo",)
NO_TRANSLATION = ("large-v3-turbo",)  # it was trained without

COMPUTE_TYPES = {"cuda": ("float16", "int8_float32", "float32"), "cpu": ("int8", "float32")}
"""Candidates for ``auto``: the first that the device supports is used."""

HUB_TIMEOUT_S = 3.0
"""Timeout of the hub's first answer; its own client would retry for minutes."""

THREADS = 4
"""The most threads of one transcription; half of the cores if that is less.

The decoder takes one small step after the other, and a second thread makes it slower: 222 ms a clip instead
of 152 on two cores. The cores that are left read the voice meanwhile.
"""


class FasterWhisper:
    """Whisper through CTranslate2, guarded against hallucinated text.

    Decoding is deterministic, at temperature 0: sampling, Whisper's usual remedy for a loop, would make a
    replay differ from the live run. `WhisperDecoder` says what is done instead.

    Args:
        model: a size (``base.en``), a repository on the hub, or a folder in CTranslate2's format.
        config: device, compute type, language, beam size.
        folder: where the model was found, if it was looked for before.

    Raises:
        ConfigError: an unknown size, language or compute type.
        DeviceError: a CUDA device was requested, but there is none.
        EngineUnavailable: the model is not available, or cannot be loaded.

    Attributes:
        decoder: decodes without guards.
        folder: where the model lies.
    """

    def __init__(self, model: str, config: AsrConfig, folder: Path | None = None) -> None:
        device = _device(config)  # fail before a needless download
        self.folder = folder = folder or find_model(model)
        self.name = f"faster-whisper:{folder.name if Path(model).expanduser().is_dir() else model}"
        whisper = _load_whisper(folder, device, config)
        self.decoder = WhisperDecoder(whisper)
        self._language = config.language
        self._beam_size, self._translate = config.beam_size, config.translate
        self.languages = tuple(whisper.supported_languages)
        if config.language is not None and config.language not in self.languages:
            known = ", ".join(self.languages)
            raise ConfigError(f"{self.name}: expected a language among {known}, got {config.language}")

    def transcribe(
        self,
        samples: Samples,
        *,
        final: bool = True,
        language: str | None = None,
        likely: str | None = None,
        words: bool = False,
    ) -> Hypothesis:
        """Transcribe `samples` (N,): greedily while the segment is running, then by beam search.

        Speech in another language than English is translated, too (`AsrConfig.translate`).
        """
        if is_silent(samples):
            return Hypothesis("")
        windows = self.decoder.decode(
            samples,
            language=language or self._language,
            likely=likely,
            beam_size=self._beam_size if final else 1,
            climb=final,
            translate=self._translate,
            words=words and final,
        )
        heard = [(text, window) for window in windows if (text := credible_text(window))]
        if not heard:
            return Hypothesis("")
        seconds = sum(window.seconds for _, window in heard)
        logprob = sum(window.avg_logprob * window.seconds for _, window in heard) / seconds
        spoken = max((window for _, window in heard), key=lambda window: window.seconds).language
        text = " ".join(text for text, _ in heard)
        translations = [collapse_repeats(window.translation or text) for text, window in heard]
        timed = tuple(word for _, window in heard for word in window.words)
        return Hypothesis(
            text,
            min(1.0, math.exp(logprob)),
            spoken,
            " ".join(translations) if any(window.translation for _, window in heard) else None,
            timed,
            punctuated=True,
        )


def best_whisper(config: AsrConfig) -> FasterWhisper:
    """Load the default model that `default_model` names; download it if none is on this machine.

    Raises:
        ConfigError, DeviceError, EngineUnavailable: as `FasterWhisper`.
    """
    device = _device(config)
    try:
        model, folder = default_model(config)
        return FasterWhisper(model, config, folder)
    except EngineUnavailable as error:
        if device == "cpu" or config.device != "auto":
            raise
        log.warning("speech recognition runs on the CPU: %s", error)
        return best_whisper(dataclasses.replace(config, device="cpu"))


def default_model(config: AsrConfig) -> tuple[str, Path | None]:
    """Return the best default model on this machine and its folder; the first one and None if there is none.

    That is the first of the device's sizes that is there; for English, the English-only variants first. A
    packaged model that cannot be used is passed over with a warning.

    Raises:
        DeviceError: a CUDA device was requested, but there is none.
        EngineUnavailable: faster-whisper is not installed.
    """
    names = []
    translates = config.translate and config.language != "en"
    for size in GPU_MODELS if _device(config) == "cuda" else CPU_MODELS:
        if translates and size in NO_TRANSLATION:
            continue
        if config.language == "en" and size not in MULTILINGUAL_ONLY:
            names.append(f"{size}.en")
        if config.language != "en" or size in (*MULTILINGUAL_ONLY, PACKAGED):
            names.append(size)
    for name in names:
        folder = _in_cache(name)
        if folder is None and name == PACKAGED:
            try:
                folder = packaged_folder()
            except EngineUnavailable as error:
                log.warning("the packaged Whisper model is passed over: %s", error)
        if folder is not None:
            return name, folder
    return names[0], None


def find_model(model: str) -> Path:
    """Return the folder of a Whisper model in CTranslate2's format: given, cached, packaged or downloaded.

    Raises:
        ConfigError: an unknown size.
        EngineUnavailable: it is not on this machine and cannot be downloaded, or it is incomplete or damaged.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        # without a tokenizer the library would try to download one, and block
        missing = [name for name in ("model.bin", "tokenizer.json") if not (folder / name).is_file()]
        if missing:
            raise EngineUnavailable(
                f"{model}: expected a Whisper model in CTranslate2's format, got a folder without "
                f"{' and '.join(missing)}; ct2-transformers-converter --copy_files tokenizer.json "
                "preprocessor_config.json makes one"
            )
        return folder
    return _in_cache(model) or (packaged_folder() if model == PACKAGED else None) or _download(model)


def _in_cache(model: str) -> Path | None:
    """Return the folder of a cached model; None if it was not downloaded, or not completely."""
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(_repository(model), local_files_only=True)
    except (OSError, ValueError):  # not cached; ValueError: not a valid repository name
        return None
    return Path(folder) if (Path(folder) / "model.bin").is_file() else None


def _download(model: str) -> Path:
    from faster_whisper.utils import download_model

    repository = _repository(model)
    why = _unreachable(repository)
    if why is None:
        log.warning("downloading the Whisper model %s from %s, once", model, repository)
        try:
            return Path(download_model(repository))
        except Exception as error:  # its client raises any error of its HTTP library
            why = _line(error)
    raise EngineUnavailable(
        f"Whisper model {model} is not on this machine and cannot be downloaded ({why}); "
        'pip install "stream-erc[whisper]", connect once, or name a folder with one: faster-whisper:FOLDER'
    )


def _unreachable(repository: str) -> str | None:
    """Return why the hub does not serve `repository` within `HUB_TIMEOUT_S`, None if it does."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        with urllib.request.urlopen(f"{constants.ENDPOINT}/api/models/{repository}", timeout=HUB_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        with error:  # 401 and 403: the client has the user's token, and may be allowed in
            return None if error.code in (401, 403) else f"{constants.ENDPOINT} answers {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return f"{constants.ENDPOINT}: {_line(reason)}"


def _repository(model: str) -> str:
    """Return the hub repository of a model size, or `model` if it is a repository."""
    if "/" in model:
        return model
    try:
        from faster_whisper import utils
    except ImportError as error:
        raise EngineUnavailable(
            f"faster-whisper is not installed: pip install faster-whisper ({error})"
        ) from error
    if model not in utils._MODELS:
        sizes = ", ".join(utils.available_models())
        raise ConfigError(f"unknown Whisper model: expected a folder or one of {sizes}, got {model!r}")
    return str(utils._MODELS[model])


def threads_of(device: str) -> int:
    """Return the threads of one transcription, ``OMP_NUM_THREADS`` at most; on a GPU without effect."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(asked) if asked.isascii() and asked.isdecimal() else THREADS
    return 1 if device == "cuda" else max(1, min(most, THREADS, (os.cpu_count() or 1) // 2))


def _load_whisper(folder: Path, device: str, config: AsrConfig) -> "WhisperModel":
    import ctranslate2  # type: ignore[import-untyped]
    from faster_whisper import WhisperModel

    compute_type = config.compute_type
    if compute_type == "auto":
        supported = ctranslate2.get_supported_compute_types(device)
        compute_type = next(kind for kind in COMPUTE_TYPES[device] if kind in supported)
    try:
        model = WhisperModel(
            str(folder),
            device=device,
            compute_type=compute_type,
            cpu_threads=threads_of(device),
            num_workers=config.parallel,
        )
        if device == "cuda":  # a missing CUDA library raises only on the first computation
            list(model.transcribe(np.zeros(SAMPLE_RATE, np.float32), language="en", beam_size=1)[0])
    except ValueError as error:  # CTranslate2's answer to a compute type
        raise ConfigError(f"{folder.name} on {device} with {compute_type}: {_line(error)}") from error
    except (OSError, RuntimeError) as error:
        raise EngineUnavailable(f"{folder.name} on {device}: cannot be loaded ({_line(error)})") from error
    return model


def _device(config: AsrConfig) -> str:
    """Return the device to use, ``cpu`` or ``cuda``."""
    try:
        import ctranslate2
    except ImportError as error:
        raise EngineUnavailable(
            f"faster-whisper is not installed: pip install faster-whisper ({error})"
        ) from error
    devices = ctranslate2.get_cuda_device_count()
    if config.device == "cuda" and not devices:
        raise DeviceError("expected a CUDA device for speech recognition, found none: use --device cpu")
    return "cuda" if devices and config.device != "cpu" else "cpu"


def _line(error: object) -> str:
    """Return an error as one short line."""
    lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
