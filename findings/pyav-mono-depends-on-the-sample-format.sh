#!/bin/sh
# Guess: mixing two channels to one is their mean, and one channel made two is that channel twice.
# Truth: FFmpeg's mixer weighs each channel with 0.707. To 16 bits it scales the sum down to the mean; to float it
#   does not, so the same sound on both channels comes out 1.41 times as large (3 dB), beyond full scale where the
#   recording was loud. Mono to stereo gives 0.707 of the signal in either format.
# Hurts: whoever compares features of files decoded to float with those decoded to 16 bits, or with what soundfile and
#   a mean give; whatever expects samples between -1 and 1.
# Seen: av 18.1.0 (PyAV), numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import av
import numpy as np


def remix(channels_in, layout_in, format_out, layout_out):
    """The level of each output channel for a level of 0.8 on every input channel."""
    frame = av.AudioFrame.from_ndarray(np.full((channels_in, 1600), 0.8, np.float32), format="fltp", layout=layout_in)
    frame.sample_rate = 16000
    resampler = av.AudioResampler(format=format_out, layout=layout_out, rate=16000)
    samples = np.concatenate([part.to_ndarray() for part in resampler.resample(frame)], axis=1)
    return abs(samples[:, 100]).max() / (32768 if format_out == "s16p" else 1)


to_float, to_int = remix(2, "stereo", "fltp", "mono"), remix(2, "stereo", "s16p", "mono")
doubled = remix(1, "mono", "fltp", "stereo")
print(f"0.8 on both channels, to mono: {to_float:.3f} as float, {to_int:.3f} as 16 bits")
print(f"0.8 on one channel, to stereo: {doubled:.3f} each")
sys.exit(not (abs(to_float - 1.131) < 0.01 and abs(to_int - 0.8) < 0.01 and abs(doubled - 0.566) < 0.01))
PYTHON
