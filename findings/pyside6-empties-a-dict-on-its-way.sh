#!/bin/sh
# Guess: `Signal(dict)` hands the dict over as it is, as any Python object: the same one, or at least an equal one in
#   the same order.
# Truth: it goes through a map of Qt's whose keys are texts. With a key that is no text an empty dict arrives (a line
#   on stderr, no exception), and the keys of any other come sorted. `Signal(object)` hands over the object itself.
# Hurts: whoever sends counts by number, or a report whose order means something, from a worker to a window.
# Seen: PySide6_Essentials 6.11.3, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q PySide6_Essentials==6.11.3
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from PySide6.QtCore import QCoreApplication, QObject, Signal


class Worker(QObject):
    as_dict = Signal(dict)
    as_object = Signal(object)


application, worker, arrived = QCoreApplication([]), Worker(), []
worker.as_dict.connect(arrived.append)
worker.as_object.connect(arrived.append)
turns_by_speaker, report = {1: 12, 2: 7}, {"name": "Ann", "emotion": "joy"}
for sent in (turns_by_speaker, report):
    worker.as_dict.emit(sent)
    worker.as_object.emit(sent)
    print(f"sent {sent}: Signal(dict) gave {arrived[-2]}, Signal(object) {arrived[-1]}")
as_described = (
    arrived[0] == {} and list(arrived[2]) == ["emotion", "name"] and arrived[1] is turns_by_speaker and arrived[3] is report
)
sys.exit(not as_described)
PYTHON
