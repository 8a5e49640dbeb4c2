#!/bin/sh
# Guess: WebVTT writes & and < as &amp; and &lt;, so its readers give the characters back; and one reader reads what
#   the other wrote.
# Truth: neither pysubs2 nor webvtt-py does. The text of a cue that says "R&D" is "R&amp;D" in both, three words to
#   whoever splits it at what is no letter. Nor does either write them: a text "a < b" goes into the file as it is,
#   where a browser reads the rest as a tag.
# Hurts: word error rates, text encoders and lexica that see "amp" and "lt"; captions made from recognized text.
# Seen: pysubs2 1.8.1, webvtt-py 0.6.0, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pysubs2==1.8.1 webvtt-py==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import pysubs2
import webvtt

FILE = "WEBVTT\n\n00:01.000 --> 00:02.000\nR&amp;D costs &lt; 5\n"
read = [pysubs2.SSAFile.from_string(FILE, "vtt")[0].plaintext, webvtt.from_string(FILE)[0].text]
subtitles = pysubs2.SSAFile()
subtitles.append(pysubs2.SSAEvent(1000, 2000, "R&D costs < 5"))
captions = webvtt.WebVTT()
captions.captions.append(webvtt.Caption("00:00:01.000", "00:00:02.000", "R&D costs < 5"))
written = [subtitles.to_string("vtt").splitlines(), captions.content.splitlines()]
for name, text, lines in zip(("pysubs2", "webvtt-py"), read, written):
    print(f"{name}: reads {text!r}, writes {[line for line in lines if 'costs' in line]}")
as_described = all(text == "R&amp;D costs &lt; 5" for text in read) and all("R&D costs < 5" in lines for lines in written)
sys.exit(not as_described)
PYTHON
