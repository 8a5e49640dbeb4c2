"""The recording that a command hears: a file or standard input, its track, and its channels."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stream_erc.exceptions import InputError

if TYPE_CHECKING:
    from stream_erc.sources.audio_files import AudioFile
    from stream_erc.sources.channels import ChannelChoice

PIPE = Path("-")
"""The input that stands for standard input."""

_CHOSEN = {
    True: "the two channels carry different speech and are heard separately (--channels mix: as one)",
    False: "the two channels carry the same speech and are heard as one (--channels separate: each alone)",
}
"""What is said of two channels, by whether they are heard separately."""

_PIPED = "the two channels are heard as one, since a pipe cannot be looked at first (--channels separate)"


def open_recording(args: argparse.Namespace) -> "AudioFile":
    """Open the recording that the arguments name; say which of several tracks is heard.

    Raises:
        InputError: it cannot be read, or has no such track.
    """
    from stream_erc.sources.audio_files import AudioFile
    from stream_erc.sources.standard_input import StandardInput

    pipe = StandardInput() if args.input == PIPE else None
    audio = AudioFile(args.input, track=args.track, raw=args.raw, pipe=pipe)
    if len(audio.tracks) > 1:
        print(f"stream-erc: hears track {audio.track} of {len(audio.tracks)} (--track)", file=sys.stderr)
    return audio


def choose_channels(
    args: argparse.Namespace, audio: "AudioFile", *, needs: str | None
) -> tuple[str | None, ...] | None:
    """Return the name of each channel to hear separately, None to mix them; say what was chosen of two.

    Args:
        args: the arguments.
        audio: the recording.
        needs: the option that needs one channel, if any.

    Raises:
        InputError: channels to hear separately along with such an option, or other channels than there are.
    """
    from stream_erc.sources import channels

    choice: ChannelChoice = args.channels or ("auto" if needs is None else "mix")
    chosen = channels.choose_channels(audio, choice)
    if needs is not None and chosen is not None:
        raise InputError(f"--channels: expected mix with {needs}, got channels to hear separately")
    if audio.channels == 2 and choice == "auto":
        said = _CHOSEN[chosen is not None] if audio.repeatable else _PIPED
        print(f"stream-erc: {said}", file=sys.stderr)
    return chosen
