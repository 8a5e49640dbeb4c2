#!/bin/sh
# Guess: a streaming resampler is behind by its filter, a few milliseconds, and least where it doubles the rate.
# Truth: soxr.ResampleStream works in blocks of its own. At its default quality (HQ), telephone audio that arrives in
#   pieces of 10 ms gives nothing at all for more than 100 ms when it is taken from 8 to 16 kHz, and stays behind by
#   as much; 48 to 16 kHz holds back some 40 ms. LQ, the lower quality, holds back half of that or less, QQ nothing.
# Hurts: live recognizers of telephone speech, which lose a tenth of a second before they have heard anything.
# Seen: soxr 1.1.0, numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q soxr==1.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import soxr


def behind_ms(rate_in, rate_out, quality):
    """The most that the output is behind the input over two seconds, in milliseconds."""
    stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality=quality)
    piece, given, most = rate_in // 100, 0, 0.0
    for n in range(1, 201):
        given += len(stream.resample_chunk(np.zeros(piece, np.float32)))
        most = max(most, 10 * n - 1000 * given / rate_out)
    return most


seen = {}
for rates in ((8000, 16000), (16000, 8000), (48000, 16000)):
    for quality in ("HQ", "LQ", "QQ"):
        seen[rates, quality] = behind_ms(*rates, quality)
        print(f"{rates[0]} to {rates[1]} Hz, {quality}: up to {seen[rates, quality]:.0f} ms behind")
as_described = (
    seen[(8000, 16000), "HQ"] > 100
    and 20 < seen[(48000, 16000), "HQ"] < 60
    and seen[(8000, 16000), "LQ"] < 0.6 * seen[(8000, 16000), "HQ"]
    and seen[(8000, 16000), "QQ"] < 5
)
sys.exit(not as_described)
PYTHON
