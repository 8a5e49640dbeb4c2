#!/bin/sh
# Guess: words are what white space separates, so that a tab or a line break between two words counts as a space does.
# Truth: by default jiwer splits at spaces alone. Two words with a tab or a line break between them are one word, a
#   wrong one.
# Hurts: whoever scores transcripts of several lines, or columns cut out of a table: a perfect transcript of three
#   words gets a word error rate of 0.67, and nothing shows why, since the two print alike.
# Seen: jiwer 4.0.0, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jiwer==4.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import jiwer

seen = [jiwer.wer("hello big world", f"hello{space}big world") for space in (" ", "  ", "\t", "\n")]
for name, rate in zip(("a space", "two spaces", "a tab", "a line break"), seen):
    print(f"{name} between two right words: word error rate {rate:.2f}")
sys.exit(not (seen[:2] == [0, 0] and min(seen[2:]) > 0.6))
PYTHON
