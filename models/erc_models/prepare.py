"""Corpora and acoustic features -> the feature sets that SI-LSTM is trained from.

``python -m erc_models.prepare --encoder DIR --corpora DIR --acoustics DIR --out DIR`` writes

- ``meld_train``, ``meld_dev``: text features of the fine-tuned encoder, no audio;
- ``meld_train_plain``, ``meld_dev_plain``: the same without punctuation, as a recognizer may write;
- ``acted_train``, ``acted_dev``: dialogues of acted clips with their own (uninformative) words;
- ``composed_train``, ``composed_dev``: MELD's words in acted or read voices, see `compose`, and ``_plain``.

Acoustic features are openSMILE functionals of the clips.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erc_models.datasets import MELD_LABELS, Dialogue, Utterance, read_jsonl
from erc_models.feature_store import NO_LABEL, FeatureSet
from erc_models.text_encoder import TextEncoder, TextEncoderConfig, windows
from erc_models.train_text import transcribe_plainly

NEUTRAL = MELD_LABELS.index("neutral")


@dataclass(frozen=True, eq=False)
class Clips:
    """Single labelled clips: functionals (N, D), label (N,), speaker and text (N,)."""

    functionals: np.ndarray
    label: np.ndarray
    speaker: np.ndarray
    text: np.ndarray
    spec: dict

    @classmethod
    def load(cls, path: Path, functionals: str, split: str | None, copies: tuple[str, ...]) -> "Clips":
        """Read one file of `scripts/extract_features`: some split and some copies of it."""
        with np.load(path) as file:
            keep = np.isin(file["augmentation"], copies)
            if split is not None:
                keep &= file["split"] == split
            columns = {name: file[name][keep] for name in ("label", "speaker", "text")}
            spec = json.loads(str(file["feature_specs"]))
            return cls(file[f"functionals_{functionals}"][keep], **columns, spec=spec)

    @staticmethod
    def join(parts: Sequence["Clips"]) -> "Clips":
        """Several files' clips as one."""
        names = ("functionals", "label", "speaker", "text")
        return Clips(*(np.concatenate([getattr(p, n) for p in parts]) for n in names), spec=parts[0].spec)


@torch.no_grad()
def text_features(encoder: TextEncoder, dialogues: Sequence[Dialogue], device: str, plain: bool) -> Tensor:
    """Text features (N, D) of all utterances, in order."""
    found = []
    for dialogue in dialogues:
        texts = [transcribe_plainly(u.text) if plain else u.text for u in dialogue.utterances]
        batch = windows(dialogue.speaker_ids(), texts, encoder.config.past_turns)
        tokens = {k: v.to(device) for k, v in encoder.tokenize(batch).items()}
        found.append(encoder(**tokens).float().cpu())
    return torch.cat(found)


def feature_set(
    dialogues: Sequence[Dialogue], text: Tensor, audio: np.ndarray, name: str, soft: Tensor | None, spec: dict
) -> FeatureSet:
    """A feature set of dialogues whose features (N, ...) stand in the same order.

    Args:
        dialogues: speakers and labels.
        text: (N, D_text).
        audio: (N, D), NaN where there is none.
        name: of the corpus.
        soft: (N, C) target probabilities; None: the labels, one-hot.
        spec: of the features.
    """
    lengths = [len(d.utterances) for d in dialogues]
    flat = [u for d in dialogues for u in d.utterances]
    label = torch.tensor([MELD_LABELS.index(u.emotion) if u.emotion else NO_LABEL for u in flat])
    return FeatureSet(
        text=text.half(),
        audio=torch.from_numpy(audio).float(),
        text_mask=torch.tensor([bool(u.text) for u in flat]),
        audio_mask=torch.from_numpy(np.isfinite(audio)).any(1, keepdim=True),
        speaker=torch.tensor([i for d in dialogues for i in d.speaker_ids()]),
        label=label,
        offsets=torch.tensor([0, *np.cumsum(lengths)]),
        corpus=torch.zeros(len(dialogues), dtype=torch.long),
        labels=MELD_LABELS,
        corpora=(name,),
        names=tuple(d.name for d in dialogues),
        audio_groups=(audio.shape[1],),
        spec=spec,
        soft=one_hot(label) if soft is None else soft,
    )


def one_hot(label: Tensor) -> Tensor:
    """Certain targets (N, C); zeros where there is no label."""
    known = label != NO_LABEL
    return torch.nn.functional.one_hot(label.clamp(min=0), len(MELD_LABELS)) * known.unsqueeze(1).float()


def acted(clips: Clips, rng: random.Random, turns: int = 10) -> tuple[list[Dialogue], np.ndarray]:
    """Every clip once, in dialogues of two speakers, in which context says nothing."""
    order = list(range(len(clips.label)))
    rng.shuffle(order)
    dialogues, rows = [], []
    for first in range(0, len(order), turns):
        part = order[first : first + turns]
        utterances = [
            Utterance(
                f"S{rng.randrange(2)}", str(clips.text[i]).capitalize() + ".", MELD_LABELS[clips.label[i]]
            )
            for i in part
        ]
        dialogues.append(Dialogue("acted", f"acted_{first}", tuple(utterances)))
        rows += part
    return dialogues, clips.functionals[rows]


def compose(
    dialogues: Sequence[Dialogue], clips: Clips, rng: random.Random, doubt: float
) -> tuple[list[Dialogue], np.ndarray, Tensor]:
    """Give MELD's words a voice, so that the network learns to weigh words against voice.

    Emotional words get a clip of the same emotion, or a neutral one (the words decide). Neutral words get
    any clip: the voice decides, but for a share `doubt` of the target that stays neutral, for a voice
    misheard must not overrule plain words.

    Returns:
        The dialogues with the composed labels, audio (N, D), and targets (N, C).
    """
    by_label = [np.flatnonzero(clips.label == c) for c in range(len(MELD_LABELS))]
    made, rows, targets = [], [], []
    for dialogue in dialogues:
        utterances = []
        for u in dialogue.utterances:
            said = MELD_LABELS.index(u.emotion or "neutral")
            if said != NEUTRAL:
                voice = said if rng.random() < 0.5 else NEUTRAL
            else:
                voice = NEUTRAL if rng.random() < 0.4 else rng.randrange(len(MELD_LABELS))
            target = torch.zeros(len(MELD_LABELS))
            if said == NEUTRAL and voice != NEUTRAL:
                target[voice], target[NEUTRAL] = 1 - doubt, doubt
            else:
                target[said] = 1.0
            rows.append(int(rng.choice(by_label[voice])))
            targets.append(target)
            utterances.append(Utterance(u.speaker, u.text, MELD_LABELS[int(target.argmax())]))
        made.append(Dialogue("composed", dialogue.name, tuple(utterances)))
    audio = clips.functionals[rows]
    return made, audio, torch.stack(targets)


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the fine-tuned text encoder")
    parser.add_argument("--corpora", type=Path, required=True, help="folder with meld/train.jsonl.gz ...")
    parser.add_argument("--acoustics", type=Path, required=True, help="folder with ravdess.npz, tess.npz ...")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--functionals", choices=("compare", "egemaps"), default="compare")
    parser.add_argument("--past-turns", type=int, default=4)
    parser.add_argument("--doubt", type=float, default=0.3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    encoder = TextEncoder.from_pretrained(args.encoder, TextEncoderConfig(past_turns=args.past_turns))
    encoder = encoder.float().to(args.device).eval()
    copies = ("plain", "random1", "random2")

    def load(name: str, split: str | None, copies: tuple[str, ...]) -> Clips:
        return Clips.load(args.acoustics / f"{name}.npz", args.functionals, split, copies)

    train_clips = Clips.join([load("ravdess", "train", copies), load("tess", "train", copies)])
    voices = Clips.join([train_clips, load("read", None, ("plain", "random1"))])
    dev_clips = load("ravdess", "dev", ("plain",))
    width = train_clips.functionals.shape[1]
    acoustic = train_clips.spec["ComParE_2016" if args.functionals == "compare" else "eGeMAPSv02"]
    spec = {"acoustic": acoustic, "text": {"encoder": args.encoder.name, "past_turns": args.past_turns}}
    rng = random.Random(0)

    def write(name: str, made: FeatureSet) -> None:
        made.save(args.out / f"{name}.safetensors")
        print(f"{name}: {len(made)} dialogues, {len(made.text)} turns", flush=True)

    def read(dialogues: Sequence[Dialogue], plain: bool = False) -> Tensor:
        return text_features(encoder, dialogues, args.device, plain)

    for split, clips in (("dev", dev_clips), ("train", train_clips)):
        meld = read_jsonl(args.corpora / "meld" / f"{split}.jsonl.gz")
        words, plain = read(meld), read(meld, plain=True)
        audio = np.full((len(words), width), np.nan, dtype=np.float32)
        write(f"meld_{split}", feature_set(meld, words, audio, "meld", None, spec))
        write(f"meld_{split}_plain", feature_set(meld, plain, audio, "meld", None, spec))
        made, audio = acted(clips, rng)
        write(f"acted_{split}", feature_set(made, read(made), audio, "acted", None, spec))
        made, audio, soft = compose(meld, voices if split == "train" else clips, rng, args.doubt)
        write(f"composed_{split}", feature_set(made, words, audio, "composed", soft, spec))
        write(f"composed_{split}_plain", feature_set(made, plain, audio, "composed", soft, spec))


if __name__ == "__main__":
    main()
