"""The ladder of Whisper's encoder windows, and the packaged model on sounds that are hard for it."""

import dataclasses
import importlib.util
import json
import re
from types import SimpleNamespace

import jiwer
import numpy as np
import pytest
from paths import CORPORA, SAMPLE

from stream_erc.config import AsrConfig
from stream_erc.inference.asr import FasterWhisper
from stream_erc.inference.packaged_whisper import PACKAGES
from stream_erc.inference.whisper_decoding import (
    WhisperDecoder,
    contexts,
    repeated_phrase,
    says_again,
    token_bounds,
    windows,
)
from stream_erc.sources.audio_files import AudioFile

RATE = 16_000


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.3, (6.3, 15, 30)), (8.9, (14.9, 15, 30)), (9.0, (15, 30)), (12.0, (18, 30)), (25.0, (30,))],
)
def test_a_segment_is_tried_in_ever_longer_windows(seconds, expected):
    assert contexts(seconds) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("I was there. I was there.", True),
        ("Well, I was there, I was there again.", True),
        ("No, no, no!", False),
        ("Come on, come on!", False),
        ("no " * 12, True),
        ("hahahahahahahahahahaha", True),
        ("Dogs are sitting by the door.", False),
        ("", False),
    ],
)
def test_a_sentence_that_is_said_again_is_seen(text, again):
    assert says_again(text) is again


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Dogs are sitting by the door. Dogs are sitting by the door!", 6),
        ("Dogs are sitting by the door. Dogs are sitting by the door. Dogs are", 6),
        ("Dogs are sitting by the door. Kids are sitting by the door.", 0),
        ("Dogs are sitting by the door. Dogs are", 0),
        ("No, no, no, no.", 0),
        ("I know. I know.", 0),
        ("no " * 20, 0),
        ("", 0),
    ],
)
def test_a_text_that_is_one_phrase_again_and_again(text, words):
    assert repeated_phrase(text) == words


def test_tokens_are_bounded_by_the_time_there_was():
    suspicious, most = token_bounds(3.0, "en")
    assert (suspicious, most) == (32, 44)
    assert token_bounds(3.0, "th") == (83, 95)  # a script with several tokens per letter
    assert token_bounds(30.0, "en")[1] == 220


def test_long_audio_is_cut_where_it_is_quiet():
    samples = (0.1 * np.random.default_rng(0).standard_normal(70 * RATE)).astype(np.float32)
    for second in (27, 51):
        samples[second * RATE : second * RATE + RATE // 5] = 0
    parts = list(windows(samples))
    assert np.array_equal(np.concatenate(parts), samples)
    assert len(parts) == 3
    assert [sum(map(len, parts[:i])) / RATE for i in (1, 2)] == pytest.approx([27.1, 51.1], abs=0.1)


# --- the packaged model ---------------------------------------------------------------------------

packaged = pytest.mark.skipif(
    any(importlib.util.find_spec(name.replace("-", "_")) is None for name in PACKAGES),
    reason="the extra whisper is not installed",
)


@pytest.fixture(scope="module")
def base() -> FasterWhisper:
    return FasterWhisper("base", AsrConfig(device="cpu"))


@pytest.fixture(scope="module")
def turns() -> list[tuple[str, np.ndarray]]:
    """The turns of the bundled sample: words and audio."""
    audio = np.concatenate(list(AudioFile(SAMPLE / "conversation.flac").chunks()))
    listed = json.loads((SAMPLE / "conversation.json").read_text())
    return [(turn["text"], audio[16 * turn["start_ms"] : 16 * turn["end_ms"]]) for turn in listed]


def tone(*frequencies: float, seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return sum(0.1 * np.sin(2 * np.pi * f * time) for f in frequencies).astype(np.float32)


@packaged
@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros(3 * RATE, np.float32), id="digital silence"),
        pytest.param(tone(220, 277, 330, seconds=4), id="a chord"),
        pytest.param(tone(50, 100, seconds=2), id="mains hum"),
        pytest.param(tone(1000, seconds=0.3), id="a beep"),
        pytest.param(
            (0.05 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32), id="noise"
        ),
    ],
)
def test_what_is_no_speech_has_no_words(base, samples):
    assert base.transcribe(samples).text == ""


@packaged
@pytest.mark.parametrize("language", ["de", "fr", "nl", "ru", "ja", "hi"])
def test_noise_has_no_words_in_any_language(base, language):
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(2 * RATE))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)))
    assert base.transcribe((0.02 * pink / pink.std()).astype(np.float32), language=language).text == ""


@packaged
def test_words_have_their_times(base, turns):
    for _, samples in turns[:3]:
        heard = base.transcribe(samples, words=True)
        assert " ".join(word.text for word in heard.words) == heard.text
        edges = [edge for word in heard.words for edge in (word.start, word.end)]
        assert edges == sorted(edges) and 0 <= edges[0] and edges[-1] <= len(samples)
        assert all(0 < word.probability <= 1 for word in heard.words)
        assert base.transcribe(samples).words == ()
    silence = np.zeros(2 * RATE, np.float32)  # words move with the audio
    later = base.transcribe(np.concatenate([silence, samples]), words=True)
    assert later.words[0].start == pytest.approx(heard.words[0].start + 2 * RATE, abs=0.5 * RATE)
    assert later.words[-1].end == pytest.approx(heard.words[-1].end + 2 * RATE, abs=0.3 * RATE)


@packaged
def test_a_language_is_detected_and_kept(turns):
    detecting = FasterWhisper("base", AsrConfig(device="cpu", language=None))
    _, samples = turns[0]
    assert detecting.transcribe(samples).language == "en"
    assert detecting.transcribe(samples, likely="de").language == "en"  # it is certain of English


@pytest.mark.parametrize(
    ("probability", "likely", "expected"),
    [(0.95, "de", "en"), (0.8, "de", "de"), (0.8, None, "en"), (0.8, "en", "en")],
)
def test_another_language_must_be_certain(probability, likely, expected):
    network = SimpleNamespace(
        is_multilingual=True, detect_language=lambda _: [[("<|en|>", probability), ("<|de|>", 0.04)]]
    )
    decoder = WhisperDecoder(SimpleNamespace(model=network))
    assert decoder._detect(None, likely) == expected


@pytest.mark.skipif(not (CORPORA / "emodb").is_dir(), reason="no German speech at ../shared/data")
@packaged
def test_another_language_is_translated_from_the_same_pass(base):
    clip = np.concatenate(list(AudioFile(CORPORA / "emodb" / "wav" / "03a01Fa.flac").chunks()))
    heard = base.transcribe(clip, language="de")
    assert heard.language == "de" and "Lappen" in heard.text
    assert heard.translation is not None and heard.translation.startswith("The ")
    plain_base = FasterWhisper("base", AsrConfig(device="cpu", language="de", translate=False))
    assert plain_base.transcribe(clip).translation is None
    assert plain_base.transcribe(clip).text == heard.text


@packaged
def test_a_sentence_that_nobody_has_time_to_say_twice_is_said_once(base, monkeypatch):
    generate = base.decoder._generate

    def twice(encoded, language, *args, **options):
        decoding = generate(encoded, language, *args, **options)
        once = base.decoder._tokenizer("en", "transcribe").encode(" Dogs are sitting by the door!")
        return dataclasses.replace(decoding, text=" Dogs are sitting by the door!" * 2, tokens=once * 2)

    monkeypatch.setattr(base.decoder, "_generate", twice)
    noise = (0.05 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32)
    [window] = base.decoder.decode(noise[: int(1.7 * RATE)], language="en", beam_size=3)
    assert (window.text, window.decodings) == (" Dogs are sitting by the door!", 1)
    [window] = base.decoder.decode(noise, language="en", beam_size=3)  # time enough: it is looked at again
    assert (window.text, window.decodings) == (" Dogs are sitting by the door!" * 2, 3)


@packaged
def test_the_sample_is_heard(base, turns):
    for text, samples in turns[:4]:
        heard = base.transcribe(samples)
        wrong = jiwer.wer(plain(text), plain(heard.text))
        assert wrong <= 0.2, heard.text
        assert heard.confidence is not None and heard.confidence > 0.6


@packaged
def test_a_word_of_300_ms_is_heard(base, turns):
    text, samples = turns[4]
    assert text.startswith("Yeah!")
    assert plain(base.transcribe(samples[: 3 * RATE // 10]).text) in ("yeah", "yes")


@packaged
def test_a_sentence_that_is_cut_off_is_not_said_again(base, turns):
    for text, samples in turns[:6]:
        cut = base.transcribe(samples[: 6 * len(samples) // 10]).text
        assert not says_again(cut)
        assert len(cut.split()) <= len(text.split())


@packaged
def test_a_long_segment_is_heard_to_its_end(base, turns):
    said = " ".join(text for text, _ in turns)
    samples = np.concatenate([samples for _, samples in turns])
    assert len(samples) > 45 * RATE
    assert jiwer.wer(plain(said), plain(base.transcribe(samples).text)) < 0.15


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))
