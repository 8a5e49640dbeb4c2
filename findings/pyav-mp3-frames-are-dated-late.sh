#!/bin/sh
# Guess: where the encoder's delay was cut off, the first frame's time is 0, and a frame's time is the place of its
#   samples.
# Truth: FFmpeg cuts the delay off an MP3 file, so that the samples are exactly those that were encoded, but goes on
#   counting it in the times. Every frame's time is late: by 23 ms at 48 kHz, by 69 ms at 16 kHz, also after seeking.
#   AAC in MP4 and Opus in Ogg begin at 0.
# Hurts: whoever dates words by `frame.time` and cuts by samples, or the other way round.
# Seen: av 18.1.0 (PyAV), numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import av
import numpy as np


def first_frame(codec, container, rate):
    """The first frame's time, how many samples too many, and where a click in the middle of a second is found."""
    samples = np.zeros((1, rate), np.float32)
    samples[0, rate // 2] = 0.9
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="flt" if codec == "libopus" else "fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    file.seek(0)
    frames = list(av.open(file).decode(audio=0))
    decoded = np.concatenate([part.to_ndarray().ravel() for part in frames])
    return frames[0].time, len(decoded) - rate, np.abs(decoded).argmax() / rate


seen = {}
for codec, container, rate in (
    ("libmp3lame", "mp3", 16000), ("libmp3lame", "mp3", 48000), ("aac", "mp4", 48000), ("libopus", "ogg", 48000),
):  # fmt: skip
    seen[container, rate] = time, extra, click = first_frame(codec, container, rate)
    print(f"{container} at {rate} Hz: first frame at {1000 * time:.1f} ms, {extra} samples too many, click at {click:.4f} s")
as_described = (
    seen["mp3", 16000][0] > 0.06
    and seen["mp3", 48000][0] > 0.02
    and seen["mp3", 16000][1] == seen["mp3", 48000][1] == 0
    and all(abs(click - 0.5) < 0.001 for _, _, click in seen.values())
    and seen["mp4", 48000][0] == seen["ogg", 48000][0] == 0
)
sys.exit(not as_described)
PYTHON
