#!/bin/sh
# Guess: Praat doubles a quotation mark within any text of a TextGrid; a reader that undoes it does so everywhere.
# Truth: the package TextGrid undoes it in the labels of intervals and leaves it in the names of tiers: a tier that Praat
#   shows as A "B" C is called A ""B"" C, and looking it up by its name finds nothing. praatio gives the name as Praat does.
# Hurts: whoever names tiers after speakers with nicknames: the tier is not found, or shown under another name than in Praat.
# Seen: TextGrid 1.6.1 and praatio 6.2.2, on 2026-11-29.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q TextGrid==1.6.1 praatio==6.2.2
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib
import sys

import textgrid
from praatio import textgrid as praatio

FILE = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "A ""B"" C"
        xmin = 0
        xmax = 2
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 2
            text = "she said ""no"""
'''
path = pathlib.Path(sys.argv[1], "talk.TextGrid")
path.write_text(FILE)
grid = textgrid.TextGrid.fromFile(str(path))
name, label, found = grid[0].name, grid[0][0].mark, grid.getFirst('A "B" C')
other = praatio.openTextgrid(str(path), includeEmptyIntervals=True).tierNames[0]
print(f"TextGrid: name {name}, label {label}, found by its name: {found is not None}")
print(f"praatio: name {other}")
described = name == 'A ""B"" C' and label == 'she said "no"' and found is None and other == 'A "B" C'
sys.exit(not described)
PYTHON
