"""The command ``stream-erc voices add | list | remove``: the voices that are known by name."""

import argparse
from pathlib import Path

from stream_erc import config as configuration
from stream_erc.config import Config, DiarizationConfig
from stream_erc.core.enrolment import measure_voice
from stream_erc.exceptions import VoicesError
from stream_erc.sources.voice_files import (
    Voices,
    add_clip,
    check_addition,
    read_voices,
    remove_voice,
    voices_path,
)


def run_voices(args: argparse.Namespace) -> int:
    """Run one of the commands, and return the exit code."""
    path = voices_path(args.voices)
    if args.action == "add":
        config = configuration.load(args.config) if args.config else Config()
        voices = _add(path, args.name, args.files, config.session.diarization)
        print(f"{_described(args.name, voices)}; in {path}")
    elif args.action == "remove":
        left = remove_voice(path, args.name)
        print(f"removed {args.name}, {len(left.clips)} left in {path}")
    else:
        voices = read_voices(path, None)
        print(f"{path}: speaker encoder {voices.encoder}")
        for name in voices.names:
            print(f"  {_described(name, voices)}")
    return 0


def _add(path: Path, name: str, files: list[Path], config: DiarizationConfig) -> Voices:
    """Measure the voice in all files, then add it: all clips or none.

    Raises:
        VoicesError: a file has too little speech, or the voices are of another encoder.
        AudioError: a file cannot be read.
    """
    check_addition(path, config.encoder, name)
    from stream_erc.inference.silero import SileroVad
    from stream_erc.inference.speaker_encoder import load_encoder
    from stream_erc.sources.audio_files import AudioFile

    recordings = [AudioFile(file) for file in files]
    vad, encoder = SileroVad(), load_encoder(config)
    measured = []
    for recording in recordings:
        try:
            chunks = recording.chunks()
            measured.append(measure_voice(chunks, vad, lambda samples: encoder.embed([samples])[0]))
        except VoicesError as error:
            raise VoicesError(f"{recording.path}: {error}") from error
    for vector, speech_s in measured:
        voices = add_clip(path, encoder.name, name, vector, speech_s)
    return voices


def _described(name: str, voices: Voices) -> str:
    """Return a voice in one line."""
    clips = voices.clips[name]
    seconds = sum(clip.speech_s for clip in clips)
    count = "1 clip" if len(clips) == 1 else f"{len(clips)} clips"
    dates = sorted({clip.added for clip in clips})
    added = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{name}: {count}, {seconds:.1f} s of speech, added {added}"
