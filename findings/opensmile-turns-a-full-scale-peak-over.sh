#!/bin/sh
# Guess: a signal that was normalised so that its peak is 1.0 is a valid one, and hardly differs from 0.9999 times
#   itself.
# Truth: the package multiplies by 32768 and casts to 16 bits without clipping, so that 1.0 becomes -32768: each
#   positive peak turns into the deepest trough. So do float samples beyond 1, which resamplers and lossy codecs give
#   for loud speech.
# Hurts: whoever normalises by the peak, `x / abs(x).max()`, before extracting features. The loudness of this voice
#   rises by half.
# Seen: opensmile 2.6.0, numpy 2.4.6, x86-64, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q opensmile==2.6.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import opensmile

smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
time = np.arange(16000) / 16000
voice = sum(np.cos(2 * np.pi * 125 * k * time) / k for k in range(1, 20))  # 125 Hz, a peak in each period
voice = (voice / np.abs(voice).max()).astype(np.float32)
assert voice.max() == 1.0
names = ["loudness_sma3_amean", "spectralFlux_sma3_amean"]
full, nearly = (smile.process_signal(x, 16000)[names].iloc[0] for x in (voice, 0.9999 * voice))
for name in names:
    print(f"{name}: {full[name]:.3f} with the peak at 1.0, {nearly[name]:.3f} at 0.9999")
loudness = full["loudness_sma3_amean"] / nearly["loudness_sma3_amean"]
print(f"{(voice == 1).sum()} of {len(voice)} samples are 1.0; loudness times {loudness:.2f}")
sys.exit(not loudness > 1.1)
PYTHON
