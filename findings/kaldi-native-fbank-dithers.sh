#!/bin/sh
# Guess: filterbank features are a function of the samples; dithering, which old Kaldi recipes had, is off unless
#   asked for.
# Truth: it is on by default in kaldi-native-fbank, at 0.00003 for samples between -1 and 1 (one unit of 16 bits). The
#   same samples give other numbers each time; digital silence, and the quiet bands of any clean signal, by more than
#   1 on the logarithmic scale. `frame_opts.dither = 0` turns it off.
# Hurts: golden files, caches keyed by content, comparisons of a live run with a replay.
# Seen: kaldi-native-fbank 1.23.0, numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q kaldi-native-fbank==1.23.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import kaldi_native_fbank as knf
import numpy as np


def features(samples, dither=None):
    options = knf.FbankOptions()
    if dither is not None:
        options.frame_opts.dither = dither
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(16000, samples)
    fbank.input_finished()
    return np.stack([fbank.get_frame(n) for n in range(fbank.num_frames_ready)])


silence = np.zeros(16000, np.float32)
tone = (0.1 * np.sin(np.arange(16000) * 0.2)).astype(np.float32)
seen = {}
for name, samples in (("silence", silence), ("a tone", tone)):
    for dither in (None, 0):
        seen[name, dither] = np.abs(features(samples, dither) - features(samples, dither)).max()
        how = "as it is" if dither is None else "dither = 0"
        print(f"{name}, {how}: two runs differ by up to {seen[name, dither]:.4f}")
sys.exit(not (seen["silence", None] > 1 and seen["a tone", None] > 0 and seen["silence", 0] == seen["a tone", 0] == 0))
PYTHON
