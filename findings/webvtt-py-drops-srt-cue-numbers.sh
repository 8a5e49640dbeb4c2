#!/bin/sh
# Guess: a reader of subtitles keeps the number of an SRT cue, as it keeps a WebVTT cue's identifier, so that a file that is read
#   and written again names the same cues.
# Truth: webvtt-py reads an SRT cue's number away: `identifier` is None for SRT, and the number for the same line in WebVTT. Written
#   as SRT the cues are numbered anew from 1, and as WebVTT they have no identifier at all.
# Hurts: whoever refers to cues by number (corrections, comments, alignments): they are of other cues once the file was cut or converted.
# Seen: webvtt-py 0.6.0, on 2026-11-30.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q webvtt-py==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import webvtt

SRT = "7\n00:00:01,000 --> 00:00:02,000\nHello\n\n9\n00:00:03,000 --> 00:00:04,000\nBye\n"
VTT = "WEBVTT\n\n7\n00:01.000 --> 00:02.000\nHello\n\n9\n00:03.000 --> 00:04.000\nBye\n"
read = {}
for name, text in (("srt", SRT), ("vtt", VTT)):
    captions = webvtt.from_buffer(io.StringIO(text), format=name)
    read[name] = [caption.identifier for caption in captions]
    print(f"{name}: identifiers read {read[name]}")
captions = webvtt.from_buffer(io.StringIO(SRT), format="srt")
srt, vtt = io.StringIO(), io.StringIO()
captions.write(srt, format="srt")
captions.write(vtt, format="vtt")
written = [line for line in srt.getvalue().splitlines() if line.isdigit()]
print(f"srt written again: {written}; as vtt: {vtt.getvalue()!r}")
sys.exit(not (read == {"srt": [None, None], "vtt": ["7", "9"]} and written == ["1", "2"] and "7" not in vtt.getvalue()))
PYTHON
