"""The same audio gives the same turns through the socket and in a replay, to the last digit."""

import asyncio
import json
import wave
from pathlib import Path

import numpy as np
import pytest
import websockets
from paths import SAMPLE
from serving import real_engine, serve

from stream_erc.api.replay import replay_audio
from stream_erc.audio import SAMPLE_RATE, to_pcm16
from stream_erc.config import SessionConfig
from stream_erc.inference.workers import InlineWorker
from stream_erc.sources.audio_files import AudioFile

VARYING = ("seq", "created_at", "latency_ms", "session_id")


def plain(message: dict) -> dict:
    return {key: value for key, value in message.items() if key not in VARYING}


def lasting(messages: list[dict]) -> list[dict]:
    return [plain(message) for message in messages if "event_id" in message]


def through_the_socket(url: str, recording: Path, pace: str) -> list[dict]:
    async def stream() -> list[dict]:
        messages = []
        async with websockets.connect(url, compression=None) as socket:
            await socket.send(json.dumps({"type": "session.update", "pace": pace}))

            async def speak() -> None:
                with wave.open(str(recording)) as audio:
                    while data := audio.readframes(SAMPLE_RATE // 20):
                        await socket.send(data)
                        await asyncio.sleep(0.05 if pace == "live" else 0)
                await socket.send('{"type": "session.close"}')

            speaking = asyncio.create_task(speak())
            async for frame in socket:
                messages.append(json.loads(frame))
            await speaking
        return messages

    return asyncio.run(stream())


@pytest.mark.slow
@pytest.mark.parametrize(("pace", "asr", "seconds"), [("replay", "pocketsphinx", 14), ("live", "none", 14)])
def test_property_2_live_equals_replay(pace: str, asr: str, seconds: int, tmp_path: Path) -> None:
    engine = real_engine(asr=asr)
    samples = np.concatenate(list(AudioFile(SAMPLE / "conversation.flac").chunks()))[: seconds * SAMPLE_RATE]
    pcm = to_pcm16(samples)
    recording = tmp_path / "talk.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm)
    chunks = AudioFile(recording).chunks()
    offline = list(replay_audio(engine, InlineWorker(engine), SessionConfig(), chunks, name="talk"))
    with serve({"si-lstm": engine}, idle_timeout_s=300.0) as running:
        live = through_the_socket(running.socket_url, recording, pace)
    assert len([m for m in offline if m["type"] == "turn.final"]) >= 3
    assert lasting(live) == lasting(offline)
