"""A voice that leaks into another channel is one turn; a faint voice of that channel's own is still heard."""

import functools
import json

import numpy as np
import pytest
import soundfile
from fakes import HashEngine, drive, play
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import SAMPLE

from stream_erc.config import EndpointingConfig, SessionConfig
from stream_erc.core.channels import MAX_DELAY, CrosstalkGate
from stream_erc.core.session import Session
from stream_erc.core.vad import WINDOW
from stream_erc.events import EmotionEvent, LastingEvent, Samples
from stream_erc.inference.silero import SileroVad

CONFIG = SessionConfig(endpointing=EndpointingConfig(adaptive=False))
VAD = SileroVad()


@functools.cache
def call() -> Samples:
    """Return the sample's first turns with each speaker in a channel of their own, 1.5 s closer together."""
    audio, rate = soundfile.read(SAMPLE / "conversation.flac", dtype="float32", stop=24 * 16_000)
    sides = np.zeros((len(audio), 2), dtype=np.float32)
    for turn in json.loads((SAMPLE / "conversation.json").read_text())[:6]:
        begin, end = turn["start_ms"] * 16 - 800, turn["end_ms"] * 16 + 800
        early = 24_000 if turn["speaker"] == "Tom" else 0
        sides[begin - early : end - early, "Anna Tom".split().index(turn["speaker"])] = audio[begin:end]
    assert rate == 16_000
    return sides


def leaking(sides: Samples, db: float, delay: int, floor_db: float = -75, seed: int = 1) -> Samples:
    """Return the channels with each leaking into the other, in a room, over noise."""
    rng = np.random.default_rng(seed)
    room = np.zeros(240)
    room[0] = 1.0
    room[1:] = 0.1 * rng.standard_normal(239) * np.exp(-np.arange(239) / 60)
    late = np.stack([np.convolve(side, room)[: len(side)] for side in sides.T], axis=1)
    late = np.pad(late, ((delay, 0), (0, 0)))[: len(sides)]
    noise = 10 ** (floor_db / 20) * rng.standard_normal(sides.shape)
    return (sides + 10 ** (db / 20) * late[:, ::-1] + noise).astype(np.float32)


def turns(audio: Samples, engine: HashEngine | None = None) -> list[tuple[int | None, int, int]]:
    session = Session(CONFIG, vad=VAD, channels=("Anna", "Tom"))
    found = [e.turn for e in play(session, audio, [1600], engine) if isinstance(e, EmotionEvent)]
    return [(turn.channel, turn.start, turn.end) for turn in found if turn.start is not None]


@pytest.mark.parametrize("delay", [0, 60, 120])
@pytest.mark.parametrize("db", [-20, -30, -40])
def test_a_leak_is_no_turn_and_makes_none_longer(db: float, delay: int) -> None:
    clean, heard = turns(leaking(call(), -200, 0)), turns(leaking(call(), db, delay))  # the same noise
    assert len(clean) >= 6
    for channel, start, end in heard:
        assert any(begin < end and start < stop for mine, begin, stop in clean if mine == channel)
    extra = spoken(heard, len(call())) & ~spoken(clean, len(call()))
    missing = spoken(clean, len(call())) & ~spoken(heard, len(call()))
    assert extra.sum() < 0.04 * spoken(clean, len(call())).sum() > missing.sum()


def spoken(found: list[tuple[int | None, int, int]], samples: int) -> np.ndarray:
    """Return when each channel has a turn, (N, 2)."""
    mask = np.zeros((samples, 2), dtype=bool)
    for channel, start, end in found:
        mask[start:end, channel] = True
    return mask


def test_without_the_gate_each_channel_has_the_turns_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show what the gate is for."""

    monkeypatch.setattr(CrosstalkGate, "push", lambda self, window: window)
    both = [spoken(turns(audio), len(audio)).sum() for audio in (leaking(call(), -30, 60), call())]
    assert both[0] > 1.4 * both[1]


@pytest.mark.parametrize("faint_db", [-20, -30])
def test_a_faint_voice_is_no_leak(faint_db: float) -> None:
    """Both speak at a time, one of them far fainter: every sample of both stays as it is."""
    sides = call().copy()
    sides[:, 1] = 10 ** (faint_db / 20) * np.roll(sides[:, 1], -20_000)
    gate = CrosstalkGate(2)
    for at in range(0, len(sides) - WINDOW, WINDOW):
        window = sides[at : at + WINDOW]
        assert np.array_equal(gate.push(window), window)


def test_speech_over_a_leak_stays_as_it_is() -> None:
    sides = leaking(call(), -30, 40)
    rng = np.random.default_rng(2)
    sides[:, 1] += 0.02 * rng.standard_normal(len(sides)).astype(np.float32)  # louder than the leak
    gate = CrosstalkGate(2)
    for at in range(0, len(sides) - WINDOW, WINDOW):
        assert np.array_equal(gate.push(sides[at : at + WINDOW])[:, 1], sides[at : at + WINDOW, 1])


def test_a_leak_of_more_than_the_longest_delay_is_heard() -> None:
    rng = np.random.default_rng(3)
    source = (0.1 * rng.standard_normal(20 * WINDOW)).astype(np.float32)
    for delay, silent in ((0, True), (MAX_DELAY, True), (MAX_DELAY + 1, False)):
        leak = 0.05 * np.pad(source, (delay, 0))[: len(source)]
        gate, both = CrosstalkGate(2), np.stack([source, leak], axis=1)
        heard = [gate.push(both[at : at + WINDOW]) for at in range(0, len(both), WINDOW)]
        assert bool((np.concatenate(heard[5:])[:, 1] == 0).all()) is silent
        assert np.array_equal(np.concatenate(heard)[:, 0], source)


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(1, 230), min_size=1, max_size=3))
def test_a_leaking_call_goes_on_bit_for_bit_after_a_cut(cuts: list[int]) -> None:
    audio, engine = leaking(call(), -25, 50), HashEngine()

    def opened(**options: object) -> Session:
        return Session(CONFIG, vad=VAD, channels=("Anna", "Tom"), **options)  # type: ignore[arg-type]

    expected = [e for e in play(opened(), audio, [1600], engine) if isinstance(e, LastingEvent)]
    kept, session, at = [], opened(), 0
    for cut in sorted(cuts):
        reported = []
        while at < min(1600 * cut, len(audio)):
            session.receive_audio(audio[at : at + 1600])
            at += len(audio[at : at + 1600])
            reported += [e for e in drive(session, engine) if isinstance(e, LastingEvent)]
        snapshot = session.snapshot()
        kept += reported[: snapshot.events - len(kept)]
        session, at = opened(resume=snapshot), snapshot.acknowledged
    rest = play(session, audio[at:], [1600], engine)
    assert kept + [e for e in rest if isinstance(e, LastingEvent)] == expected
