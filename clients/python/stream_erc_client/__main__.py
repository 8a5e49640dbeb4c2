"""The command line: send a recording or the microphone, print the turns.

python -m stream_erc_client URL FILE
python -m stream_erc_client URL --microphone
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from stream_erc_client.errors import StreamErcClientError
from stream_erc_client.events import (
    Disconnected,
    Event,
    Failed,
    SessionClosed,
    TurnFailed,
    TurnFinal,
    TurnRevised,
    Warned,
)
from stream_erc_client.media import open_audio
from stream_erc_client.session import connect

MICROPHONE_RATE_HZ = 16_000


def main(words: list[str] | None = None) -> int:
    """Run the command line; return 0 for success, 1 for a failed session, 130 for Ctrl-C during a file."""
    args = _parser().parse_args(words)
    try:
        return asyncio.run(_run(args))
    except StreamErcClientError as error:
        print(f"stream_erc_client: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stream_erc_client",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="of the server, as ws://127.0.0.1:8765")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", metavar="FILE", nargs="?", help="WAV, or any audio or video (extra formats)")
    source.add_argument(
        "--microphone", metavar="DEVICE", nargs="?", const="", help="name or index of a device"
    )
    parser.add_argument("--token", default=os.environ.get("STREAM_ERC_TOKEN"), help="or STREAM_ERC_TOKEN")
    parser.add_argument("--model", help="one of the server's")
    parser.add_argument("--language", help="ISO 639-1")
    parser.add_argument(
        "--channels", metavar="NAME,NAME", help="the speaker of each channel of the file, heard separately"
    )
    parser.add_argument("--fast", action="store_true", help="send the file as fast as the server reads it")
    return parser


async def _run(args: argparse.Namespace) -> int:
    rate_hz = MICROPHONE_RATE_HZ
    if args.file is not None:
        with open_audio(args.file) as wav:
            rate_hz = wav.sample_rate_hz
    session = connect(
        args.url,
        channels=args.channels.split(",") if args.channels else 1,
        token=args.token,
        model=args.model,
        language=args.language,
        sample_rate_hz=rate_hz,
        partials=False,
        pace="replay" if args.fast else "live",
    )
    async with session:
        if args.file is not None:
            session.play(args.file)
        else:
            device = args.microphone or None
            session.listen(int(device) if device and device.isdecimal() else device)
        try:
            async for event in session:
                _show(event)
        except asyncio.CancelledError:  # Ctrl-C is how a microphone ends: receive the turns spoken so far
            if args.file is not None:
                raise
            await session.close()
            async for event in session:
                _show(event)
    return 0


def _show(event: Event) -> None:
    """Print one line for a turn to stdout, or for a problem or the end to stderr."""
    match event:
        case TurnFinal() | TurnRevised():
            at = "" if event.audio_start_ms is None else _clock(event.audio_start_ms)
            again = f" (turn {event.turn} again)" if event.revision else ""
            emotion = f"{event.emotion.label} {event.emotion.confidence:.0%}"
            speaker = event.speaker + "?" * event.speaker_unsure
            print(_plain(f"{at:>8}  {speaker}: {event.text}  [{emotion}]{again}"), flush=True)
        case TurnFailed():
            print(_plain(f"turn {event.turn} failed: {event.message}"), file=sys.stderr)
        case Disconnected() if event.attempt > 1:
            print(f"{event.reason}: next attempt in {event.delay_s:.1f} s", file=sys.stderr)
        case Warned() | Failed():
            print(_plain(f"{event.code}: {event.message}"), file=sys.stderr)
        case SessionClosed():
            heard = _clock(event.audio_ms or 0)
            print(f"{heard} heard, {event.turns} turns, {len(event.speakers)} speakers", file=sys.stderr)
            for one in event.summary:
                emotions = sorted(one.emotions.items(), key=lambda item: -item[1].turns)
                told = ", ".join(f"{label} {totals.turns}" for label, totals in emotions if totals.turns)
                spoken = f"{_clock(one.speaking_ms)} in {one.turns} turns"
                print(_plain(f"{one.speaker}: {spoken}; {told}"), file=sys.stderr)


def _plain(text: str) -> str:
    """Remove control characters, which a terminal would obey: names and words are untrusted."""
    return "".join(c if c.isprintable() else " " for c in text)


def _clock(ms: int) -> str:
    """Format a time as minutes, seconds and tenths."""
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes}:{rest / 1000:04.1f}"


if __name__ == "__main__":
    sys.exit(main())
