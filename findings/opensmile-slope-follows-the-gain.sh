#!/bin/sh
# Guess: a spectral slope in dB per Hz, like the other ratios of energies in eGeMAPS, does not depend on the gain.
# Truth: alpha ratio and Hammarberg index stay, but for the same vowel 20 dB quieter the slope from 0 to 500 Hz comes
#   out half as steep again, and that from 500 to 1500 Hz a quarter flatter.
# Hurts: whoever compares voices over microphones or distances, and takes the slopes for a measure of vocal effort
#   that needs no calibration.
# Seen: opensmile 2.6.0, numpy 2.4.6, on 2026-11-28.
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
names = ["alphaRatioV_sma3nz_amean", "hammarbergIndexV_sma3nz_amean", "slopeV0-500_sma3nz_amean", "slopeV500-1500_sma3nz_amean"]


def envelope(frequency):
    """How strongly a vowel like the one in "father" lets `frequency` through."""
    s = 2j * np.pi * frequency
    gain = 1 / (1 + s / (2 * np.pi * 100))  # the voice itself falls
    for centre, width in ((700, 80), (1200, 90), (2600, 120)):
        pole = np.pi * width + 2j * np.pi * centre
        gain = gain * abs(pole) ** 2 / ((s + pole) * (s + pole.conjugate()))
    return abs(gain)


time = np.arange(32000) / 16000
phase = 2 * np.pi * np.cumsum(120 + 10 * np.sin(3 * np.pi * time)) / 16000
vowel = sum(envelope(120 * k) * np.cos(k * phase) for k in range(1, 60))
vowel += 0.0005 * np.random.default_rng(0).standard_normal(len(vowel))
vowel = (0.9 * vowel / np.abs(vowel).max()).astype(np.float32)
loud, quiet = (smile.process_signal(gain * vowel, 16000)[names].iloc[0] for gain in (1, 0.1))
ratio = quiet / loud
for name in names:
    print(f"{name}: {loud[name]:.4f}, at a tenth of the amplitude {quiet[name]:.4f}, times {ratio[name]:.2f}")
stay = (abs(ratio[names[:2]] - 1) < 0.05).all()
sys.exit(not (stay and (abs(ratio[names[2:]] - 1) > 0.2).all()))
PYTHON
