"""A hook for LiveKit Agents that adds the expressed emotion to a turn, for ``livekit-agents`` 1.x.

It taps the audio on its way to the speech-to-text node, and puts the reading before the user's message when
the turn is complete::

    class Support(EmotionMixin, Agent):
        def __init__(self) -> None:
            super().__init__(instructions="...")
            self.emotions = EmotionHook(Server("ws://127.0.0.1:8765"))

An agent that already overrides these nodes calls `EmotionHook.tap` and `EmotionHook.attach` from them.

A turn's position in the audio comes from the message's `started_speaking_at` and `stopped_speaking_at`, which
need a VAD (without them it is a turn of text alone). A changed message makes LiveKit discard its preemptive
generation, so switch that off: ``turn_handling={"preemptive_generation": {"enabled": False}}``.
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
"""A room's default sample rate, for a turn that comes before any audio."""


class EmotionHook:
    """A hook that adds the expressed emotion to the user's turns in one conversation.

    Args:
        server: the stream_erc server.
        style: of the prefix; None leaves the message unchanged.
        timeout_s: maximum time that the reply waits for the reading. A turn of 3 s whose words are known took
            the server 0.2 to 0.6 s on two busy cores.
        speaker: the user's name; None to identify the speaker by voice.
        assistant: the speaker name for the agent's turns; None does not send them.

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
        self._sent: set[str] = set()  # ids of the agent's messages

    async def tap(self, audio: AsyncIterable[rtc.AudioFrame]) -> AsyncIterator[rtc.AudioFrame]:
        """Yield the same frames and send them to the server, at the sample rate of the first one."""
        async for frame in audio:
            feed = self._feed or self._begin(frame.sample_rate)
            feed.send_frame(bytes(frame.data), frame.sample_rate, frame.num_channels)
            self._clock.heard(time.time(), feed.position)
            yield frame

    async def attach(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> TurnFinal | None:
        """Wait at most `timeout_s` for the reading, and put it before the user's message.

        Returns:
            The turn; None if it failed or is late.
        """
        text = new_message.text_content
        if not text or not text.strip():
            return None
        feed = self._feed or self._begin(ROOM_RATE_HZ)
        self._send_assistant_turns(feed, turn_ctx)
        answer = feed.append_turn(text, speaker=self._speaker, span=self._span(new_message))
        turn = await feed.reading_of(answer, self._timeout_s)
        if self.readings.style is not None:
            said = self.readings.said(text, turn)
            new_message.content = [said, *(part for part in new_message.content if not isinstance(part, str))]
        return turn

    async def aclose(self) -> None:
        """End the session with the server."""
        if self._feed is not None:
            await self._feed.close(CLOSE_S)

    def _begin(self, rate_hz: int) -> Feed:
        self._feed = Feed(self._server, sample_rate_hz=rate_hz, on_event=self.readings.hear)
        return self._feed

    def _send_assistant_turns(self, feed: Feed, turn_ctx: llm.ChatContext) -> None:
        for message in turn_ctx.messages():
            if self._assistant and message.role == "assistant" and message.id not in self._sent:
                self._sent.add(message.id)
                feed.append_turn(message.text_content or "", speaker=self._assistant)

    def _span(self, message: llm.ChatMessage) -> Span | None:
        """Return a message's position in the audio."""
        since, until = (message.metrics.get(f"{edge}_speaking_at") for edge in ("started", "stopped"))
        if not isinstance(since, float) or not isinstance(until, float):
            return None
        start, end = self._clock.position(since), self._clock.position(until)
        return (start, end) if start < end else None


class EmotionMixin(Agent):
    """An agent that adds the expressed emotion to its user's turns; set `emotions` before it starts."""

    emotions: EmotionHook

    def stt_node(
        self, audio: AsyncIterable[rtc.AudioFrame], model_settings: ModelSettings
    ) -> AsyncIterable[stt.SpeechEvent]:
        """Transcribe the audio, and send it to the server."""
        return Agent.default.stt_node(self, self.emotions.tap(audio), model_settings)

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        """Put the reading before the user's message."""
        await self.emotions.attach(turn_ctx, new_message)

    async def on_exit(self) -> None:
        """End the session with the server."""
        await self.emotions.aclose()
