"""The service agent of `agent.py` in a Pipecat pipeline: a recorded call, answered as the caller sounds.

    python pipecat_agent.py ws://127.0.0.1:8765 --audio call.wav --words call.txt

It needs a stream_erc server and no cloud: the words of each turn come from a file, a turn in each line, and
the answers from a few rules. A real agent has its recognizer, language model and voice in their places.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from agent import ANSWERS, CALLER, Agent
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner
from recording import Recording, lines
from stream_erc_agents.feed import Server
from stream_erc_agents.pipecat import EmotionProcessor

PAUSE_S = 0.6
"""The pause that ends a turn, each of which has a line of words."""


class Rote(SegmentedSTTService):
    """A speech recognizer that knows the words beforehand."""

    def __init__(self, words: Iterator[str]) -> None:
        super().__init__(settings=STTSettings(model=None, language=None), ttfs_p99_latency=1.0)
        self._words = words

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Yield the words of the next turn."""
        if words := next(self._words, ""):
            yield TranscriptionFrame(words, "", time_now_iso8601())


class Rules(FrameProcessor):
    """A language model of a few rules, which knows how the caller sounds."""

    def __init__(self, emotions: EmotionProcessor) -> None:
        super().__init__()
        self._agent = Agent(CALLER)
        self._agent.readings = emotions.readings

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer the last message of a context; pass on all other frames."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        turns = [turn for turn in self._agent.readings.turns if turn.speaker == CALLER]
        answer = (self._agent.answer(turns[-1]) if turns else None) or ANSWERS["calm", ""]
        print(f"{frame.context.messages[-1]['content']}\n  answer   {answer}", flush=True)
        for said in (LLMFullResponseStartFrame(), LLMTextFrame(answer), LLMFullResponseEndFrame()):
            await self.push_frame(said)


async def run(server: Server, recording: Recording, words: Iterator[str]) -> None:
    """Play a recorded call to the agent."""
    emotions = EmotionProcessor(server, speaker=CALLER, timeout_s=1.0)
    stop = UserTurnStrategies(stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.3)])
    vad = SileroVADAnalyzer(params=VADParams(stop_secs=PAUSE_S))
    parameters = LLMUserAggregatorParams(vad_analyzer=vad, user_turn_strategies=stop)
    aggregators = LLMContextAggregatorPair(LLMContext(), user_params=parameters)
    pipeline = Pipeline([Rote(words), emotions, aggregators.user(), Rules(emotions), aggregators.assistant()])
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(audio_in_sample_rate=recording.rate_hz),
        cancel_on_idle_timeout=False,
    )

    async def play() -> None:
        async for pcm in recording.frames():
            await worker.queue_frame(InputAudioRawFrame(pcm, recording.rate_hz, 1))
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), play())
    print(emotions.readings.summary())


def main() -> int:
    """Run the command line; return 0, 2 for an error, or 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description="A Pipecat agent that answers by the caller's emotion.")
    parser.add_argument("url", help="of a stream_erc server, as ws://127.0.0.1:8765")
    parser.add_argument("--audio", type=Path, required=True, help="a WAV file at 8 or 16 kHz, 16-bit mono")
    parser.add_argument("--words", type=Path, required=True, help="a text file, a turn in each line")
    options = parser.parse_args()
    try:
        asyncio.run(run(Server(options.url), Recording(options.audio), lines(options.words)))
    except (OSError, ValueError) as error:
        print(f"pipecat_agent: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
