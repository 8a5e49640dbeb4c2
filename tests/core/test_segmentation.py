"""No sample is heard twice, and none is lost, wherever one segment ends and the next begins."""

import dataclasses
import itertools

import numpy as np
import pytest
from fakes import CONFIG, LoudnessVad, conversation, tone
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import CORPORA

from stream_erc.audio import ms_to_samples
from stream_erc.config import EndpointingConfig, SessionConfig
from stream_erc.core.segmentation import SpeechSegmenter
from stream_erc.core.vad import WINDOW, VadState
from stream_erc.events import Samples, SpeechSegment

RATE = 16_000
LONG = dataclasses.replace(
    CONFIG,
    endpointing=EndpointingConfig(pre_roll_ms=400, min_speech_ms=96, min_silence_ms=200, max_turn_ms=4_000),
)


def segments(audio: Samples, config: SessionConfig = LONG) -> list[SpeechSegment]:
    """Return the final segments, and hold partial and paused ones against them."""
    segmenter, found = SpeechSegmenter(LoudnessVad(), config), []
    whole = len(audio) // WINDOW * WINDOW

    def take(items: tuple[object, ...]) -> None:
        for item in items:
            if isinstance(item, SpeechSegment):
                begin = found[-1].samples_from + len(found[-1].samples) if found else 0
                assert item.samples_from >= begin
                if item.final:
                    found.append(item)
                elif item.paused:
                    take(segmenter.decide(item, config.endpointing.min_silence_ms))

    for first in range(0, whole, WINDOW):
        take(segmenter.advance(audio[first : first + WINDOW]))
    take(segmenter.finish(audio[whole:]))
    return found


def test_long_speech_is_cut_in_its_short_pauses() -> None:
    """A pause of 100 ms every 1.3 s, too short to end a turn: each cut falls into one."""
    words = [np.concatenate([tone(1.2, 200), np.zeros(1_600, np.float32)]) for _ in range(12)]
    found = segments(np.concatenate(words))
    assert len(found) > 3
    for one, two in itertools.pairwise(found):
        assert one.end == two.start == two.samples_from == one.samples_from + len(one.samples)
        assert 1.2 <= one.end / RATE % 1.3 <= 1.3


class CountingVad(LoudnessVad):
    """Counts the windows that were given to it."""

    def __init__(self) -> None:
        self.windows = 0

    def __call__(self, window: Samples, state: VadState) -> tuple[float, VadState]:
        self.windows += 1
        return super().__call__(window, state)


def test_digital_silence_costs_no_vad_while_nobody_speaks() -> None:
    """Also with the dither of 16 bits; the pause after speech is heard, and so is the quietest noise."""
    dither = np.random.default_rng(1).integers(-2, 3, 10 * RATE).astype(np.float32) / 2**15
    muted = np.concatenate([np.zeros(10 * RATE, np.float32), dither])
    vad = CountingVad()
    fixed = dataclasses.replace(LONG, endpointing=dataclasses.replace(LONG.endpointing, adaptive=False))
    segmenter, outputs = SpeechSegmenter(vad, fixed), []
    speech = np.concatenate([tone(1.024, 200), np.zeros(RATE, np.float32)])
    for audio in (muted, speech, muted, speech):
        for first in range(0, len(audio) // WINDOW * WINDOW, WINDOW):
            outputs += segmenter.advance(audio[first : first + WINDOW])
    pause = ms_to_samples(LONG.endpointing.min_silence_ms) // WINDOW + 1
    assert vad.windows <= 2 * (len(speech) - RATE) // WINDOW + 2 * pause + 2
    assert len([item for item in outputs if isinstance(item, SpeechSegment) and item.final]) == 2

    noise = np.random.default_rng(1).normal(0, 1e-4, 512 * 10).astype(np.float32)
    before = vad.windows
    for first in range(0, len(noise), WINDOW):
        segmenter.advance(noise[first : first + WINDOW])
    assert vad.windows == before + 10


def test_the_cuts_lose_and_repeat_no_sample() -> None:
    audio = tone(15.0, 200) * np.linspace(0.8, 1, 15 * RATE, dtype=np.float32)
    found = segments(audio)
    heard = np.concatenate([segment.samples for segment in found])
    assert np.array_equal(heard, audio[found[0].samples_from :][: len(heard)])
    assert len(heard) >= len(audio) - 1_600


def test_a_long_pre_roll_takes_nothing_of_the_turn_before() -> None:
    audio = conversation([(1.0, 200), (1.0, 900), (0.6, 200)], gap=0.3)
    found = segments(audio)
    assert len(found) == 3
    for one, two in itertools.pairwise(found):
        assert one.samples_from + len(one.samples) <= two.samples_from < two.start


@settings(deadline=None, max_examples=60)
@given(
    spans=st.lists(st.tuples(st.floats(0.05, 6.0), st.floats(0.02, 0.6)), min_size=1, max_size=8),
    pre_roll_ms=st.integers(0, 800),
    partials=st.booleans(),
)
def test_no_sample_is_heard_twice(spans: list[tuple[float, float]], pre_roll_ms: int, partials: bool) -> None:
    parts = [np.concatenate([tone(s, 200), np.zeros(round(p * RATE), np.float32)]) for s, p in spans]
    endpointing = dataclasses.replace(LONG.endpointing, pre_roll_ms=pre_roll_ms)
    config = dataclasses.replace(LONG, endpointing=endpointing, partials=partials, partial_interval_ms=300)
    for one, two in itertools.pairwise(segments(np.concatenate(parts), config)):
        assert one.samples_from + len(one.samples) <= two.samples_from <= two.start


@pytest.mark.slow
@pytest.mark.skipif(not (CORPORA / "inputs").is_dir(), reason=f"no {CORPORA / 'inputs'}")
def test_a_monologue_that_was_brought_has_each_word_once() -> None:
    """Heard with Whisper base; the voice is a synthetic one, of which some words are heard wrong."""
    from stream_erc.config import AsrConfig
    from stream_erc.exceptions import EngineUnavailable
    from stream_erc.inference.asr import load_recognizer
    from stream_erc.inference.silero import SileroVad
    from stream_erc.sources.audio_files import AudioFile

    try:
        recognizer = load_recognizer(AsrConfig(engine="faster-whisper:base"))
    except EngineUnavailable as error:
        pytest.skip(str(error))
    audio = np.concatenate(list(AudioFile(CORPORA / "inputs" / "monologue.wav").chunks()))
    segmenter, texts = SpeechSegmenter(SileroVad(), SessionConfig()), []

    def take(items: tuple[object, ...]) -> None:
        for item in items:
            if isinstance(item, SpeechSegment) and item.final:
                texts.append(recognizer.transcribe(item.samples).text)
            elif isinstance(item, SpeechSegment) and item.paused:
                take(segmenter.decide(item, 320))

    for first in range(0, len(audio) - WINDOW, WINDOW):
        take(segmenter.advance(audio[first : first + WINDOW]))
    take(segmenter.finish(audio[:0]))
    words = "".join(c for c in " ".join(texts).lower() if c.isalpha() or c == " ").split()
    said = """summer brother bought old boat tried to sail around island engine broke first day had no food
        rain came down for hours took us house wife gave soup bread slept floor fire morning sun out sea flat
        laughed all way home mother angry did not speak week end every tell story again storm gets bigger
        smaller nobody believes word true there will never forget""".split()
    assert [word for word in said if word not in words] == []
    assert (
        words.count("nobody") == words.count("forget") == words.count("morning") == words.count("soup") == 1
    )
    assert not [pair for pair in itertools.pairwise(words) if pair[0] == pair[1]]
