"""The terms of a session: what its client requested within what the server offers."""

from dataclasses import replace

import pytest
from fakes import LABELS
from serving import FakeEngine

from stream_erc.config import ServerConfig, SessionConfig
from stream_erc.events import Emotion, PartialTurn, SpeechStarted
from stream_erc.exceptions import ConfigError
from stream_erc.protocol.messages import SessionUpdate
from stream_erc.protocol.negotiation import Offer, SessionTerms

OFFER = Offer({"hash": FakeEngine()}, SessionConfig(), ServerConfig())  # type: ignore[dict-item]


def terms(**requested: object) -> SessionTerms:
    return SessionTerms(OFFER, SessionUpdate(**requested))  # type: ignore[arg-type]


def test_what_is_requested_holds_and_the_rest_is_the_servers() -> None:
    config = terms(speakers=3, min_silence_ms=450, partials=False, language="en").session_config()
    assert (config.diarization.speakers, config.endpointing.min_silence_ms) == (3, 450)
    assert (config.partials, config.language) == (False, "en")
    default = SessionConfig()
    assert config.vad == default.vad and config.rewind_turns == default.rewind_turns
    assert terms().session_config() == replace(default, partials=True)


@pytest.mark.parametrize(
    ("requested", "told"),
    [
        ({"protocol": 2}, "expected protocol 1, got 2"),
        ({"model": "other"}, "expected a model of hash, got 'other'"),
        ({"labels": ("joy", "boredom")}, "expected some of the labels neutral, joy, anger"),
        ({"labels": ("joy", "joy")}, "expected some of the labels"),
        ({"language": "de"}, "expected a language of en, got 'de'"),
    ],
)
def test_what_is_not_offered_is_refused(requested: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        terms(**requested)


def test_probabilities_are_given_anew_over_the_labels_that_were_requested() -> None:
    emotion = Emotion("neutral", 0.5, dict(zip(LABELS, (0.5, 0.3, 0.2), strict=True)))
    turn = PartialTurn(0, "speaker_1", "oh", 0, 16_000, emotion)
    asked = terms(labels=("joy", "anger"))
    shown = asked.restrict_labels(turn)
    assert isinstance(shown, PartialTurn) and shown.emotion is not None
    assert shown.emotion.label == "joy"
    assert shown.emotion.probabilities == pytest.approx({"joy": 0.6, "anger": 0.4})
    for unchanged in (replace(turn, emotion=None), SpeechStarted(0)):
        assert asked.restrict_labels(unchanged) is unchanged
    assert terms().restrict_labels(turn) is turn
