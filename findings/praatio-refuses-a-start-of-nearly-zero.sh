#!/bin/sh
# Guess: praatio reads every TextGrid that Praat writes, whatever number a tier begins with.
# Truth: a beginning in scientific notation, 5.684341886080802e-14, as Praat writes where a sound was cut and times were
#   computed, makes the whole file unreadable: "ParsingError: Expected field in Textgrid missing", though no field is. The
#   same file with 0 is read, and the package TextGrid reads both.
# Hurts: whoever converts annotated corpora: single files of thousands are refused, with a message that sends them to look
#   for a missing field.
# Seen: praatio 6.2.2 and TextGrid 1.6.1, on 2026-11-29.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q praatio==6.2.2 TextGrid==1.6.1
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib
import sys

import textgrid
from praatio import textgrid as praatio

FILE = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = {start}
xmax = 2
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "Anna"
        xmin = {start}
        xmax = 2
        intervals: size = 1
        intervals [1]:
            xmin = {start}
            xmax = 2
            text = "hello"
"""


def labels(path):
    try:
        grid = praatio.openTextgrid(path, includeEmptyIntervals=True)
        return [interval.label for interval in grid.getTier("Anna").entries]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


seen = []
for start in ("0", "5.684341886080802e-14"):
    path = pathlib.Path(sys.argv[1], "talk.TextGrid")
    path.write_text(FILE.format(start=start))
    other = [interval.mark for interval in textgrid.TextGrid.fromFile(str(path))[0]]
    seen.append((labels(str(path)), other))
    print(f"from {start}: praatio {seen[-1][0]}, TextGrid {other}")
refused = "ParsingError: Expected field in Textgrid missing."
sys.exit(seen != [(["hello"], ["hello"]), (refused, ["hello"])])
PYTHON
