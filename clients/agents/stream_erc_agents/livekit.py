"""A hook for LiveKit Agents that says how a turn was said, for ``livekit-agents`` 1.x.

It taps the audio on its way to the speech-to-text node, and puts the reading before the user's message when
the turn is over::

    class Support(EmotionMixin, Agent):
        def __init__(self) -> None:
            super().__init__(instructions="...")
            self.emotions = EmotionHook(Server("ws://127.0.0.1:8765"))

An agent that has these nodes already calls `EmotionHook.tap` and `EmotionHook.attach` from its own.

Where a turn lies in the audio is known from the message's `started_speaking_at` and `stopped_speaking_at`,
which need a VAD (without them it is a turn of text alone). A message that is changed makes LiveKit throw away
what it generated ahead, so switch that off: ``turn_handling={"preemptive_generation": {"enabled": False}}``.
"""

import time
from collections.abc import AsyncIterable, AsyncIterator

from livekit import rtc
from livekit.agents import Agent, ModelSettings, llm, stt
from stream_erc_agents.feed import CLOSE_S, Feed, Server
from stream_erc_agents.prefix import DEFAULT_STYLE, PrefixStyle
from stream_erc_agents.readings import Readings
from stream_erc_agents.speech import AudioClock, Span
from stream_erc_client import TurnFinal

ROOM_RATE_HZ = 24_000
"""What rooms give where nothing else is asked for; for a turn that comes before any audio."""


class EmotionHook:
    """Reads the emotion of the user's turns in one conversation.

    Args:
        server: where emotions are read.
        style: of the prefix; None leaves the message as it is.
        timeout_s: how long the reply may wait for the reading. A turn of 3 s whose words are known took the
            server 0.2 to 0.6 s on two busy cores.
        speaker: the user's name; where None, whoever it sounds like.
        assistant: the name under which the server is told what the agent said; None tells it nothing.

    Attributes:
        readings: the conversation's turns so far, and its summary.
    """

    def __init__(
        self,
        server: Server,
        *,
        style: PrefixStyle | None = DEFAULT_STYLE,
        timeout_s: float = 0.5,
        speaker: str | None = None,
        assistant: str | None = "assistant",
    ) -> None:
        self._server, self._timeout_s = server, timeout_s
        self.readings = Readings(style)
        self._speaker, self._assistant = speaker, assistant
        self._feed: Feed | None = None
        self._clock = AudioClock()
        self._told: set[str] = set()

    async def tap(self, audio: AsyncIterable[rtc.AudioFrame]) -> AsyncIterator[rtc.AudioFrame]:
        """The same frames; the server hears them too. The first one's rate is the conversation's."""
        async for frame in audio:
            feed = self._feed or self._begin(frame.sample_rate)
            feed.send_frame(bytes(frame.data), frame.sample_rate, frame.num_channels)
            self._clock.heard(time.time(), feed.position)
            yield frame

    async def attach(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> TurnFinal | None:
        """Put the reading before the user's message, waiting for it for `timeout_s` at most.

        Returns:
            The turn; None where it was not read, or not in time.
        """
        text = new_message.text_content
        if not text or not text.strip():
            return None
        feed = self._feed or self._begin(ROOM_RATE_HZ)
        self._tell_assistant(feed, turn_ctx)
        answer = feed.append_turn(text, speaker=self._speaker, span=self._span(new_message))
        turn = await feed.reading_of(answer, self._timeout_s)
        if self.readings.style is not None:
            said = self.readings.said(text, turn)
            new_message.content = [said, *(part for part in new_message.content if not isinstance(part, str))]
        return turn

    async def aclose(self) -> None:
        """End the conversation with the server."""
        if self._feed is not None:
            await self._feed.close(CLOSE_S)

    def _begin(self, rate_hz: int) -> Feed:
        self._feed = Feed(self._server, sample_rate_hz=rate_hz, on_event=self.readings.hear)
        return self._feed

    def _tell_assistant(self, feed: Feed, turn_ctx: llm.ChatContext) -> None:
        for message in turn_ctx.messages():
            if self._assistant and message.role == "assistant" and message.id not in self._told:
                self._told.add(message.id)
                feed.append_turn(message.text_content or "", speaker=self._assistant)

    def _span(self, message: llm.ChatMessage) -> Span | None:
        """Where a message was spoken."""
        since, until = (message.metrics.get(f"{edge}_speaking_at") for edge in ("started", "stopped"))
        if not isinstance(since, float) or not isinstance(until, float):
            return None
        start, end = self._clock.position(since), self._clock.position(until)
        return (start, end) if start < end else None


class EmotionMixin(Agent):
    """An agent whose user's turns are read by `emotions`, to be set before the agent starts."""

    emotions: EmotionHook

    def stt_node(
        self, audio: AsyncIterable[rtc.AudioFrame], model_settings: ModelSettings
    ) -> AsyncIterable[stt.SpeechEvent]:
        """Transcribe the audio, and let the server hear it."""
        return Agent.default.stt_node(self, self.emotions.tap(audio), model_settings)

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        """Put the reading before what the user said."""
        await self.emotions.attach(turn_ctx, new_message)

    async def on_exit(self) -> None:
        """End the conversation with the server."""
        await self.emotions.aclose()
