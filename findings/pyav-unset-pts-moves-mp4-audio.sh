#!/bin/sh
# Guess: a frame whose `pts` was left unset is encoded from where the one before ended, so that one frame alone begins
#   at 0, with the same file as if it had been set to 0.
# Truth: the packets then have no times either, and the MP4 file no edit list that would cut the encoder's delay off:
#   all that was recorded comes 21 ms late out of AAC (1,024 samples at 48 kHz), 23 ms out of MP3. Opus, which says
#   its delay in its own header, stays where it was.
# Hurts: whoever encodes audio without video and so sees no need for times; `AudioFrame.from_ndarray` sets none.
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

RATE = 48000


def late_ms(codec, pts):
    """How much later a click comes out of an MP4 file than it went in."""
    samples = np.zeros((1, RATE), np.float32)
    samples[0, RATE // 2] = 0.9
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream(codec, rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="flt" if codec == "libopus" else "fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, pts
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    file.seek(0)
    decoded = np.concatenate([part.to_ndarray().ravel() for part in av.open(file).decode(audio=0)])
    return 1000 * (int(np.abs(decoded).argmax()) - RATE // 2) / RATE


seen = {}
for codec in ("aac", "libmp3lame", "libopus"):
    seen[codec] = late_ms(codec, 0), late_ms(codec, None)
    print(f"{codec} in MP4: {seen[codec][0]:.1f} ms late with pts = 0, {seen[codec][1]:.1f} ms with pts unset")
as_described = (
    all(abs(with_pts) < 0.1 for with_pts, _ in seen.values())
    and seen["aac"][1] > 20
    and seen["libmp3lame"][1] > 20
    and abs(seen["libopus"][1]) < 0.1
)
sys.exit(not as_described)
PYTHON
