"""A service agent whose answers depend on how the caller sounds, not only on the words.

It consists of a few rules and needs only a stream_erc server:

    python agent.py ws://127.0.0.1:8765                         turns that you type
    python agent.py ws://127.0.0.1:8765 --script delivery.txt   turns from a file, one a line
    python agent.py ws://127.0.0.1:8765 --audio call.wav        a recording, in real time
    python agent.py ws://127.0.0.1:8765 --microphone            your microphone

For each turn it prints the reading, the trend of the conversation, and its answer.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stream_erc_agents.prefix import DEFAULT_STYLE, prefixed, ranked
from stream_erc_agents.readings import Readings
from stream_erc_client import (
    Session,
    StreamErcClientError,
    TurnFailed,
    TurnFinal,
    connect,
)

CALLER, AGENT = "caller", "agent"

WEIGHTS = (0.6, 0.3, 0.1)
"""Weights of the caller's last three turns in the tone, the newest first."""

TONES = {
    "upset": ("anger", "disgust"),
    "sad": ("sadness", "fear"),
    "glad": ("joy",),
}
"""Tone -> its labels. The first tone whose labels reach `MIN_SHARE` together applies."""

MIN_SHARE = 0.2

TOPICS = {
    "thanks": r"\b(thank you|thanks)\b",
    "next": r"\bwhat happens now\b|\bwhat now\b",
    "order": r"\b(order|parcel|delivery|package)\b",
    "bye": r"\b(bye|goodbye)\b",
}
"""Topic -> a pattern of its words. The first that matches applies."""

ANSWERS = {
    ("upset", "next"): "I am sorry for all this. My supervisor takes over now, you need not wait.",
    ("upset", "bye"): "I am sorry that we let you down. We will call you, you need not call again.",
    ("upset", "thanks"): "You had every reason to be angry. Thank you for your patience.",
    ("upset", ""): "You have every right to be angry. I am putting this right at once.",
    ("sad", "next"): "I know that this is hard. I stay on the line, and we go through it together.",
    ("sad", "bye"): "Take care. You can call me at any time.",
    ("sad", ""): "I am sorry to hear that. Take all the time you need.",
    ("glad", "next"): "Nothing at all: it is all settled, so enjoy your day!",
    ("glad", "thanks"): "With pleasure! It was lovely to talk to you.",
    ("glad", "bye"): "Goodbye, and have fun with it!",
    ("glad", ""): "How nice to hear that!",
    ("calm", "next"): "I check where the parcel is; it takes about a minute.",
    ("calm", "order"): "Hello! I look up your order.",
    ("calm", "thanks"): "You are welcome.",
    ("calm", "bye"): "Goodbye.",
    ("calm", ""): "I see. Please go on.",
}
"""Tone and topic -> the answer; the empty topic is for all other turns."""


class Agent:
    """An agent that answers the caller's turns.

    Args:
        caller: the only speaker to answer; None for all speakers.
    """

    def __init__(self, caller: str | None = None) -> None:
        self._caller = caller
        self.readings = Readings(DEFAULT_STYLE)

    def tone(self, speaker: str) -> str:
        """Return a speaker's tone over the last turns."""
        turns = [turn for turn in self.readings.turns if turn.speaker == speaker]
        weighted = list(zip(WEIGHTS, reversed(turns), strict=False))
        for tone, labels in TONES.items():
            shares = (w * sum(turn.emotion.probabilities.get(x, 0.0) for x in labels) for w, turn in weighted)
            if sum(shares) >= MIN_SHARE * sum(w for w, _ in weighted):
                return tone
        return "calm"

    def answer(self, turn: TurnFinal) -> str | None:
        """Return the answer to a turn; None for the agent's own turns."""
        if self._caller not in (None, turn.speaker):
            return None
        tone, text = self.tone(turn.speaker), turn.text.lower()
        topic = next((topic for topic, words in TOPICS.items() if re.search(words, text)), "")
        return ANSWERS.get((tone, topic)) or ANSWERS[tone, ""]


def show(agent: Agent, turn: TurnFinal, answer: str) -> None:
    """Print a turn with its reading, the trend and the answer."""
    first = ranked(turn.emotion.probabilities)[:3]
    print(prefixed(turn))
    print("  reading  " + ", ".join(f"{label} {p:.2f}" for label, p in first))
    print(f"  trend    {agent.readings.summary()} Tone: {agent.tone(turn.speaker)}.")
    print(f"  answer   {answer}", flush=True)


async def talk(session: Session, lines: AsyncIterator[str]) -> None:
    """Hold a written conversation: each line is a turn of the caller, each answer a turn of the agent."""
    agent = Agent(CALLER)
    async for line in lines:
        await session.append_turn(text=line, speaker=CALLER)
        turn = await next_turn(session, agent)
        if turn is None:
            print("  this turn failed", flush=True)
        elif answer := agent.answer(turn):
            show(agent, turn, answer)
            await session.append_turn(text=answer, speaker=AGENT)  # answers are part of the conversation
            await next_turn(session, agent)
    await session.close()
    async for _ in session:
        pass


async def next_turn(session: Session, agent: Agent) -> TurnFinal | None:
    """Wait for the turn that was appended last and return it; None if it failed."""
    async for event in session:
        agent.readings.hear(event)
        if isinstance(event, TurnFinal | TurnFailed):
            return event if isinstance(event, TurnFinal) else None
    return None


async def listen(session: Session) -> None:
    """Answer every turn of a spoken conversation."""
    agent = Agent()
    async for event in session:
        agent.readings.hear(event)
        if isinstance(event, TurnFinal) and (answer := agent.answer(event)):
            show(agent, event, answer)


async def script(path: Path) -> AsyncIterator[str]:
    """Yield the lines of a script, without empty lines and comments (#)."""
    text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


async def typed() -> AsyncIterator[str]:
    """Yield the lines from standard input."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip():
            yield line.strip()


async def run(arguments: argparse.Namespace) -> None:
    """Hold the conversation that the arguments ask for."""
    by_voice = bool(arguments.audio or arguments.microphone)
    async with connect(
        arguments.url,
        token=arguments.token,
        turns="heard" if by_voice else "appended",
        sample_rate_hz=arguments.sample_rate,
        partials=False,
    ) as session:
        if not by_voice:
            await talk(session, script(arguments.script) if arguments.script else typed())
            return
        if arguments.audio:
            session.play(arguments.audio)
        else:
            session.listen()
        await listen(session)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 2 for an error, or 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description="An agent that answers by the caller's emotion.")
    parser.add_argument("url", help="of a stream_erc server, as ws://127.0.0.1:8765")
    parser.add_argument("--token", help="the server's bearer token")
    parser.add_argument("--sample-rate", type=int, default=16_000, metavar="HZ", help="of the audio")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--script", type=Path, help="a text file, a turn of the caller in each line")
    source.add_argument("--audio", type=Path, help="a WAV file")
    source.add_argument("--microphone", action="store_true", help="the sound card's input")
    try:
        asyncio.run(run(parser.parse_args(arguments)))
    except (StreamErcClientError, OSError) as error:
        print(f"agent: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
