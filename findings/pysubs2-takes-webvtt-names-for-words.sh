#!/bin/sh
# Guess: of a WebVTT file, a reader gives what is said in the cues. What stands between them, names of cues and notes,
#   is no text, and a cue's own lines all are.
# Truth: pysubs2 takes all that stands before the next time line for the text of the cue before. Names of cues and
#   NOTE blocks become words that somebody is said to have spoken; and since it takes a number there for the count of
#   the next cue, as in SRT, the number of a cue whose last line is one is lost.
# Hurts: whoever scores or feeds transcripts from WebVTT files with named cues or remarks, or of people who say a
#   year.
# Seen: pysubs2 1.8.1, beside webvtt-py 0.6.0, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pysubs2==1.8.1 webvtt-py==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import pysubs2
import webvtt

FILE = """WEBVTT

greeting
00:01.000 --> 00:02.000
Good morning.

NOTE the first speaker leaves

answer
00:03.000 --> 00:04.000
I was born in
1984

00:05.000 --> 00:06.000
Really?
"""

by_pysubs2 = [event.plaintext.split() for event in pysubs2.SSAFile.from_string(FILE, "vtt")]
by_webvtt = [caption.text.split() for caption in webvtt.from_string(FILE)]
for ours, theirs in zip(by_pysubs2, by_webvtt):
    print(f"pysubs2 {' '.join(ours)!r}, webvtt-py {' '.join(theirs)!r}")
as_described = (
    {"NOTE", "speaker", "answer"} <= set(by_pysubs2[0])
    and "1984" not in by_pysubs2[1]
    and by_webvtt == [["Good", "morning."], ["I", "was", "born", "in", "1984"], ["Really?"]]
)
sys.exit(not as_described)
PYTHON
