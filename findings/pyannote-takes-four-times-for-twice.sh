#!/bin/sh
# Guess: a diarization error rate goes along the turns in order, so that a recording twice as long takes twice as long
#   to score.
# Truth: it takes almost four times as long. 2,000 turns (an hour of talk) take seconds of processor time; at this
#   rate a day of it takes half an hour.
# Hurts: whoever scores long recordings, or tunes on them in a loop.
# Seen: pyannote.metrics 4.2.0, pyannote.core 6.1.0, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyannote-metrics==4.2.0 pyannote-core==6.1.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import random
import sys
import time

from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate


def turns(number, seed):
    """`number` turns of four speakers, one after the other."""
    chance, annotation, at = random.Random(seed), Annotation(), 0.0
    for _ in range(number):
        length = chance.uniform(0.5, 3)
        annotation[Segment(at, at + length)] = chance.choice("ABCD")
        at += length + chance.uniform(0, 0.5)
    return annotation


def seconds(number):
    reference, hypothesis = turns(number, 1), turns(number, 2)
    began = time.process_time()
    DiarizationErrorRate()(reference, hypothesis)
    return time.process_time() - began


seconds(100)
taken = {number: min(seconds(number) for _ in range(2)) for number in (500, 1000, 2000)}
for number, spent in taken.items():
    print(f"{number} turns: {spent:.2f} s of processor time")
growth = taken[2000] / taken[500]
print(f"four times the turns take {growth:.1f} times as long")
sys.exit(not growth > 7)
PYTHON
