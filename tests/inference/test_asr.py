import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from paths import CORPORA, SAMPLE

from stream_erc.audio import to_pcm16
from stream_erc.config import AsrConfig
from stream_erc.exceptions import ConfigError, DeviceError, EngineUnavailable
from stream_erc.inference import asr_whisper
from stream_erc.inference.asr import FasterWhisper, NoRecognizer, PocketSphinx, load_recognizer
from stream_erc.inference.asr_sphinx import SEARCH, _PackageDecoder, strip_fillers
from stream_erc.inference.packaged_whisper import PACKAGES
from stream_erc.sources.audio_files import AudioFile

DATA = CORPORA / "asr"


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(int(16_000 * seconds))).astype(np.float32)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """The first 1.2 s of three turns of the bundled sample."""
    audio = np.concatenate(list(AudioFile(SAMPLE / "conversation.flac").chunks()))
    turns = json.loads((SAMPLE / "conversation.json").read_text())[:3]
    return [audio[16 * turn["start_ms"] :][:19_200] for turn in turns]


# --- pocketsphinx ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sphinx() -> PocketSphinx:
    return PocketSphinx(AsrConfig())


@pytest.fixture(scope="module")
def texts(sphinx, clips) -> list[str]:
    return [sphinx.transcribe(clip).text for clip in clips]


@pytest.mark.skipif(not DATA.is_dir(), reason="no speech clips at ../shared/data")
def test_sphinx_hears_clear_speech(sphinx):
    clip = np.concatenate(list(AudioFile(DATA / "misc" / "sb_spk1_snt5.flac").chunks()))
    hypothesis = sphinx.transcribe(clip)
    assert hypothesis.text == "sunday is the best part of the week"


def test_a_call_leaves_nothing_behind(sphinx, clips, texts):
    assert all(texts)
    assert [sphinx.transcribe(clip).text for clip in reversed(clips)] == texts[::-1]


def test_an_utterance_is_heard_the_same_whatever_came_before(clips):
    """The cepstral means are equal to the last digit, being computed from the utterance alone."""
    decoder = _PackageDecoder(SEARCH)
    heard = []
    for order in ([0], [0], [1, 0], [2, 1, 0]):
        for clip in order:
            decoder.decode(to_pcm16(clips[clip]))
        heard.append(decoder._decoder.get_cmn(False))
    assert len(set(heard)) == 1


def test_threads_share_a_recognizer(sphinx, clips, texts):
    with ThreadPoolExecutor(3) as pool:  # more than the decoders there are
        assert [hypothesis.text for hypothesis in pool.map(sphinx.transcribe, clips)] == texts


def test_decoding_leaves_the_interpreter_free(sphinx, clips):
    ticks, done = 0, threading.Event()

    def tick():
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.002)

    thread = threading.Thread(target=tick)
    thread.start()
    sphinx.transcribe(clips[0])
    done.set()
    thread.join()
    assert ticks > 10


def test_the_package_s_own_decoder_hears_the_same(clips, texts):
    assert strip_fillers(_PackageDecoder(SEARCH).decode(to_pcm16(clips[0]))) == texts[0]


@pytest.mark.parametrize("samples", [0, 1, 100, 410, 411, 1_599, 16_000])
def test_sphinx_hears_nothing_in_silence(sphinx, samples):
    assert sphinx.transcribe(np.zeros(samples, np.float32)).text == ""


@pytest.mark.parametrize("samples", [1, 410, 1_600, 2_000, 4_000])
def test_sphinx_takes_a_scrap_of_sound(sphinx, samples):
    hypothesis = sphinx.transcribe(noise(1.0)[:samples], final=False)
    assert len(hypothesis.text.split()) <= 1


def test_fillers_are_no_words():
    assert strip_fillers("<s> <sil> well [NOISE] the(2) ++BREATH++ door </s>") == "well the door"


def test_sphinx_is_english():
    with pytest.raises(ConfigError, match="expected language en, got de"):
        PocketSphinx(AsrConfig(language="de"))


# --- whisper --------------------------------------------------------------------------------------

SPECIAL = ["endoftext", "startoftranscript", "en", "translate", "transcribe", "startoflm", "startofprev"]
SPECIAL += ["nospeech", "notimestamps", *(f"{i * 0.02:.2f}" for i in range(1501))]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A factory of Whisper models that write one given text: `whisper(text, silent)` -> a folder.

    They are real models, of one layer and 64 dimensions, made and converted with the libraries' own code. The
    position embeddings encode the text's letters, so the decoder writes one after the other; at the first
    position, where Whisper decides whether there is speech, they encode that decision.
    """
    import ctranslate2
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # tokens of the real tokenizer too; without them, suppressing " -" and the like suppresses the space
    pairs = [("Ġ", "-"), ("Ġ", "'"), ("Ġ", "â")]
    vocabulary = {token: i for i, token in enumerate([*letters, *map("".join, pairs)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in SPECIAL])
    token = {name: tokenizer.token_to_id(f"<|{name}|>") for name in SPECIAL}
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=token["endoftext"],
        bos_token_id=token["endoftext"],
        eos_token_id=token["endoftext"],
        decoder_start_token_id=token["startoftranscript"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )

    def make(text: str, *, silent: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("whisper")
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config)
        decoder = model.get_decoder()
        spoken = [tokenizer.token_to_id(letter) for letter in text.replace(" ", "Ġ")]
        verdict = token["nospeech"] if silent else token["en"]
        targets = [verdict, *spoken, *[token["endoftext"]] * 448][
            :448
        ]  # position 1, notimestamps, says the first
        with torch.no_grad():
            embeddings = decoder.embed_tokens.weight
            embeddings.copy_(8 * torch.nn.functional.normalize(torch.randn_like(embeddings)))
            decoder.embed_positions.weight.copy_(20 * embeddings[targets])
        model.generation_config = GenerationConfig(
            alignment_heads=[[0, 0]],
            lang_to_id={"<|en|>": token["en"]},
            suppress_tokens=[],
            begin_suppress_tokens=[],
            no_timestamps_token_id=token["notimestamps"],
            decoder_start_token_id=token["startoftranscript"],
        )
        model.save_pretrained(folder / "hf")
        tokenizer.save(str(folder / "hf" / "tokenizer.json"))
        (folder / "hf" / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<|endoftext|>"})
        )
        WhisperFeatureExtractor().save_pretrained(folder / "hf")
        converter = ctranslate2.converters.TransformersConverter(
            str(folder / "hf"), copy_files=["tokenizer.json", "preprocessor_config.json"]
        )
        return Path(converter.convert(str(folder / "tiny.en")))

    return make


CPU = AsrConfig(device="cpu")


def test_whisper_loads_and_transcribes(whisper):
    folder = whisper("Kids are talking, by the door.")
    recognizer = load_recognizer(AsrConfig(engine=f"faster-whisper:{folder}", device="cpu"))
    assert recognizer.name == "faster-whisper:tiny.en"
    for final in (True, False):
        hypothesis = recognizer.transcribe(noise(2.0), final=final)
        assert hypothesis.text == "Kids are talking, by the door."
        assert hypothesis.confidence is not None and 0.5 < hypothesis.confidence <= 1
    with ThreadPoolExecutor(3) as pool:
        assert len({h.text for h in pool.map(recognizer.transcribe, [noise(2.0)] * 6)}) == 1


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("2", 2), ("16", 4), ("", 4), ("many", 4)])
def test_whisper_has_no_more_threads_than_are_asked_for(monkeypatch, asked, threads):
    monkeypatch.setattr(asr_whisper.os, "cpu_count", lambda: 16)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert asr_whisper.threads_of("cpu") == threads
    assert asr_whisper.threads_of("cuda") == 1


def test_whisper_is_told_the_language(whisper, monkeypatch):
    recognizer = FasterWhisper(str(whisper("no " * 140)), CPU)  # a loop, so it is asked again
    assert recognizer.languages == ("en",)
    asked = []
    generate = recognizer.decoder._generate

    def spy(encoded, language, *args, **options):
        asked.append(language)
        return generate(encoded, "en", *args, **options)  # the only language that this model supports

    monkeypatch.setattr(recognizer.decoder, "_generate", spy)
    for language in (None, "de"):
        recognizer.transcribe(noise(6.0), language=language)
    assert asked == ["en"] * 4 + ["de"] * 4  # with 12, 15 and 30 s of context, then without repeats


def test_whisper_is_not_asked_about_silence(whisper):
    recognizer = FasterWhisper(str(whisper("You know what.")), CPU)
    assert recognizer.transcribe(noise(1.0)).text == "You know what."
    assert recognizer.transcribe(np.zeros(16_000, np.float32)).text == ""
    assert recognizer.transcribe(noise(1.0, level=0.0002)).text == ""
    assert recognizer.transcribe(np.zeros(0, np.float32)).text == ""


def test_whisper_thanks_nobody_for_watching(whisper):
    said, invented = (
        FasterWhisper(str(whisper("Thank you.", silent=silent)), CPU) for silent in (False, True)
    )
    assert said.transcribe(noise(1.0)).text == "Thank you."
    assert invented.transcribe(noise(1.0)).text == ""


def test_whisper_s_loops_end(whisper):
    recognizer = FasterWhisper(str(whisper("no " * 140)), CPU)
    assert recognizer.transcribe(noise(6.0), final=False).text == "no"
    final = recognizer.transcribe(noise(6.0)).text
    assert final.split().count("no") < 4


def test_whisper_s_text_fits_its_duration(whisper):
    text = "Then I told her everything that had happened on that day. "
    recognizer = FasterWhisper(str(whisper(text)), CPU)
    assert recognizer.transcribe(noise(6.0)).text == text.strip()
    cut = recognizer.transcribe(noise(0.3)).text
    assert (
        cut and text.startswith(cut) and len(cut) <= 30
    )  # one letter a token here: 23 tokens and the prompt


def test_whisper_reads_long_turns_in_windows(whisper):
    recognizer = FasterWhisper(str(whisper("Well then.")), CPU)
    assert recognizer.transcribe(noise(40.0), final=False).text == "Well then. Well then."


def test_whisper_says_what_it_lacks(whisper, tmp_path):
    folder = whisper("Hi.")
    with pytest.raises(ConfigError, match="expected a language among en, got de"):
        FasterWhisper(str(folder), AsrConfig(language="de", device="cpu"))
    with pytest.raises(ConfigError, match="int3"):
        FasterWhisper(str(folder), AsrConfig(compute_type="int3", device="cpu"))
    with pytest.raises(ConfigError, match=r"expected a folder or one of .*base\.en.*got 'basse'"):
        FasterWhisper("basse", CPU)
    with pytest.raises(EngineUnavailable, match=r"without model\.bin and tokenizer\.json"):
        FasterWhisper(str(tmp_path), CPU)
    (folder / "model.bin").write_bytes(b"nothing")
    with pytest.raises(EngineUnavailable, match="cannot be loaded"):
        FasterWhisper(str(folder), CPU)


def test_no_cuda_device():
    import ctranslate2

    if ctranslate2.get_cuda_device_count():
        pytest.skip("there is a CUDA device")
    with pytest.raises(DeviceError, match="found none"):
        load_recognizer(AsrConfig(engine="faster-whisper:base.en", device="cuda"))


# --- choosing -------------------------------------------------------------------------------------


def test_none_gives_no_words():
    recognizer = load_recognizer(AsrConfig(engine="none"))
    assert isinstance(recognizer, NoRecognizer)
    assert recognizer.transcribe(noise(1.0)).text == ""


@pytest.mark.parametrize("engine", ["", "whisper", "faster-whisper:", "pocketsphinx:en", "none:", "AUTO"])
def test_unknown_engine(engine):
    with pytest.raises(ConfigError, match=r"expected one of auto, faster-whisper, .* none, got"):
        load_recognizer(AsrConfig(engine=engine))


@pytest.mark.parametrize("setting", [{"parallel": 0}, {"beam_size": 0}])
def test_counts_of_one_or_more(setting):
    with pytest.raises(ConfigError, match="1 or more"):
        load_recognizer(AsrConfig(engine="none", **setting))


LOAD = """
import logging, sys
from stream_erc.inference import packaged_whisper
from stream_erc.inference.asr import load_recognizer
from stream_erc.config import AsrConfig
from stream_erc.exceptions import StreamErcError
logging.basicConfig(format="%(levelname)s %(message)s")
if sys.argv[3] == "without packages":
    packaged_whisper.PACKAGES = ("no_such_package",)
try:
    print(load_recognizer(AsrConfig(engine=sys.argv[1], language=sys.argv[2], device="cpu")).name)
except StreamErcError as error:
    print(type(error).__name__, error)
"""


def load(
    engine: str, home: Path, endpoint: str, language: str = "en", packages: str = "without packages"
) -> tuple[str, list[str]]:
    """Return what a fresh process with an empty cache and the hub at `endpoint` prints and logs."""
    caches = {"HF_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD, engine, language, packages],
        env={**os.environ, **caches, "HF_ENDPOINT": endpoint, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip(), result.stderr.splitlines()


NOWHERE = "http://127.0.0.1:9"  # the discard port: no server listens


def test_auto_falls_back_and_says_so_once(tmp_path):
    name, log = load("auto", tmp_path, NOWHERE)
    assert name == "pocketsphinx"
    (line,) = log
    assert line.startswith("WARNING speech recognition falls back to pocketsphinx")
    assert "base.en" in line and "faster-whisper:FOLDER" in line


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)), reason="the extra `whisper` is not installed"
)
@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "de"])
def test_auto_takes_the_packaged_base_without_a_hub(tmp_path, language):
    assert load("auto", tmp_path, NOWHERE, language, "with packages") == ("faster-whisper:base", [])


def test_auto_has_no_english_for_other_languages(tmp_path):
    name, log = load("auto", tmp_path, NOWHERE, language="de")
    assert name == "none"
    assert len(log) == 1 and "falls back to none, voice only: Whisper model base is not" in log[0]


def test_a_model_asked_for_by_name_is_not_replaced(tmp_path):
    answer, log = load("faster-whisper:small.en", tmp_path, NOWHERE)
    assert answer.startswith("EngineUnavailable Whisper model small.en is not on this machine")
    assert not log


def test_auto_takes_a_model_that_is_in_the_cache(whisper, tmp_path):
    repository = tmp_path / "hub" / "models--Systran--faster-whisper-small.en"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("0" * 40)).symlink_to(whisper("Hi."))
    assert load("auto", tmp_path, NOWHERE) == ("faster-whisper:small.en", [])
    (repository / "snapshots" / ("0" * 40) / "model.bin").unlink()  # a download that was cut off
    assert load("auto", tmp_path, NOWHERE)[0] == "pocketsphinx"


@pytest.fixture
def hub(whisper):
    """The address of a hub on this machine with one model, `base.en`."""
    folder, commit = whisper("Hi."), "0" * 40
    name = "Systran/faster-whisper-base.en"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    tree = [{"type": "file", "path": file, "size": len(files[file]), "oid": file} for file in files]
    about = {"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            path, _, file = self.path.partition("?")[0].rpartition("/")
            if self.path.startswith(f"/api/models/{name}/tree"):
                self.answer(json.dumps(tree).encode(), {"Content-Type": "application/json"})
            elif self.path.startswith(f"/api/models/{name}"):
                self.answer(json.dumps(about).encode(), {"Content-Type": "application/json"})
            elif path == f"/{name}/resolve/{commit}" and file in files:
                self.answer(files[file], {"ETag": f'"{zlib.crc32(files[file])}"', "X-Repo-Commit": commit})
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def answer(self, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_auto_downloads_once(hub, tmp_path):
    name, log = load("auto", tmp_path, hub)
    assert name == "faster-whisper:base.en"
    assert log == ["WARNING downloading the Whisper model base.en from Systran/faster-whisper-base.en, once"]
    assert load("auto", tmp_path, NOWHERE) == ("faster-whisper:base.en", [])


def test_a_hub_without_the_model(hub, tmp_path):
    answer, _ = load("faster-whisper:tiny.en", tmp_path, hub)
    assert answer.startswith("EngineUnavailable") and "answers 404" in answer


def test_a_network_that_never_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        name, _ = load("auto", tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert name == "pocketsphinx"
    assert time.monotonic() - started < 40  # the timeout is 3 s; the hub's own client would wait for minutes


@pytest.mark.parametrize(("language", "name"), [("en", "pocketsphinx"), ("de", "none")])
def test_auto_falls_back_within_a_process_too(monkeypatch, tmp_path, caplog, language, name):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(asr_whisper, "packaged_folder", lambda: None)
    recognizer = load_recognizer(AsrConfig(engine="auto", language=language))
    assert recognizer.name == name
    assert f"falls back to {name}" in caplog.text
