#!/bin/sh
# Guess: `start_utt` begins anew, so the same samples give the same hypothesis whatever was decoded before; and
#   `start_stream`, which warns that it is "deprecated and unnecessary", changes nothing.
# Truth: the decoder carries its estimate of the noise from one utterance into the next, also with `cmn="batch"`. The
#   same samples score otherwise after others. `start_stream()` before each utterance forgets the noise, and the
#   scores are equal.
# Hurts: whoever compares a replay with a live run, or decodes files in parallel with decoders that were used before;
#   and whoever follows the warning.
# Seen: pocketsphinx 5.1.1, numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pocketsphinx==5.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import numpy as np
import pocketsphinx

chance = np.random.default_rng(0)
time = np.arange(32000) / 16000
voice = sum(np.sin(2 * np.pi * 120 * k * time + k) / k for k in range(1, 30)) * (np.sin(4 * np.pi * time) > 0)
voice = (8000 * voice / np.abs(voice).max() + 30 * chance.standard_normal(len(time))).astype(np.int16)
noise = (3000 * chance.standard_normal(len(time))).astype(np.int16)
warned = set()


def scores(begin_stream):
    """The score of the same voice before and after two seconds of noise."""
    decoder, found = pocketsphinx.Decoder(loglevel="FATAL", cmn="batch"), []
    for samples in (voice, noise, voice):
        if begin_stream:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                decoder.start_stream()
            warned.update(str(warning.message) for warning in caught)
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        found.append(decoder.hyp().best_score)
    return found[0], found[2]


plain, begun = scores(False), scores(True)
print(f"before and after two seconds of noise: {plain[0]:.4f} and {plain[1]:.4f}")
print(f"with start_stream() each time: {begun[0]:.4f} and {begun[1]:.4f}; it warns {sorted(warned)}")
sys.exit(not (abs(plain[0] - plain[1]) > 0.001 and begun[0] == begun[1] and any("unnecessary" in text for text in warned)))
PYTHON
