"""Negotiation of a session's configuration: the server's offer and the client's request."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stream_erc.config import ServerConfig, SessionConfig, check_channels
from stream_erc.core.input_queue import APPENDED_AUDIO_MS
from stream_erc.events import Emotion, EmotionEvent, Event, PartialTurn
from stream_erc.exceptions import ConfigError
from stream_erc.inference.engine import Engine
from stream_erc.protocol import messages
from stream_erc.protocol.messages import PROTOCOL_VERSION, SessionUpdate

ENCODINGS: tuple[messages.Encoding, ...] = ("pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus")


@dataclass(frozen=True, slots=True)
class Offer:
    """The models, defaults and limits that a server offers to every session.

    Attributes:
        engines: model name -> engine; the first is the default.
        session: the default configuration of a session.
        server: the limits.
    """

    engines: Mapping[str, Engine]
    session: SessionConfig
    server: ServerConfig

    def models(self) -> tuple[messages.ModelInfo, ...]:
        """Return the models to choose from."""
        return tuple(
            messages.ModelInfo(name=name, labels=engine.classifier.labels)
            for name, engine in self.engines.items()
        )

    def limits(self) -> messages.Limits:
        """Return the limits that a client must respect."""
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
    """A session's configuration: its client's request, checked against the server's offer.

    Attributes:
        offer: what the server offers.
        requested: what the client requested.

    Raises:
        ConfigError: the client requested something that the server does not offer.
    """

    offer: Offer
    requested: SessionUpdate = field(default_factory=SessionUpdate)

    def __post_init__(self) -> None:
        requested, engines = self.requested, self.offer.engines
        if requested.protocol != PROTOCOL_VERSION:
            raise ConfigError(f"expected protocol {PROTOCOL_VERSION}, got {requested.protocol}")
        if requested.model is not None and requested.model not in engines:
            raise ConfigError(f"expected a model of {', '.join(engines)}, got {requested.model!r}")
        known, languages = self.engine.classifier.labels, self.engine.languages
        labels = known if requested.labels is None else requested.labels
        if not labels or len(set(labels)) < len(labels) or not set(labels) <= set(known):
            raise ConfigError(f"expected some of the labels {', '.join(known)}, got {', '.join(labels)}")
        voices = requested.voices or ()
        if len(set(voices)) < len(voices):
            raise ConfigError(f"expected each voice once, got {', '.join(voices)}")
        if requested.language is not None and languages and requested.language not in languages:
            raise ConfigError(f"expected a language of {', '.join(languages)}, got {requested.language!r}")
        self._check_channels()

    def _check_channels(self) -> None:
        audio, names = self.requested.audio, self.requested.channel_names
        if names is not None and len(names) != audio.channels:
            raise ConfigError(
                f"channel_names: expected one for each of {audio.channels} channel(s), got {len(names)}"
            )
        if self.channels is None:
            return
        check_channels(self.channels)
        if audio.encoding == "opus" and audio.channels > 1:
            raise ConfigError(f"audio: expected opus with 1 channel, got {audio.channels}")
        if self.requested.turns != "heard":
            raise ConfigError("audio: expected turns heard in several channels, got turns appended")

    @property
    def channels(self) -> tuple[str | None, ...] | None:
        """The name of each channel that is heard separately, None for one without; None for mono audio."""
        names, count = self.requested.channel_names, self.requested.audio.channels
        return names if names is not None or count == 1 else (None,) * count

    @property
    def engine(self) -> Engine:
        """The engine of the requested model."""
        return self.offer.engines[self.requested.model or next(iter(self.offer.engines))]

    def session_config(self) -> SessionConfig:
        """Return the session's configuration for its engine."""
        requested, config = self.requested, self.offer.session
        diarization, endpointing = config.diarization, config.endpointing
        if requested.speakers is not None:
            diarization = replace(diarization, speakers=requested.speakers)
        if requested.min_silence_ms is not None:
            endpointing = replace(endpointing, min_silence_ms=requested.min_silence_ms)
        return replace(
            config,
            diarization=diarization,
            endpointing=endpointing,
            language=requested.language or config.language,
            words=requested.words or config.words,
            partials=requested.partials,
        )

    def configuration(self) -> messages.Configuration:
        """Return the configuration as the client receives it."""
        requested, engine, config = self.requested, self.engine, self.session_config()
        return messages.Configuration(
            audio=requested.audio,
            channel_names=requested.channel_names,
            turns=requested.turns,
            model=requested.model or next(iter(self.offer.engines)),
            labels=engine.classifier.labels if requested.labels is None else requested.labels,
            language=config.language or (engine.language if engine.languages else None),
            speakers=config.diarization.speakers,
            voices=requested.voices or (),
            words=config.words,
            partials=requested.partials,
            min_silence_ms=config.endpointing.min_silence_ms,
            pace=requested.pace,
        )

    def restrict_labels(self, event: Event) -> Event:
        """Return the event with its probabilities renormalized over the requested labels."""
        if self.requested.labels is None or not isinstance(event, EmotionEvent | PartialTurn):
            return event
        if event.emotion is None:
            return event
        requested = {label: event.emotion.probabilities[label] for label in self.requested.labels}
        total = sum(requested.values()) or 1.0
        probabilities = {label: p / total for label, p in requested.items()}
        best = max(probabilities, key=probabilities.__getitem__)
        return replace(event, emotion=Emotion(best, probabilities[best], probabilities))
