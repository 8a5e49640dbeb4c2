#!/bin/sh
# Guess: soxr's filter for variable rates (vr=True), used at one fixed ratio, gives the same signal as the other one, and
#   as many samples at the end; only sooner.
# Truth: the same signal at 8 to 16 kHz, but at most other ratios a shifted one: half a sample of 16 kHz early from 4 kHz,
#   1.6 samples late from 48 and from 44.1 kHz, though the number of samples is right and the ends look aligned.
# Hurts: whoever changes the filter for its shorter delay and compares or mixes its output with the former one's: at
#   3 kHz the difference is larger than the signal.
# Seen: soxr 1.1.0 (python-soxr), numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q soxr==1.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import soxr


def delay(rate, vr, hz=440.0):
    """How many samples of 16 kHz a tone comes late, and how many samples come out of two seconds."""
    tone = (0.5 * np.sin(2 * np.pi * hz * np.arange(2 * rate) / rate)).astype(np.float32)
    stream = soxr.ResampleStream(rate, 16000, 1, dtype="float32", quality="HQ", vr=vr)
    out = stream.resample_chunk(tone, last=True)
    angle = 2 * np.pi * hz * np.arange(len(out)) / 16000
    middle = slice(8000, len(out) - 8000)
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=1)[middle]
    (sine, cosine), *_ = np.linalg.lstsq(waves, out[middle], rcond=None)
    return -np.arctan2(cosine, sine) / (2 * np.pi * hz) * 16000, len(out)


late = {}
for rate in (4000, 8000, 44100, 48000):
    for vr in (False, True):
        late[rate, vr], count = delay(rate, vr)
        print(f"{rate} Hz, vr={vr}: late by {late[rate, vr]:+.3f} samples, {count} samples")
sys.exit(
    not (
        all(abs(late[rate, False]) < 0.01 for rate in (4000, 8000, 44100, 48000))
        and abs(late[8000, True]) < 0.01
        and abs(late[4000, True] + 0.5) < 0.02
        and all(abs(late[rate, True] - 1.616) < 0.02 for rate in (44100, 48000))
    )
)
PYTHON
