import csv
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import CORPORA

from stream_erc.audio import SAMPLE_RATE
from stream_erc.core.vad import WINDOW, Vad, VadState
from stream_erc.exceptions import EngineUnavailable
from stream_erc.inference.silero import SileroVad
from stream_erc.sources.audio_files import AudioFile

needs_data = pytest.mark.skipif(not (CORPORA / "asr").is_dir(), reason="no speech clips at ../shared/data")


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


def clip(corpus: str, row: int) -> np.ndarray:
    with (CORPORA / corpus / "labels.csv").open(newline="") as file:
        name = next(itertools.islice(csv.DictReader(file), row, None))["file"]
    return np.concatenate(list(AudioFile(CORPORA / corpus / name).chunks()))


def windows_of(audio: np.ndarray) -> np.ndarray:
    return audio[: len(audio) // WINDOW * WINDOW].reshape(-1, WINDOW)


def one_by_one(vad: Vad, windows: np.ndarray, state: VadState | None = None) -> tuple[np.ndarray, VadState]:
    state, found = state or VadState.initial(), []
    for window in windows:
        probability, state = vad(window, state)
        found.append(probability)
    return np.array(found, np.float32), state


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE)) * level).astype(
        np.float32
    )


@needs_data
@pytest.mark.parametrize(
    ("corpus", "row"), [("asr", 0), ("asr", 12), ("ravdess", 3), ("tess", 5), ("speechocean762", 7)]
)
def test_speech_is_heard_and_the_noise_around_it_is_not(vad: SileroVad, corpus: str, row: int) -> None:
    speech = clip(corpus, row)
    loud = np.convolve(speech**2, np.ones(WINDOW) / WINDOW, "same") > np.max(speech**2) / 200
    begin, end = np.flatnonzero(loud)[[0, -1]]
    speech = speech[begin:end]
    around = noise(2.0, 1e-3)
    probabilities, _ = vad.probabilities(
        windows_of(np.concatenate([around, speech, around])), VadState.initial()
    )
    before, during = 2 * SAMPLE_RATE // WINDOW, (2 * SAMPLE_RATE + len(speech)) // WINDOW
    assert probabilities[: before - 2].max() < 0.35
    assert (probabilities[before:during] > 0.5).mean() > 0.7
    assert probabilities[during + 10 :].max() < 0.35


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(3 * SAMPLE_RATE, np.float32),
        noise(3.0, 1e-4),
        noise(3.0, 0.1),
        np.sin(2 * np.pi * 440 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32) * 0.3,
    ],
    ids=["silence", "faint noise", "loud noise", "tone"],
)
def test_what_is_no_speech(vad: SileroVad, audio: np.ndarray) -> None:
    probabilities, _ = vad.probabilities(windows_of(audio), VadState.initial())
    assert probabilities.max() < 0.5


@needs_data
def test_batches_of_any_size_give_the_same_bits(vad: SileroVad) -> None:
    windows = windows_of(clip("asr", 0))
    expected, expected_state = one_by_one(vad, windows)
    for size in (1, 2, 7, 31, len(windows)):
        state, found = VadState.initial(), []
        for first in range(0, len(windows), size):
            batch, state = vad.probabilities(windows[first : first + size], state)
            found.append(batch)
        assert np.array_equal(np.concatenate(found), expected)
        assert np.array_equal(state.hidden, expected_state.hidden)
        assert np.array_equal(state.cell, expected_state.cell)
        assert np.array_equal(state.context, expected_state.context)


@needs_data
def test_a_long_file_is_run_in_bounded_batches(vad: SileroVad, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = windows_of(clip("asr", 1))
    whole, _ = vad.probabilities(windows, VadState.initial())
    monkeypatch.setattr("stream_erc.inference.silero.MAX_BATCH", 10)
    assert np.array_equal(vad.probabilities(windows, VadState.initial())[0], whole)


def test_no_windows_change_nothing(vad: SileroVad) -> None:
    state = VadState.initial()
    probabilities, after = vad.probabilities(np.zeros((0, WINDOW), np.float32), state)
    assert probabilities.shape == (0,) and after is state


@needs_data
def test_the_state_is_what_one_stream_remembers(vad: SileroVad) -> None:
    """Two streams through one network do not affect each other, and a lost state makes a difference."""
    a, b = windows_of(clip("asr", 0))[:60], windows_of(clip("ravdess", 9))[:60]
    alone, _ = one_by_one(vad, a)
    state_a = state_b = VadState.initial()
    together = []
    for window_a, window_b in zip(a, b, strict=True):
        probability, state_a = vad(window_a, state_a)
        _, state_b = vad(window_b, state_b)
        together.append(probability)
    assert np.array_equal(np.array(together, np.float32), alone)
    forgetful = np.array([vad(window, VadState.initial())[0] for window in a])
    assert np.abs(forgetful - alone).max() > 0.2


@needs_data
def test_the_context_in_front_of_a_window_matters(vad: SileroVad) -> None:
    windows = windows_of(clip("asr", 0))
    _, state = one_by_one(vad, windows[:40])
    other = VadState(state.hidden, state.cell, VadState.initial().context)
    assert np.array_equal(state.context, windows[39, -64:])
    assert vad(windows[40], state)[0] != vad(windows[40], other)[0]


def test_a_state_cannot_be_written_to(vad: SileroVad) -> None:
    window = noise(WINDOW / SAMPLE_RATE, 0.1)
    _, state = vad(window, VadState.initial())
    for array in (state.hidden, state.cell, state.context):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    kept = state.context.copy()
    window[:] = 0.0
    assert np.array_equal(state.context, kept), "the caller may reuse its buffer"


def test_a_window_of_another_length_is_refused(vad: SileroVad) -> None:
    with pytest.raises(AssertionError, match=r"\(511,\)"):
        vad(np.zeros(511, np.float32), VadState.initial())


def test_a_missing_network_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable, match="got no file"):
        SileroVad(tmp_path / "silero.onnx")
    (tmp_path / "silero.onnx").write_bytes(b"no network")
    with pytest.raises(EngineUnavailable, match="expected the Silero VAD network, got") as raised:
        SileroVad(tmp_path / "silero.onnx")
    assert "\n" not in str(raised.value)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="pip install faster-whisper"):
        SileroVad()


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match="pip install onnxruntime"):
        SileroVad()
