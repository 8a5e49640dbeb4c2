"""What a client asked for and a server has: how one session is heard and answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stream_erc.config import ServerConfig, SessionConfig
from stream_erc.core.input_queue import APPENDED_AUDIO_MS
from stream_erc.events import Emotion, EmotionEvent, Event, PartialTurn
from stream_erc.exceptions import ConfigError
from stream_erc.inference.engine import Engine
from stream_erc.protocol import messages
from stream_erc.protocol.messages import PROTOCOL_VERSION, SessionUpdate

ENCODINGS: tuple[messages.Encoding, ...] = ("pcm_s16le", "pcm_f32le", "mulaw", "opus")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server has for all its sessions.

    Attributes:
        engines: model name -> engine; the first is the default.
        session: how a session is heard where its client does not say otherwise.
        server: the limits.
    """

    engines: Mapping[str, Engine]
    session: SessionConfig
    server: ServerConfig

    def models(self) -> tuple[messages.ModelInfo, ...]:
        """The models to choose from."""
        return tuple(
            messages.ModelInfo(name=name, labels=engine.classifier.labels)
            for name, engine in self.engines.items()
        )

    def limits(self) -> messages.Limits:
        """What a client has to keep to."""
        return messages.Limits(
            max_message_bytes=self.server.max_message_bytes,
            max_frame_ms=self.server.max_frame_ms,
            burst_ms=self.server.burst_ms,
            idle_timeout_ms=round(1000 * self.server.idle_timeout_s),
            retention_ms=round(1000 * self.server.retention_s),
            appended_audio_ms=APPENDED_AUDIO_MS,
        )


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """One session's terms: what its client asked for within what the server offers.

    Raises:
        ConfigError: it asked for something that is not there.
    """

    offer: Offer
    asked: SessionUpdate = field(default_factory=SessionUpdate)

    def __post_init__(self) -> None:
        asked, engines = self.asked, self.offer.engines
        if asked.protocol != PROTOCOL_VERSION:
            raise ConfigError(f"expected protocol {PROTOCOL_VERSION}, got {asked.protocol}")
        if asked.model is not None and asked.model not in engines:
            raise ConfigError(f"expected a model of {', '.join(engines)}, got {asked.model!r}")
        known, languages = self.engine.classifier.labels, self.engine.languages
        labels = known if asked.labels is None else asked.labels
        if not labels or len(set(labels)) < len(labels) or not set(labels) <= set(known):
            raise ConfigError(f"expected some of the labels {', '.join(known)}, got {', '.join(labels)}")
        if asked.language is not None and languages and asked.language not in languages:
            raise ConfigError(f"expected a language of {', '.join(languages)}, got {asked.language!r}")

    @property
    def engine(self) -> Engine:
        """What does the session's work."""
        return self.offer.engines[self.asked.model or next(iter(self.offer.engines))]

    def session_config(self) -> SessionConfig:
        """How the conversation is heard."""
        asked, config = self.asked, self.offer.session
        diarization, endpointing = config.diarization, config.endpointing
        if asked.speakers is not None:
            diarization = replace(diarization, speakers=asked.speakers)
        if asked.min_silence_ms is not None:
            endpointing = replace(endpointing, min_silence_ms=asked.min_silence_ms)
        return replace(
            config,
            diarization=diarization,
            endpointing=endpointing,
            language=asked.language or config.language,
            partials=asked.partials,
        )

    def configuration(self) -> messages.Configuration:
        """The terms as the client is told them."""
        asked, engine, config = self.asked, self.engine, self.session_config()
        return messages.Configuration(
            audio=asked.audio,
            turns=asked.turns,
            model=asked.model or next(iter(self.offer.engines)),
            labels=engine.classifier.labels if asked.labels is None else asked.labels,
            language=config.language or (engine.language if engine.languages else None),
            speakers=config.diarization.speakers,
            partials=asked.partials,
            min_silence_ms=config.endpointing.min_silence_ms,
            pace=asked.pace,
        )

    def in_asked_labels(self, event: Event) -> Event:
        """The event with probabilities over the labels that were asked for, given that it is one of them."""
        if self.asked.labels is None or not isinstance(event, EmotionEvent | PartialTurn):
            return event
        if event.emotion is None:
            return event
        among = {label: event.emotion.probabilities[label] for label in self.asked.labels}
        total = sum(among.values()) or 1.0
        probabilities = {label: p / total for label, p in among.items()}
        best = max(probabilities, key=probabilities.__getitem__)
        return replace(event, emotion=Emotion(best, probabilities[best], probabilities))
