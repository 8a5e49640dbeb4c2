import itertools
import logging
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from fakes import LoudnessVad, silence, tone
from paths import SAMPLE

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import AsrConfig, EngineConfig, SessionConfig
from stream_erc.core.work import (
    Analysis,
    AnalyzeSegment,
    Classification,
    ClassifyTurn,
    Failure,
    MeasuredVoice,
    MeasureVoice,
)
from stream_erc.events import (
    Emotion,
    EmotionEvent,
    Features,
    GivenTurn,
    Hypothesis,
    KnownVoice,
    Samples,
    SpeechSegment,
    Turn,
    TurnCorrection,
)
from stream_erc.exceptions import CheckpointError, ProtocolMisuse, VoicesError
from stream_erc.inference.emotion.classifier import EmotionClassifier
from stream_erc.inference.emotion.opening import open_classifier
from stream_erc.inference.engine import TEXT_ONLY, Engine, Stages
from stream_erc.inference.workers import InlineWorker
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.turn_files import read_turns

SPOKEN = np.full(16_000, 0.1, dtype=np.float32)


class Repeater:
    """A recognizer with fixed words; it fails on silence."""

    name, languages = "repeater", ("en", "de")

    def transcribe(self, samples: Samples, *, language: str | None = None, **_: object) -> Hypothesis:
        if not samples.any():
            raise RuntimeError("expected a sound")
        return Hypothesis("hallo" if language == "de" else "hello")


class OneVoice:
    name, dim = "one", 2

    def embed(self, batch):
        return [self.hear(samples)[0] for samples in batch]

    def hear(self, samples):
        return np.array([1.0, 0.0], dtype=np.float32), np.full(3, 5.0, dtype=np.float32)


class Deaf:
    """A speaker encoder that fails."""

    name, dim = "deaf", 2

    def embed(self, batch):
        raise RuntimeError("expected ears")


def segment(index: int, samples: Samples = SPOKEN, **asked: bool) -> AnalyzeSegment:
    found = SpeechSegment(index, 0, len(samples), samples, 0, len(samples))
    return AnalyzeSegment(index, found, asked.get("transcribe", True), asked.get("embed_speaker", True))


def turn(index: int, text: str = "hello", acoustic: np.ndarray | None = None) -> ClassifyTurn:
    return ClassifyTurn(index, Turn(index, 0, text), Features(acoustic), (), None)


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint) -> EmotionClassifier:
    return open_classifier(tiny_checkpoint, "cpu")


@pytest.fixture
def engine(classifier) -> Engine:
    ticks = itertools.count()
    return Engine(
        classifier,
        recognizer=Repeater(),
        speaker_encoder=OneVoice(),
        acoustics=lambda samples, states=None: np.full(88, 0 if states is None else states[0], np.float32),
        clock=lambda: float(next(ticks)),
    )


@pytest.mark.parametrize(
    ("given", "stages"),
    [
        (None, Stages()),
        ([GivenTurn("ann", "hi", 0, 9)], Stages(segmentation=False, words=False, speakers=False)),
        ([GivenTurn("ann", None, 0, 9)], Stages(segmentation=False, words=True, speakers=False)),
        ([GivenTurn(None, "hi", 0, 9)], Stages(segmentation=False, words=False, speakers=True)),
        (
            [GivenTurn("ann", "hi", 0, 9), GivenTurn(None, None, 9, 18)],
            Stages(segmentation=False, words=True, speakers=True),
        ),
    ],
)
def test_only_what_is_not_given_is_needed(given, stages) -> None:
    assert Stages.of(given) == stages


def test_stages_that_are_not_needed_are_not_loaded(tiny_checkpoint) -> None:
    asr = AsrConfig(engine="faster-whisper:/no/such/folder")
    config = EngineConfig(model=str(tiny_checkpoint), device="cpu", asr=asr)
    engine = Engine.load(config, SessionConfig(), TEXT_ONLY)
    assert engine.asr_name == "given"
    with pytest.raises(ProtocolMisuse, match="text-only session"):
        engine.open_session(SessionConfig()).receive_audio(SPOKEN)


def test_a_session_with_given_turns_needs_no_vad(engine) -> None:
    session = engine.open_session(SessionConfig(), given=[GivenTurn("ann", "hi", 0, 8_000)])
    session.receive_audio(SPOKEN)
    (work,) = session.work_to_do()
    assert isinstance(work, AnalyzeSegment)
    assert (work.transcribe, work.embed_speaker, len(work.segment.samples)) == (False, False, 8_000)


@pytest.mark.parametrize(("language", "words"), [(None, "hello"), ("en", "hello"), ("de", "hallo")])
def test_each_session_is_heard_in_its_language(engine, language, words) -> None:
    assert engine.languages == ("en", "de")
    given = [GivenTurn("ann", None, 0, 8_000)]
    session = engine.open_session(SessionConfig(language=language), given=given)
    session.receive_audio(SPOKEN)
    (work,) = session.work_to_do()
    (analysis,) = engine.run([work])
    assert analysis.hypothesis.text == words


def test_nothing_is_transcribed_in_any_language(classifier) -> None:
    assert Engine(classifier, language="en").languages == ()


def test_results_come_in_the_order_of_work(engine) -> None:
    works = [turn(0), segment(1), turn(2, "", np.ones(88, dtype=np.float32)), segment(3), turn(4)]
    results = engine.run(works)
    kinds = [Classification, Analysis, Classification, Analysis, Classification]
    assert [type(result) for result in results] == kinds
    first, voice, last = (results[i].emotion.confidence for i in (0, 2, 4))
    assert first == pytest.approx(last, abs=1e-5) and first != pytest.approx(voice, abs=1e-5)
    assert engine.run([]) == []


def test_only_what_was_asked_for_is_done(engine) -> None:
    (both,) = engine.run([segment(0)])
    assert (both.hypothesis.text, both.speaker_embedding.tolist()) == ("hello", [1.0, 0.0])
    assert both.features.acoustic[0] == 5.0  # the states that came with the vector
    (neither,) = engine.run([segment(0, transcribe=False, embed_speaker=False)])
    assert (neither.hypothesis, neither.speaker_embedding) == (None, None)
    assert neither.features.acoustic[0] == 0.0


def test_stages_are_timed_by_the_clock(engine) -> None:
    (analysis,) = engine.run([segment(0)])
    assert min(analysis.asr_ms, analysis.features_ms) >= 1_000  # words and voice are read side by side
    assert analysis.elapsed_ms >= max(analysis.asr_ms, analysis.features_ms)
    (classification,) = engine.run([turn(0)])
    assert (classification.emotion_ms, classification.elapsed_ms) == (1_000, 1_000)


def test_a_segment_that_fails_touches_no_other(engine, caplog) -> None:
    silent = segment(1, np.zeros(16_000, dtype=np.float32))
    with caplog.at_level(logging.CRITICAL, "stream_erc"):
        first, second, third = engine.run([segment(0), silent, segment(2)])
    assert second == Failure("segment could not be analysed: expected a sound")
    assert isinstance(first, Analysis) and isinstance(third, Analysis)


def test_a_turn_that_fails_touches_no_other_of_its_batch(engine, caplog) -> None:
    wrong = turn(1, acoustic=np.zeros(3, dtype=np.float32))  # 88 are expected
    with caplog.at_level(logging.CRITICAL, "stream_erc"):
        first, second, third = engine.classify([turn(0), wrong, turn(2)])
    assert isinstance(second, Failure) and "turn could not be classified" in second.message
    assert isinstance(first, Classification) and isinstance(third, Classification)
    assert first.emotion == third.emotion


def test_large_batches_are_divided(classifier) -> None:
    engine = Engine(classifier, max_batch=2)
    results = engine.classify(
        [turn(i, text) for i, text in enumerate(["hello", "why", "oh no", "hello", "yes"])]
    )
    assert len(results) == 5 and all(isinstance(result, Classification) for result in results)
    alone = [engine.classify([turn(0, text)])[0] for text in ("hello", "yes")]
    for one, among in zip(alone, (results[0], results[4]), strict=True):
        assert dict(among.emotion.probabilities) == pytest.approx(dict(one.emotion.probabilities), abs=1e-5)


def test_a_missing_checkpoint_is_told_before_anything_else(tmp_path) -> None:
    asr = AsrConfig(engine="faster-whisper:/no/such/folder")
    config = EngineConfig(model=str(tmp_path / "none"), asr=asr)
    with pytest.raises(CheckpointError, match="expected a checkpoint's folder"):
        Engine.load(config, SessionConfig())


def test_an_engine_is_warmed_up_later_with_the_same_answers(tiny_checkpoint) -> None:
    config = EngineConfig(model=str(tiny_checkpoint), device="cpu", asr=AsrConfig(engine="none"))
    stages = Stages(segmentation=False, words=False, speakers=False)
    segment = SpeechSegment(0, 0, 16_000, np.sin(np.arange(16_000, dtype=np.float32) / 20), 0, 16_000)
    analyses, emotions = [], []
    for warm in (True, False):
        engine = Engine.load(config, SessionConfig(), stages, warm=warm)
        assert engine.classifier.warm is warm
        if not warm:
            engine.warm_up()
            engine.warm_up()
        (analysis,) = engine.run([AnalyzeSegment(0, segment, False, False)])
        turn = Turn(0, 0, "oh no", 0, 16_000)
        (emotion,) = engine.run([ClassifyTurn(1, turn, analysis.features, (), None)])
        analyses.append(analysis.features.acoustic)
        emotions.append(emotion.emotion)
    assert np.array_equal(*analyses, equal_nan=True) and np.isfinite(analyses[0]).any()
    assert emotions[0] == emotions[1]


def test_what_sessions_import_is_imported_when_the_engine_warms_up(tiny_checkpoint, monkeypatch) -> None:
    engine = Engine.load(EngineConfig(model=str(tiny_checkpoint), device="cpu"), SessionConfig(), TEXT_ONLY)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"scipy\.optimize"):
        engine.warm_up()


def test_what_is_damaged_is_told_when_the_engine_warms_up(tiny_checkpoint, tmp_path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "damaged")
    next((tmp_path / "damaged" / "text_encoder").glob("*.safetensors")).write_bytes(b"no weights")
    config = EngineConfig(model=str(tmp_path / "damaged"), device="cpu")
    engine = Engine.load(config, SessionConfig(), TEXT_ONLY, warm=False)
    with pytest.raises(CheckpointError, match="expected a transformers encoder"):
        engine.warm_up()


@pytest.mark.parametrize("warm", [True, False])
def test_another_model_shares_everything_but_its_network(tiny_checkpoint, tmp_path, warm) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "other")
    config = EngineConfig(model=str(tiny_checkpoint), device="cpu", asr=AsrConfig(engine="none"))
    engine = Engine.load(config, SessionConfig(), Stages(segmentation=False, speakers=False), warm=warm)
    other = engine.with_model(str(tmp_path / "other"), "cpu")
    assert (other.classifier.name, other.classifier.warm) == ("other", warm)
    assert other.asr_name == engine.asr_name and other.classifier is not engine.classifier
    with pytest.raises(CheckpointError):
        engine.with_model(str(tmp_path / "nowhere"))


def test_a_clip_is_measured_or_the_reason_is_told(classifier) -> None:
    engine = Engine(classifier, vad=LoudnessVad(), speaker_encoder=OneVoice())
    measured, quiet = engine.run([MeasureVoice(1, tone(2, 200)), MeasureVoice(2, silence(2))])
    assert isinstance(measured, MeasuredVoice) and measured.speech_s == pytest.approx(2, abs=0.1)
    np.testing.assert_array_equal(measured.embedding, [1, 0])
    assert quiet == Failure("expected a clip with at least 1 s of speech, got 0.00 s")
    for broken, said in (
        (
            Engine(classifier, vad=LoudnessVad(), speaker_encoder=Deaf()),
            "clip could not be measured: expected ears",
        ),
        (Engine(classifier), "expected a session that tells voices apart, got one without"),
    ):
        assert broken.measure(MeasureVoice(1, tone(2, 200))) == Failure(said)


def test_known_voices_must_suit_the_encoder(classifier) -> None:
    engine = Engine(classifier, vad=LoudnessVad(), speaker_encoder=OneVoice())
    with pytest.raises(VoicesError, match=r"expected voice vectors of one \(2,\), got 'Anna' with \(3,\)"):
        engine.open_session(SessionConfig(), voices=[KnownVoice("Anna", np.ones(3, np.float32))])
    with pytest.raises(VoicesError, match="expected turns whose speakers are to be told apart"):
        Engine(classifier).open_session(SessionConfig(), voices=[KnownVoice("Anna", np.ones(2, np.float32))])


@pytest.mark.slow
def test_property_6_corrected_speakers_equal_true_ones_with_the_shipped_model() -> None:
    config, truth = SessionConfig(), read_turns(SAMPLE / "conversation.json").turns[:8]
    stages = Stages(segmentation=False, words=False, speakers=False)
    engine = Engine.load(EngineConfig(asr=AsrConfig(engine="none")), config, stages)
    samples = np.concatenate(list(AudioFile(SAMPLE / "conversation.flac").chunks()))[: 32 * SAMPLE_RATE]
    wrong = {1: "Anna", 2: "Zoe", 5: "Anna"}

    def final_turns(speakers: dict[int, str], corrected: bool) -> list[tuple[str, str, Emotion]]:
        given = [replace(turn, speaker=speakers.get(k, turn.speaker)) for k, turn in enumerate(truth)]
        session, worker, events = engine.open_session(config, given=given), InlineWorker(engine), []
        session.receive_audio(samples)
        events += worker.advance(session)
        for k in speakers if corrected else ():
            session.submit(TurnCorrection(k, truth[k].speaker))
            events += worker.advance(session)
        session.receive_eof()
        events += worker.advance(session, wait=True)
        last = {event.turn.index: event for event in events if isinstance(event, EmotionEvent)}
        return [(last[k].speaker_name, last[k].turn.text, last[k].emotion) for k in sorted(last)]

    knew = final_turns({}, corrected=False)
    assert [(who, text) for who, text, _ in knew] == [(turn.speaker, turn.text) for turn in truth]
    assert final_turns(wrong, corrected=True) == knew
    misled = final_turns(wrong, corrected=False)
    assert sum(a[2] != b[2] for a, b in zip(misled, knew, strict=True)) >= 6
