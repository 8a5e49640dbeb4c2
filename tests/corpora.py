"""Random dialogues, and files of them as the corpora are stored."""

import json
import random
from pathlib import Path

from erc_models.data.datasets import MELD_LABELS, Dialogue, Utterance

SAID = ("oh no", "why are you sad?", "i love you", "yes", "hello he is not happy", "god what did we do!")


def talk(dialogues: int = 6, seed: int = 0, labels: tuple[str, ...] = MELD_LABELS) -> list[Dialogue]:
    """Random dialogues of two or three speakers; one turn has no label, one no words."""
    rng = random.Random(seed)
    made = []
    for k in range(dialogues):
        utterances = [
            Utterance(f"p{rng.randrange(3)}", rng.choice(SAID), rng.choice(labels))
            for _ in range(rng.randint(3, 8))
        ]
        if k == 0:
            utterances[1] = Utterance("p0", "", "joy" if "joy" in labels else labels[0])
            utterances[2] = Utterance("p1", "oh no", None)
        made.append(Dialogue("talk", f"talk_{k}", tuple(utterances)))
    return made


def write(path: Path, dialogues: list[Dialogue]) -> Path:
    lines = [
        {
            "corpus": d.corpus,
            "dialogue": d.name,
            "turns": [{"speaker": u.speaker, "text": u.text, "emotion": u.emotion} for u in d.utterances],
        }
        for d in dialogues
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path
