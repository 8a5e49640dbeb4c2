"""The engine: it owns all weights and the device, and runs the work of all sessions.

It keeps no state of any session: work and results are values. It is thread-safe; components that are not
guard themselves. An error in one piece of work becomes its `Failure`, and does not affect other work.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from stream_erc.config import EngineConfig, SessionConfig
from stream_erc.core.diarization import OnlineClustering
from stream_erc.core.enrolment import measure_voice
from stream_erc.core.session import Session, Snapshot
from stream_erc.core.vad import Vad
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
from stream_erc.events import Features, GivenTurn, KnownVoice, Samples, SpeakerActivity, Vector
from stream_erc.exceptions import ConfigError, LabelsError, VoicesError
from stream_erc.inference.acoustics import DeferredExtractor
from stream_erc.inference.asr import Recognizer, check_engine, load_recognizer
from stream_erc.inference.devices import on_gpu
from stream_erc.inference.emotion.classifier import EmotionClassifier
from stream_erc.inference.emotion.opening import open_classifier
from stream_erc.inference.label_examples import Decode, LabelExample, load_speech, read_label_examples
from stream_erc.inference.silero import SileroVad
from stream_erc.inference.speaker_encoder import SpeakerEncoder, load_encoder
from stream_erc.inference.speaker_segmentation import SpeakerSegmentation

log = logging.getLogger(__name__)

GPU_BATCH = 1_024
"""The largest batch on a GPU unless ``max_batch`` says otherwise; on a CPU turns come one by one."""

GPU_WAIT_S = 0.004
"""The longest that a batch waits on a GPU for more turns (`BatchWait`)."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages that a run needs; the others are not loaded."""

    audio: bool = True
    segmentation: bool = True
    words: bool = True
    speakers: bool = True

    @classmethod
    def of(cls, given: Sequence[GivenTurn] | None) -> "Stages":
        """Return the stages that a recording with these given turns still needs."""
        if given is None:
            return cls()
        return cls(
            segmentation=False,
            words=any(turn.text is None for turn in given),
            speakers=any(turn.speaker is None for turn in given),
        )


Voice: TypeAlias = tuple[Vector | None, Vector | None, float]
"""A speaker embedding, acoustic features, and the milliseconds that both took."""

Beside: TypeAlias = Callable[[Callable[[], Voice]], Callable[[], Voice]]
"""Starts a function elsewhere, and returns a function that waits for its result."""


def in_turn(function: Callable[[], Voice]) -> Callable[[], Voice]:
    """Start nothing: the result is computed when it is asked for."""
    return function


TEXT_ONLY = Stages(audio=False, segmentation=False, words=False, speakers=False)
"""The stages of a text-only conversation."""


class Acoustics(Protocol):
    """An extractor of acoustic features, such as `stream_erc.inference.acoustics.AcousticExtractor`."""

    def __call__(self, samples: Samples, states: Vector | None = None) -> Vector:
        """Return the features of a segment (N,), given its voice states if they are known."""


class Engine:
    """Runs the work of sessions on shared weights.

    Args:
        classifier: the emotion network with its text encoder.
        vad, recognizer, speaker_encoder, speaker_segmentation, acoustics: None if no session needs them.
        clock: returns seconds, for the latency of each stage; by default latencies are 0.
        max_batch: the largest number of turns in one classification batch.
        language: ISO 639-1 code for sessions that ask for no language; None if the recognizer detects it.
        max_wait_s: the longest that a batch may wait for more turns, under load.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        *,
        vad: Vad | None = None,
        recognizer: Recognizer | None = None,
        speaker_encoder: SpeakerEncoder | None = None,
        speaker_segmentation: SpeakerSegmentation | None = None,
        acoustics: Acoustics | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        max_batch: int = 64,
        language: str | None = None,
        max_wait_s: float = 0.0,
    ) -> None:
        self.classifier = classifier
        self.max_batch, self.max_wait_s = max_batch, max_wait_s
        self.language = language
        self._vad, self._recognizer = vad, recognizer
        self._speaker_encoder, self._acoustics = speaker_encoder, acoustics
        self._speaker_segmentation = speaker_segmentation
        self._clock = clock

    @classmethod
    def load(
        cls,
        config: EngineConfig,
        session: SessionConfig,
        stages: Stages | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        decode: Decode | None = None,
        *,
        warm: bool = True,
    ) -> "Engine":
        """Load an engine with the given stages.

        Args:
            config: the engine's settings.
            session: the settings of the sessions it will run.
            stages: the stages to load; None for all.
            clock: see `Engine`.
            decode: opens the recordings of ``config.labels_from``, if there are any.
            warm: whether to load everything now. Otherwise what takes longest is left to `warm_up`, or to the
                first work that needs it: sessions can be opened before.

        Raises:
            CheckpointError: the checkpoint is missing, damaged, or was trained on other features.
            EngineUnavailable: a component is not installed or its model cannot be had.
            ConfigError: a value out of range.
            LabelsError: the examples of labels cannot be used.
            DeviceError: no such device.
        """
        _check(config, session)
        gpu = on_gpu(config.device)
        stages = stages or Stages()
        examples = read_label_examples(Path(config.labels_from)) if config.labels_from is not None else []
        classifier = open_classifier(config.model, config.device, warm=warm)
        speaker_encoder = load_encoder(session.diarization, config.device) if stages.speakers else None
        acoustics: DeferredExtractor | None = None
        heard = stages.audio or any(example.audio for example in examples)
        if heard and classifier.acoustic_spec is not None:
            acoustics = DeferredExtractor(classifier.acoustic_spec, speaker_encoder)
            if warm or examples:
                acoustics.warm_up()
        if examples:
            classifier = _with_labels(classifier, examples, acoustics, decode)
        return cls(
            classifier,
            vad=SileroVad() if stages.segmentation else None,
            recognizer=load_recognizer(config.asr) if stages.words else None,
            speaker_encoder=speaker_encoder,
            speaker_segmentation=SpeakerSegmentation(gpu=gpu)
            if stages.segmentation and stages.speakers
            else None,
            acoustics=acoustics,
            clock=clock,
            max_batch=config.max_batch or (GPU_BATCH if gpu else 1),
            language=config.asr.language,
            max_wait_s=GPU_WAIT_S if gpu else 0.0,
        )

    def with_model(self, model: str, device: str = "auto") -> "Engine":
        """Return an engine that classifies with another checkpoint and shares everything else.

        Raises:
            CheckpointError: the checkpoint is missing, damaged, or was trained on other features.
        """
        classifier = open_classifier(model, device, warm=self.classifier.warm)
        other = copy.copy(self)
        other.classifier = classifier
        if classifier.acoustic_spec is None:
            other._acoustics = None
        elif classifier.acoustic_spec != self.classifier.acoustic_spec:
            acoustics = DeferredExtractor(classifier.acoustic_spec, self._speaker_encoder)
            if classifier.warm:
                acoustics.warm_up()
            other._acoustics = acoustics
        return other

    def warm_up(self) -> None:
        """Load what `load` left for later; do nothing if that is done.

        Raises:
            CheckpointError: the checkpoint is damaged, or was trained on other features.
            EngineUnavailable: a component is not installed.
        """
        if isinstance(self._acoustics, DeferredExtractor):
            self._acoustics.warm_up()
        self.classifier.warm_up()
        import scipy.optimize  # noqa: F401 - for half a second a session's diarization would hold up all others

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes that a session may ask for; empty without a recognizer."""
        return self._recognizer.languages if self._recognizer else ()

    @property
    def asr_name(self) -> str:
        """The recognizer's name, ``given`` if there is none."""
        return self._recognizer.name if self._recognizer else "given"

    def open_session(
        self,
        config: SessionConfig,
        *,
        given: Sequence[GivenTurn] | None = None,
        appended: bool = False,
        channels: Sequence[str | None] | None = None,
        resume: Snapshot | None = None,
        voices: Sequence[KnownVoice] = (),
    ) -> Session:
        """Open a session whose work this engine can run; without VAD and given turns it is text only.

        Raises:
            VoicesError: voices in a session that does not tell them apart, or of another encoder.
        """
        encoder = self._speaker_encoder
        if voices and encoder is None:
            raise VoicesError("expected turns whose speakers are to be told apart, got known voices and none")
        for voice in voices:
            if encoder is not None and voice.embedding.shape != (encoder.dim,):
                got = f"{voice.name!r} with {voice.embedding.shape}"
                raise VoicesError(f"expected voice vectors of {encoder.name} ({encoder.dim},), got {got}")
        clustering = OnlineClustering(config.diarization, encoder.dim) if encoder else None
        if not self.languages:  # no words, by which a pause could be judged
            config = replace(config, endpointing=replace(config.endpointing, adaptive=False))
        return Session(
            config,
            vad=self._vad,
            clustering=clustering,
            given=given,
            appended=appended,
            channels=channels,
            resume=resume,
            voices=voices,
            detect_language=self.languages != () and (config.language or self.language) is None,
            watches=self._speaker_segmentation is not None and clustering is not None,
        )

    def run(self, works: Sequence[Work]) -> list[Result]:
        """Run `works`, classifications together; return the results in the same order."""
        turns = [work for work in works if isinstance(work, ClassifyTurn)]
        classified = iter(self.classify(turns) if turns else ())
        results: list[Result] = []
        for work in works:
            match work:
                case AnalyzeSegment():
                    results.append(self.analyze(work))
                case SegmentSpeakers():
                    results.append(self.segment_speakers(work))
                case ClassifyTurn():
                    results.append(next(classified))
                case MeasureVoice():
                    results.append(self.measure(work))
        return results

    def measure(self, work: MeasureVoice) -> MeasuredVoice | Failure:
        """Measure the voice in a clip."""
        vad, encoder = self._vad, self._speaker_encoder
        if vad is None or encoder is None:
            return Failure("expected a session that tells voices apart, got one without")
        try:
            embedding, speech_s = measure_voice([work.clip], vad, lambda speech: encoder.embed([speech])[0])
            return MeasuredVoice(embedding, speech_s)
        except VoicesError as error:
            return Failure(str(error))
        except Exception as error:  # the boundary: one bad clip must not end the session
            log.exception("a clip could not be measured")
            return Failure(f"clip could not be measured: {error}")

    def segment_speakers(self, work: SegmentSpeakers) -> SpeakerActivity | Failure:
        """Tell who speaks in a running turn, and measure the voice of its last stretch."""
        speech, voice = work.speech, None
        if self._speaker_segmentation is None or self._speaker_encoder is None:
            return Failure("expected an engine that tells who speaks, got one that does not")
        try:
            active = self._speaker_segmentation(speech.samples)
            if speech.stretch is not None:
                start, end = (at - speech.samples_from for at in speech.stretch)
                voice = self._speaker_encoder.embed([speech.samples[start:end]])[0]
        except Exception as error:  # the boundary: see below
            log.exception("the speakers at sample %d could not be told", speech.position)
            return Failure(f"speakers could not be told: {error}")
        return SpeakerActivity(speech.samples_from, speech.stretch, active, voice)

    def analyze(self, work: AnalyzeSegment, beside: Beside = in_turn) -> Analysis | Failure:
        """Transcribe a segment; compute its speaker embedding and acoustic features.

        Args:
            work: names the segment.
            beside: starts the reading of the voice while the words are transcribed.
        """
        started = self._clock()
        try:
            voice = beside(lambda: self._analyze_voice(work))
            hypothesis = None
            try:
                if work.transcribe and self._recognizer is not None:
                    hypothesis = self._recognizer.transcribe(
                        work.segment.samples,
                        final=work.segment.final or work.segment.paused,
                        language=work.language,
                        likely=work.likely,
                        words=work.words,
                    )
                transcribed = self._clock()
            finally:
                embedding, acoustic, features_ms = voice()
        except Exception as error:  # the boundary: one bad segment must not end the session
            log.exception("segment %d could not be analysed", work.segment.index)
            return Failure(f"segment could not be analysed: {error}")
        return Analysis(
            hypothesis,
            embedding,
            Features(acoustic),
            asr_ms=1000 * (transcribed - started),
            features_ms=features_ms,
            elapsed_ms=1000 * (self._clock() - started),
        )

    def _analyze_voice(self, work: AnalyzeSegment) -> Voice:
        started, samples = self._clock(), work.segment.alone
        embedding, states = None, None
        if work.embed_speaker and self._speaker_encoder is not None:
            embedding, states = self._speaker_encoder.hear(samples)
        acoustic = self._acoustics(samples, states) if self._acoustics is not None else None
        return embedding, acoustic, 1000 * (self._clock() - started)

    def classify(self, works: Sequence[ClassifyTurn]) -> list[Classification | Failure]:
        """Classify one turn of each conversation, `max_batch` at a time."""
        results: list[Classification | Failure] = []
        for first in range(0, len(works), self.max_batch):
            batch = works[first : first + self.max_batch]
            started = self._clock()
            try:
                stepped = self.classifier.classify(batch)
            except Exception as error:  # the boundary: see above
                log.exception("%d turns could not be classified", len(batch))
                if len(batch) > 1:  # one by one, to find the failing one
                    for work in batch:
                        results += self.classify([work])
                else:
                    results.append(Failure(f"turn could not be classified: {error}"))
                continue
            spent = 1000 * (self._clock() - started)
            results += [Classification(emotion, state, spent, spent) for emotion, state in stepped]
        return results


def _with_labels(
    classifier: EmotionClassifier,
    examples: Sequence[LabelExample],
    acoustics: Acoustics | None,
    decode: Decode | None,
) -> EmotionClassifier:
    """Return a classifier of the labels of `examples`."""
    classifier.require_embedding_space()
    turns: list[tuple[str, str, Vector | None]] = []
    for example in examples:
        voice = None
        if example.audio is not None and acoustics is not None:
            if decode is None:
                raise LabelsError(f"{example.at}: expected examples of text alone, got audio and no decoder")
            voice = acoustics(load_speech(example, decode))
        if not example.text and (voice is None or not np.isfinite(voice).any()):
            wanted = "a text" if acoustics is None else "a text or 60 ms of speech"
            raise LabelsError(
                f"{example.at}: expected {wanted} as an example of {example.label}, got neither"
            )
        turns.append((example.label, example.text, voice))
    return classifier.with_labels(turns)


def _check(config: EngineConfig, session: SessionConfig) -> None:
    """Refuse unusable settings before anything is loaded."""
    for name, value, least in (
        ("engine.max_batch", 1 if config.max_batch is None else config.max_batch, 1),
        ("session.rewind_turns", session.rewind_turns, 0),
        ("session.partial_interval_ms", session.partial_interval_ms, 32),  # a window of the VAD
    ):
        if value < least:
            raise ConfigError(f"{name}: expected {least} or more, got {value}")
    check_engine(config.asr.engine)
