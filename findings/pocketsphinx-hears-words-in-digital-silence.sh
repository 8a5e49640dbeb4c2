#!/bin/sh
# Guess: samples that are all zero are the easiest silence there is, and give no words, or an empty text.
# Truth: PocketSphinx hears a word in them and says that its probability is 1. The faintest noise, or its own option
#   `dither`, gives the empty text that one expects.
# Hurts: whoever transcribes muted microphones, padded files and gaps in streams, and whoever trusts the probability.
# Seen: pocketsphinx 5.1.1, numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pocketsphinx==5.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import pocketsphinx


def hear(samples, **options):
    decoder = pocketsphinx.Decoder(loglevel="FATAL", **options)
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return (hypothesis.hypstr, hypothesis.prob) if hypothesis else ("", 0.0)


silence = {seconds: np.zeros(16000 * seconds, np.int16) for seconds in (2, 5)}
noise = np.random.default_rng(0).integers(-2, 3, 32000).astype(np.int16)
heard = [hear(samples) for samples in silence.values()]
for seconds, (text, probability) in zip(silence, heard):
    print(f"{seconds} s of zeros: {text!r}, probability {probability:.3f}")
dithered, noisy = hear(silence[2], dither=True), hear(noise)
print(f"2 s of zeros with dither: {dithered[0]!r}\n2 s of noise between -2 and 2: {noisy[0]!r}")
sys.exit(not (all(text and probability > 0.99 for text, probability in heard) and not dithered[0] and not noisy[0]))
PYTHON
