#!/bin/sh
# Guess: who overlaps himself speaks once, so that two turns of one speaker, 0 to 6 s and 4 to 10 s, are 10 s of
#   speech.
# Truth: the diarization error rate of pyannote.metrics counts 12 s. A system that says "speaks from 0 to 10 s", which
#   is all that can be known, has missed 2 s (an error rate of 17%). In the hypothesis the same overlap is 2 s of
#   false alarm.
# Hurts: whoever scores against references made by several passes or of utterances with margins, where turns of one
#   speaker touch into one another, and whoever joins the outputs of overlapping windows. `Annotation.support()` on
#   both sides mends it.
# Seen: pyannote.metrics 4.2.0, pyannote.core 6.1.0, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyannote-metrics==4.2.0 pyannote-core==6.1.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate


def turns(label, *spans):
    annotation = Annotation()
    for number, span in enumerate(spans):
        annotation[Segment(*span), number] = label
    return annotation


overlapping, whole = turns("Ann", (0, 6), (4, 10)), turns("1", (0, 10))
seen = {
    "as reference": DiarizationErrorRate()(overlapping, whole, detailed=True),
    "as hypothesis": DiarizationErrorRate()(whole, overlapping, detailed=True),
    "as reference, by support()": DiarizationErrorRate()(overlapping.support(), whole, detailed=True),
}
for where, result in seen.items():
    parts = ", ".join(f"{part} {result[part]:g} s" for part in ("total", "missed detection", "false alarm"))
    print(f"one speaker's overlapping turns {where}: {parts}, error rate {result['diarization error rate']:.3f}")
reference, hypothesis, mended = seen.values()
as_described = (
    (reference["total"], reference["missed detection"]) == (12, 2)
    and hypothesis["false alarm"] == 2
    and mended["diarization error rate"] == 0
)
sys.exit(not as_described)
PYTHON
