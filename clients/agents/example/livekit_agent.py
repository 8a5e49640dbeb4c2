"""The service agent of `agent.py` in a LiveKit session: a recorded call, answered as the caller sounds.

    python livekit_agent.py ws://127.0.0.1:8765 --audio call.wav --words call.txt

It needs a stream_erc server, and no LiveKit server or cloud: the words of each turn come from a file, a turn
in each line, and the answers from a few rules. A real agent has its recognizer, language model and voice in
their places, and a room.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from agent import ANSWERS, CALLER
from agent import Agent as Answers
from livekit import rtc
from livekit.agents import Agent, AgentSession, inference, llm, stt
from livekit.agents.voice.io import AudioInput
from recording import Recording, lines
from stream_erc_agents.feed import Server
from stream_erc_agents.livekit import EmotionHook, EmotionMixin


class Rote(stt.STT):
    """A speech recognizer that knows the words beforehand."""

    def __init__(self, words: Iterator[str]) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._words = words

    async def _recognize_impl(self, buffer: Any, **options: Any) -> stt.SpeechEvent:
        said = stt.SpeechData(language="en", text=next(self._words, ""))
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, "", [said])


class Rules(llm.LLM):
    """A language model of a few rules, which knows how the caller sounds."""

    def __init__(self, emotions: EmotionHook) -> None:
        super().__init__()
        self._answers = Answers(CALLER)
        self._answers.readings = emotions.readings

    def chat(
        self, *, chat_ctx: llm.ChatContext, tools: Any = None, conn_options: Any = None, **options: Any
    ) -> llm.LLMStream:
        """Answer the last message of a context."""
        turns = [turn for turn in self._answers.readings.turns if turn.speaker == CALLER]
        answer = (self._answers.answer(turns[-1]) if turns else None) or ANSWERS["calm", ""]
        print(f"{chat_ctx.messages()[-1].text_content}\n  answer   {answer}", flush=True)
        return _Reply(answer, self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Reply(llm.LLMStream):
    def __init__(self, answer: str, model: llm.LLM, **options: Any) -> None:
        super().__init__(model, **options)
        self._answer = answer

    async def _run(self) -> None:
        delta = llm.ChoiceDelta(role="assistant", content=self._answer)
        self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=delta))


class Line(AudioInput):
    """The caller's audio, from a recording.

    Attributes:
        ended: set at its end.
    """

    def __init__(self, recording: Recording) -> None:
        super().__init__(label="recording")
        self._frames: AsyncIterator[bytes] = recording.frames()
        self._rate_hz, self.ended = recording.rate_hz, asyncio.Event()

    async def __anext__(self) -> rtc.AudioFrame:
        """Return the next 20 ms."""
        try:
            pcm = await anext(self._frames)
        except StopAsyncIteration:
            self.ended.set()
            raise
        return rtc.AudioFrame(pcm, self._rate_hz, 1, len(pcm) // 2)


class Support(EmotionMixin, Agent):
    """An agent that hears how the caller sounds."""

    def __init__(self, server: Server) -> None:
        super().__init__(instructions="Be kind. A reading in ([...]) says how a turn was said.")
        self.emotions = EmotionHook(server, speaker=CALLER, timeout_s=1.0)


async def run(server: Server, recording: Recording, words: Iterator[str]) -> None:
    """Play a recorded call to the agent."""
    agent, line = Support(server), Line(recording)
    session: AgentSession[None] = AgentSession(
        stt=Rote(words),
        llm=Rules(agent.emotions),
        vad=inference.VAD(min_silence_duration=0.5),
        turn_handling={"preemptive_generation": {"enabled": False}, "turn_detection": "vad"},
    )
    session.input.audio = line
    await session.start(agent, record=False)
    await line.ended.wait()
    await session.aclose()
    print(agent.emotions.readings.summary())


def main() -> int:
    """Run the command line; return 0, 2 for an error, or 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description="A LiveKit agent that answers by the caller's emotion.")
    parser.add_argument("url", help="of a stream_erc server, as ws://127.0.0.1:8765")
    parser.add_argument("--audio", type=Path, required=True, help="a WAV file, 16-bit mono")
    parser.add_argument("--words", type=Path, required=True, help="a text file, a turn in each line")
    options = parser.parse_args()
    try:
        asyncio.run(run(Server(options.url), Recording(options.audio), lines(options.words)))
    except (OSError, ValueError) as error:
        print(f"livekit_agent: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
