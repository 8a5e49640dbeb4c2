"""The two channels of a call, heard by the real engine, are what each of them alone is."""

import json

import numpy as np
import soundfile
from paths import SAMPLE
from serving import real_engine

from stream_erc.config import SessionConfig
from stream_erc.core.work import Analysis, AnalyzeSegment, Failure
from stream_erc.events import EmotionEvent, Samples

NAMES = ("Anna", "Tom")


def overlapping_call() -> Samples:
    """Return the sample's first six turns, with a channel for each speaker, Tom 1.5 s early."""
    audio, _ = soundfile.read(SAMPLE / "conversation.flac", dtype="float32", stop=24 * 16_000)
    sides = np.zeros((len(audio), 2), dtype=np.float32)
    for turn in json.loads((SAMPLE / "conversation.json").read_text())[:6]:
        begin, end = turn["start_ms"] * 16 - 800, turn["end_ms"] * 16 + 800
        early = 24_000 if turn["speaker"] == "Tom" else 0
        sides[begin - early : end - early, NAMES.index(turn["speaker"])] = audio[begin:end]
    return sides


def hear(audio: Samples, channels: tuple[str | None, ...] | None) -> dict[tuple, tuple]:
    """Return (start, end) -> channel, speaker, words, acoustic features, emotion of each turn."""
    engine, features, events = real_engine(), {}, []
    session = engine.open_session(SessionConfig(), channels=channels)
    session.receive_audio(np.ascontiguousarray(audio))
    session.receive_eof()
    while works := session.work_to_do() or ([held] if (held := session.held_for) else []):
        for work in works:
            skip = work.ahead and not getattr(work, "awaited", False)
            result = Failure("not needed") if skip else engine.run([work])[0]
            if isinstance(work, AnalyzeSegment) and isinstance(result, Analysis):
                features[work.segment.start, work.segment.end] = result.features.acoustic
            session.receive_result(work, result)
        events += session.events_received()
    turns = [e for e in events + session.events_received() if isinstance(e, EmotionEvent)]
    return {
        (e.turn.start, e.turn.end): (
            e.turn.channel,
            e.speaker_name,
            e.turn.text,
            features[e.turn.start, e.turn.end],
            e.emotion,
        )
        for e in turns
    }


def test_words_and_features_are_those_of_each_channel_alone() -> None:
    call = overlapping_call()
    together = hear(call, NAMES)
    assert len(together) >= 6
    spans = list(together)
    assert sum(a[1] > b[0] and b[1] > a[0] for a in spans for b in spans if a is not b) >= 4  # they overlap
    for number, name in enumerate(NAMES):
        alone = hear(call[:, [number]], (name,))
        mine = {span: turn for span, turn in together.items() if turn[0] == number}
        assert mine.keys() == alone.keys()
        for span, (_, speaker, text, acoustic, _) in mine.items():
            assert (speaker, text) == (name, alone[span][2])
            assert np.array_equal(acoustic, alone[span][3], equal_nan=True)


def test_a_turn_is_classified_after_the_turns_of_the_other_channel() -> None:
    call = overlapping_call()
    together, alone = hear(call, NAMES), hear(call[:, [1]], NAMES[1:])
    emotions = [(turn[4], alone[span][4]) for span, turn in together.items() if turn[0] == 1]
    assert emotions and all(one.probabilities != other.probabilities for one, other in emotions)
