#!/bin/sh
# Guess: of annotations that follow one another without a gap, a moment belongs to the one that begins there, and
#   `remove_annotation(tier, time)` removes one.
# Truth: an annotation reaches up to and including its last millisecond. At the moment where one ends and the next
#   begins, pympi finds both, and removes both. Only the number that it returns tells.
# Hurts: whoever edits ELAN files by the times that another query gave, most of all by the beginning of an annotation.
# Seen: pympi-ling 1.71, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pympi-ling==1.71
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from pympi.Elan import Eaf

eaf = Eaf()
eaf.add_tier("words")
for number, word in enumerate(("one", "two", "three")):
    eaf.add_annotation("words", 1000 * number, 1000 * (number + 1), word)
found = [word for _, _, word in sorted(eaf.get_annotation_data_at_time("words", 1000))]
removed = eaf.remove_annotation("words", 1000)
left = [word for _, _, word in eaf.get_annotation_data_for_tier("words")]
print(f"At 1000 ms, where 'two' begins: {found}. remove_annotation there removed {removed}, and left {left}.")
sys.exit(not (found == ["one", "two"] and removed == 2 and left == ["three"]))
PYTHON
