"""A Pipecat frame processor that adds the expressed emotion to a turn, for ``pipecat-ai`` 1.x.

It stands between the speech-to-text service and the user's context aggregator::

    Pipeline([transport.input(), stt, EmotionProcessor(Server(url)), context.user(), llm, ...])

The processor sends the user's audio to the server, and each `TranscriptionFrame` as a turn. It finds the
turn's position in the audio itself, with Pipecat's Silero network: the events of the pipeline's VAD come too
late for a turn's beginning, where they come at all (words without speech are a turn of text alone). The frame
is passed on with the reading before its text, and with the turn in ``frame.metadata["stream_erc"]``. The
assistant's turns are sent to the server too, since a turn is classified within its conversation.

All other frames are passed on unchanged and in order. While a transcription waits for its reading, at most
`timeout_s`, data and control frames behind it wait too; system frames, including audio, never do. Neither an
interruption nor a slow or lost server loses or blocks a transcription.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    LLMContextAssistantTurnFrame,
    SystemFrame,
    TranscriptionFrame,
    UserAudioRawFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
from stream_erc_agents.feed import CLOSE_S, Answer, Feed, Server
from stream_erc_agents.prefix import DEFAULT_STYLE, PrefixStyle
from stream_erc_agents.readings import Readings
from stream_erc_agents.silero import SpeechListener
from stream_erc_agents.speech import to_mono
from stream_erc_client import TurnFinal

METADATA = "stream_erc"
"""The key of the turn in a transcription frame's metadata."""

CANCEL_S = 1.0
"""Time limit for ending the session when the pipeline is cancelled."""


class EmotionProcessor(FrameProcessor):
    """A processor that adds the expressed emotion to the user's turns.

    Args:
        server: the stream_erc server.
        style: of the prefix; None leaves the text unchanged, with the turn in the frame's metadata only.
        timeout_s: maximum delay of a transcription. A turn of 3 s whose words are known took the server 0.2
            to 0.6 s on two busy cores.
        speaker: the user's name; if None, the frame's `user_id`, or else the speaker identified by voice.
        assistant: the speaker name for the assistant's turns; None does not send them.
        user_id: the user whose audio is sent if a transport has several; None for the first one.

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
        user_id: str | None = None,
    ) -> None:
        super().__init__()
        self._server, self._timeout_s = server, timeout_s
        self.readings = Readings(style)
        self._speaker, self._assistant, self._user_id = speaker, assistant, user_id
        self._feed: Feed | None = None
        self._speech: SpeechListener | None = None
        self._held: deque[_Held] = deque()
        self._release: asyncio.Task[None] | None = None

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Start the session with the server, without waiting for it."""
        await super().setup(setup)
        rate_hz = setup.audio_in_sample_rate
        self._speech = await asyncio.to_thread(SpeechListener, rate_hz)
        self._feed = Feed(self._server, sample_rate_hz=rate_hz, on_event=self.readings.hear)

    async def cleanup(self) -> None:
        """End the session with the server."""
        await super().cleanup()
        if self._release is not None:
            await self.cancel_task(self._release)
        if self._feed is not None:
            await self._feed.close(CANCEL_S if self._cancelling else CLOSE_S)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Send a frame's audio or turn to the server, and pass the frame on."""
        await super().process_frame(frame, direction)
        answer = self._take(self._feed, frame, direction) if self._feed else None
        waits = answer is not None or (self._release is not None and not isinstance(frame, SystemFrame))
        if not waits or direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
            return
        self._held.append(_Held(frame, answer, asyncio.get_running_loop().time() + self._timeout_s))
        if self._release is None:
            self._release = self.create_task(self._release_held())

    def _take(self, feed: Feed, frame: Frame, direction: FrameDirection) -> Answer | None:
        """Send a frame's content to the server; return the future reading if it is a user's turn."""
        downstream = direction is FrameDirection.DOWNSTREAM
        match frame:
            case InputAudioRawFrame() if downstream:
                self._send_audio(feed, frame)
            case LLMContextAssistantTurnFrame() if self._assistant and not downstream:
                feed.append_turn(frame.text, speaker=self._assistant)
            case TranscriptionFrame() if downstream and frame.text.strip():
                own_audio = not frame.user_id or self._user_id in (None, frame.user_id)
                speaker = (self._speaker if own_audio else None) or frame.user_id or None
                span = self._speech.take() if own_audio and self._speech else None
                return feed.append_turn(frame.text, speaker=speaker, span=span)
        return None

    def _send_audio(self, feed: Feed, frame: InputAudioRawFrame) -> None:
        if isinstance(frame, UserAudioRawFrame) and frame.user_id:
            self._user_id = self._user_id or frame.user_id
            if frame.user_id != self._user_id:
                return
        before = feed.position
        feed.send_frame(frame.audio, frame.sample_rate, frame.num_channels)
        if self._speech is not None and feed.position > before:  # it was taken
            self._speech.receive(to_mono(frame.audio, frame.num_channels))

    async def _release_held(self) -> None:
        """Push the held frames in order, each once its reading has arrived or its timeout has passed."""
        while self._held:
            held = self._held.popleft()
            if held.answer is not None and self._feed is not None:
                left_s = held.until - asyncio.get_running_loop().time()
                turn = await self._feed.reading_of(held.answer, left_s)
                self._attach(held.frame, turn)
            await self.push_frame(held.frame)
        self._release = None

    def _attach(self, frame: Frame, turn: TurnFinal | None) -> None:
        assert isinstance(frame, TranscriptionFrame)
        if turn is not None:
            frame.metadata[METADATA] = turn
        if self.readings.style is not None:
            frame.text = self.readings.said(frame.text, turn)
            frame.includes_inter_frame_spaces = False  # the new text has no surrounding spaces


@dataclass(frozen=True, slots=True)
class _Held:
    """A frame held back because it, or one before it, waits for a reading."""

    frame: Frame
    answer: Answer | None
    until: float  # the event loop's time
