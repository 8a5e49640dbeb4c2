#!/bin/sh
# Guess: balanced accuracy is macro recall; its documentation says "average of recall obtained on each class".
# Truth: where a class occurs only among the predictions, balanced_accuracy_score leaves it out, and recall_score and
#   f1_score with average="macro" count it as 0. The same answers get 0.75 from one and 0.5 from the other.
#   `zero_division=nan`, which leaves undefined recalls out, brings them together; for F1 it does not help, since that
#   is 0 and not undefined.
# Hurts: scores of small or rare-class test sets, one dialogue or one fold, where a class is missing: a system that
#   once says "disgust" loses a part of every class's score, and whether it does depends on the function.
# Seen: scikit-learn 1.9.1, numpy 2.4.6, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

truth = ["joy", "joy", "anger", "anger"]
said = ["joy", "disgust", "anger", "anger"]
nan = float("nan")
seen = {
    "balanced accuracy": balanced_accuracy_score(truth, said),
    "macro recall": recall_score(truth, said, average="macro"),
    "macro recall, zero_division=nan": recall_score(truth, said, average="macro", zero_division=nan),
    "macro F1": f1_score(truth, said, average="macro"),
    "macro F1, zero_division=nan": f1_score(truth, said, average="macro", zero_division=nan),
    "macro F1 of the classes that occur": f1_score(truth, said, average="macro", labels=["anger", "joy"]),
}
for name, score in seen.items():
    print(f"{name}: {score:.3f}")
sys.exit([round(score, 3) for score in seen.values()] != [0.75, 0.5, 0.75, 0.556, 0.556, 0.833])
PYTHON
