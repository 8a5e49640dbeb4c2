#!/bin/sh
# Guess: a segment that is shorter than Whisper's 30 s is filled up with silence, so it makes no difference whether the
#   caller appends digital silence or leaves that to the library.
# Truth: the library fills the finished spectrogram with 0. After Whisper's scaling, (log10 + 4) / 4, 0 is no silence
#   but a steady hiss in all bands: for a voice that peaks near full scale it lies .57 above the floor, 23 dB. With
#   digital silence appended to the audio those frames lie at the floor.
# Hurts: whoever feeds the encoder less than 30 s, or compares engines: OpenAI's own code pads the audio, so the model
#   was trained on the floor.
# Seen: faster-whisper 1.2.1, numpy 2.4.6, on 2026-11-29.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q faster-whisper==1.2.1 numpy==2.4.6
"$folder/venv/bin/python" <<'PYTHON'
import sys

import numpy as np
from faster_whisper.audio import pad_or_trim
from faster_whisper.feature_extractor import FeatureExtractor

RATE = 16_000
time = np.arange(3 * RATE) / RATE
voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30)) * (1 + np.sin(2 * np.pi * 4 * time))
voice = (0.9 * voice / np.abs(voice).max()).astype(np.float32)
extract = FeatureExtractor()
padded = pad_or_trim(extract(voice))  # what `transcribe` encodes
appended = pad_or_trim(extract(np.concatenate([voice, np.zeros(27 * RATE, np.float32)])))
library, silence = padded[:, 400:2900], appended[:, 400:2900]
print(f"shape {padded.shape}; frames of padding: library {library.min():.2f} to {library.max():.2f},", end=" ")
print(f"silence {silence.min():.2f} to {silence.max():.2f}, peak of the voice {padded.max():.2f}")
print(f"difference {library.mean() - silence.mean():.2f} of the scaled logarithm, {40 * (library.mean() - silence.mean()):.0f} dB")
floor = appended.max() - 2  # 8 decades below the peak, scaled
as_described = not library.any() and np.allclose(silence, floor, atol=0.01) and library.mean() - silence.mean() > 0.4
sys.exit(not as_described)
PYTHON
