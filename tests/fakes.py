"""Fakes for the edges of a session: a VAD that measures loudness, and an engine that hashes.

The hashing engine's state is a hash chain over all classified turns, so any difference in order, speaker,
words or state changes every later probability.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import DiarizationConfig, EndpointingConfig, SessionConfig, VadConfig
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.enrolment import measure_voice
from stream_erc.core.session import Session, Snapshot
from stream_erc.core.snapshots import StateCodec, decode, encode_header, encode_step
from stream_erc.core.speaker_change import FIRST_FRAME, FRAME, LOCAL_SPEAKERS
from stream_erc.core.vad import VadState
from stream_erc.core.work import (
    Analysis,
    AnalyzeSegment,
    Classification,
    ClassifyTurn,
    Failure,
    MeasuredVoice,
    MeasureVoice,
    Result,
    SegmentSpeakers,
    Work,
)
from stream_erc.events import Emotion, Event, Features, Hypothesis, Samples, SessionClosed, SpeakerActivity
from stream_erc.exceptions import VoicesError
from stream_erc.inference.workers import Worker

LABELS = ("neutral", "joy", "anger")
CONFIG = SessionConfig(
    vad=VadConfig(threshold=0.5, release=0.4),
    endpointing=EndpointingConfig(pre_roll_ms=100, min_speech_ms=100, min_silence_ms=200, max_turn_ms=4000),
    diarization=DiarizationConfig(tau_active_ms=400),
)


class LoudnessVad:
    """A VAD whose speech probability is the loudness."""

    def __call__(self, window: Samples, state: VadState) -> tuple[float, VadState]:
        return float(np.clip(np.abs(window).mean() * 20, 0, 1)), state

    def probabilities(self, windows: Samples, state: VadState) -> tuple[np.ndarray, VadState]:
        return np.array([self(w, state)[0] for w in windows], dtype=np.float32), state


class HashEngine:
    """An engine whose results depend only on the content of the work."""

    def __init__(self) -> None:
        self.fail_on: set[int] = set()

    def warm_up(self) -> None:
        """Nothing is loaded."""

    def run(self, works: Sequence[Work]) -> list[Result]:
        return [self._one(work) for work in works]

    def _one(self, work: Work) -> Result:
        if isinstance(work, AnalyzeSegment):
            segment = work.segment
            if segment.index in self.fail_on and (segment.final or segment.paused):
                return Failure("expected to work, was told to fail")
            digest = hashlib.sha256(np.round(segment.samples * 1000).astype(np.int32).tobytes()).hexdigest()
            text = f"heard {digest[:8]}" if work.transcribe else None
            return Analysis(
                Hypothesis(text) if text else None,
                voice(segment.samples) if work.embed_speaker else None,
                Features(np.array([len(segment.samples), segment.samples.sum()], dtype=np.float32)),
            )
        if isinstance(work, SegmentSpeakers):
            return activity(work)
        if isinstance(work, MeasureVoice):
            return self.measure(work)
        assert isinstance(work, ClassifyTurn)
        seen = (work.state, work.turn.speaker, work.turn.text, work.past)
        state = hashlib.sha256(repr(seen).encode()).hexdigest()
        raw = [1 + int(state[i : i + 4], 16) for i in (0, 4, 8)]
        probabilities = {label: r / sum(raw) for label, r in zip(LABELS, raw, strict=True)}
        label = max(probabilities, key=probabilities.__getitem__)
        return Classification(Emotion(label, probabilities[label], probabilities), state)

    def measure(self, work: MeasureVoice) -> MeasuredVoice | Failure:
        try:
            return MeasuredVoice(*measure_voice([work.clip], LoudnessVad(), voice))
        except VoicesError as error:
            return Failure(str(error))


def totals(event: Event) -> SessionClosed:
    """Return the end of a session without its summary."""
    assert isinstance(event, SessionClosed)
    return dataclasses.replace(event, summary=())


def voice(samples: Samples) -> Samples:
    """Return a voice vector that depends on the pitch of a tone."""
    pitch = np.abs(np.fft.rfft(samples)).argmax() * 4096 / len(samples)
    found = np.zeros(8, dtype=np.float32)
    found[int(pitch // 8) % 8] = 1.0
    return found


def activity(work: SegmentSpeakers) -> SpeakerActivity:
    """Tell tones apart as speakers: each frame's strongest bands, numbered by their first appearance."""
    speech = work.speech
    middles = np.arange(FIRST_FRAME, len(speech.samples) - FIRST_FRAME, FRAME)
    active = np.zeros((len(middles), LOCAL_SPEAKERS), dtype=bool)
    bands: list[int] = []
    for frame, middle in enumerate(middles):
        around = speech.samples[middle - FIRST_FRAME : middle + FIRST_FRAME]
        power = np.abs(np.fft.rfft(around * np.hanning(len(around)), 4096))
        for band in range(8):
            if power[band * 32 : (band + 1) * 32].max() > 20:
                if band not in bands:
                    bands.append(band)
                if bands.index(band) < LOCAL_SPEAKERS:
                    active[frame, bands.index(band)] = True
    heard = None
    if speech.stretch is not None:
        start, end = (at - speech.samples_from for at in speech.stretch)
        heard = voice(speech.samples[start:end])
    return SpeakerActivity(speech.samples_from, speech.stretch, active, heard)


class Talking(HashEngine):
    """Hears words that end a turn, and words that do not."""

    def _one(self, work: Work) -> Result:
        result = super()._one(work)
        if isinstance(result, Analysis) and isinstance(work, AnalyzeSegment) and result.hypothesis:
            ends = (".", " and", "", ",")
            text = result.hypothesis.text + ends[int(abs(work.segment.samples).sum() * 10) % 4]
            result = dataclasses.replace(result, hypothesis=Hypothesis(text))
        return result


class Late:
    """Delivers results when it is told to: those of final work in order, those ahead of it at any time."""

    def __init__(self, choose: Callable[[], int]) -> None:
        self.choose, self.engine = choose, Talking()
        self.waiting: list[Work] = []

    def advance(self, session: Session, *, wait: bool = False) -> list[Event]:
        while True:
            works = session.work_to_do()
            for work in works:
                self.waiting.append(work)
            delivered = False
            for work in list(self.waiting):
                if wait or self.choose() < (3 if work.ahead else 7):
                    self.waiting.remove(work)
                    awaited = isinstance(work, AnalyzeSegment) and work.awaited
                    dropped = work.ahead and not awaited and self.choose() == 0
                    session.receive_result(
                        work, Failure("dropped") if dropped else self.engine.run([work])[0]
                    )
                    delivered = True
            if not (works or delivered):
                return session.events_received()


def tone(seconds: float, hz: float, amplitude: float = 0.3) -> Samples:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32)


def conversation(turns: Sequence[tuple[float, float]], gap: float = 0.5) -> Samples:
    """Make tones (seconds, Hz) with gaps around them."""
    parts = [silence(gap)]
    for seconds, hz in turns:
        parts += [tone(seconds, hz), silence(gap)]
    return np.concatenate(parts)


def open_session(config: SessionConfig = CONFIG, **options: object) -> Session:
    """Open a session for tones; voices are told apart by pitch."""
    clustering = OnlineClustering(config.diarization, 8)
    return Session(config, vad=LoudnessVad(), clustering=clustering, **options)  # type: ignore[arg-type]


def drive(session: Session, engine: HashEngine) -> list[Event]:
    """Run all of a session's work and return its events."""
    while works := session.work_to_do():
        for work, result in zip(works, engine.run(works), strict=True):
            session.receive_result(work, result)
    return session.events_received()


def play(
    session: Session, audio: Samples, sizes: Sequence[int], engine: HashEngine | None = None
) -> list[Event]:
    """Feed audio in chunks of the given sizes (the last repeats) and close; return all events."""
    engine = engine or HashEngine()
    events, at, k = [], 0, 0
    while at < len(audio):
        size = sizes[min(k, len(sizes) - 1)]
        session.receive_audio(audio[at : at + size])
        events += drive(session, engine)
        at, k = at + size, k + 1
    session.receive_eof()
    return events + drive(session, engine)


def muted(worker: Worker, session: Session, audio: Samples, cut: int) -> list[Event]:
    """Feed audio that is muted for a while after `cut` samples, and close; return all events."""
    events = []
    for at in range(0, cut, 1600):
        session.receive_audio(audio[at : min(at + 1600, cut)])
        events += worker.advance(session)
    session.end_turn()
    events += worker.advance(session)
    session.receive_audio(audio[cut:])
    events += worker.advance(session)
    session.receive_eof()
    return events + worker.advance(session, wait=True)


def through_bytes(snapshot: Snapshot, codec: StateCodec) -> Snapshot:
    """Return a snapshot that was stored and read again."""
    steps = {step.analyzed.turn.index: encode_step(step, codec) for step in snapshot.done}
    return decode(encode_header(snapshot, codec), steps, codec)
