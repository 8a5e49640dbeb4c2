#!/bin/sh
# Guess: ExpandCommonEnglishContractions turns contractions into full words, at the beginning of a sentence too, and
#   leaves the possessive alone, or at least makes words of whatever it touches.
# Truth: its whole-word rules know lower case only. "can't" becomes "can not", but "Can't" becomes "Ca not" and
#   "Won't" "Wo not", since the rule for "n't" comes after. "shan't" is "sha not" in any case, "ain't" "ai not", and
#   "John's" becomes "John is".
# Hurts: word error rates of texts that are brought to lower case only in a later step: "ca not" meets "can not" of
#   the other side.
# Seen: jiwer 4.0.0, on 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jiwer==4.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import jiwer

expand = jiwer.ExpandCommonEnglishContractions()
expected = {
    "can't": "can not", "Can't": "Ca not", "won't": "will not", "Won't": "Wo not", "shan't": "sha not", "ain't": "ai not",
    "John's car": "John is car",
}  # fmt: skip
for text in expected:
    print(f"{text!r} becomes {expand(text)!r}")
then_lower = jiwer.Compose([expand, jiwer.ToLowerCase(), jiwer.ReduceToListOfListOfWords()])
rate = jiwer.wer("Can't go", "can't go", reference_transform=then_lower, hypothesis_transform=then_lower)
print(f"Word error rate of the same words, written with a capital and without: {rate:.2f}")
sys.exit(not (all(expand(text) == result for text, result in expected.items()) and rate > 0.3))
PYTHON
