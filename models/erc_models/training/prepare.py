"""Prepare the frozen feature sets for training networks, from corpora and acoustic features.

``python -m erc_models.training.prepare --text-encoder CHECKPOINT --corpora DIR --out DIR`` writes for MELD,
with the text features of the checkpoint's encoder and the corpus's own prosody as acoustic features,

- ``meld_train``, ``meld_dev``: the words as they are;
- ``meld_train_heard``: with simulated recognition errors, at word error rates of up to 50%;
- ``meld_dev_wer35``: with simulated recognition errors, at 35%.

``--corpus emorynlp`` or ``dailydialog`` writes ``<corpus>_train`` and ``<corpus>_dev``, words only, and for
DailyDialog also ``dailydialog_dev_new``, without the dialogues that train repeats.

With ``--acoustics DIR`` (of `scripts/extract_features`) the acoustic features are the speaker encoder's voice
states and the same prosody, a group each, and it also writes

- ``acted_train``, ``acted_dev``: dialogues of acted clips with their own (uninformative) words;
- ``composed_train``, ``composed_dev``: MELD's words in acted or read voices, see `compose`, and
  ``composed_train_heard``.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erc_models.data.asr_noise import Vocabulary, corrupt
from erc_models.data.datasets import DESCRIPTORS, MELD_LABELS, Dialogue, Utterance
from erc_models.data.feature_store import FeatureSet
from erc_models.data.overlap import without_repeats
from erc_models.data.text_features import default_cache, text_features
from erc_models.evaluation.evaluation_sets import misheard, windows_of
from erc_models.networks.text_encoder import TextEncoder
from erc_models.training.train import load_text_encoder
from erc_models.training.train_voice import GROUPS
from erc_models.training.training_sets import corpus_dialogues, corpus_labels, feature_set

NEUTRAL = MELD_LABELS.index("neutral")
COPIES = ("plain", "random1", "random2")
"""The copies of the training clips to use: unaltered, and two random alterations."""


@dataclass(frozen=True, eq=False)
class Clips:
    """Single labelled clips: acoustic features (N, D) in groups, label, speaker and text (N,)."""

    audio: np.ndarray
    label: np.ndarray
    speaker: np.ndarray
    text: np.ndarray
    spec: dict
    groups: tuple[int, ...]

    @classmethod
    def load(cls, path: Path, split: str | None, copies: tuple[str, ...]) -> "Clips":
        """Read some copies of a split (or of all splits) from a file of `scripts/extract_features`."""
        with np.load(path) as file:
            keep = np.isin(file["augmentation"], copies)
            if split is not None:
                keep &= file["split"] == split
            columns = {name: file[name][keep] for name in ("label", "speaker", "text")}
            spec = json.loads(str(file["feature_specs"]))["whole"]
            parts = [file[name][keep] for name in GROUPS]
        audio = np.concatenate(parts, 1)
        groups = tuple(part.shape[1] for part in parts)
        return cls(audio.astype(np.float32), **columns, spec=spec, groups=groups)

    @staticmethod
    def join(parts: Sequence["Clips"]) -> "Clips":
        """Join the clips of several files."""
        names = ("audio", "label", "speaker", "text")
        return Clips(
            *(np.concatenate([getattr(p, n) for p in parts]) for n in names), parts[0].spec, parts[0].groups
        )


def words(encoder: TextEncoder, dialogues: Sequence[Dialogue]) -> Tensor:
    """Compute the text features (N, D) of all utterances, in order; zeros without words."""
    windows = [w for d in dialogues for w in windows_of(d, encoder.config.past_turns)]
    found = text_features(encoder, windows, default_cache())
    said = torch.tensor([bool(u.text) for d in dialogues for u in d.utterances])
    text = torch.zeros(len(said), encoder.dim, dtype=torch.half)
    text[said] = found.half()
    return text


def prosody(dialogues: Sequence[Dialogue], width: int) -> np.ndarray:
    """Return acoustic features (N, width) of which only the last group, the corpus's prosody, is known."""
    flat = [u for d in dialogues for u in d.utterances]
    audio = np.full((len(flat), width), np.nan, dtype=np.float32)
    for row, u in zip(audio, flat, strict=True):
        if u.prosody is not None:
            row[width - len(DESCRIPTORS) :] = u.prosody
    return audio


def heard(dialogues: Sequence[Dialogue], rng: random.Random, most: float = 0.5) -> list[Dialogue]:
    """Simulate recognition errors, at a word error rate between 0 and `most` for each dialogue."""
    vocabulary = Vocabulary.of(u.text for d in dialogues for u in d.utterances)
    made = []
    for dialogue in dialogues:
        wer = rng.uniform(0, most)
        utterances = (replace(u, text=corrupt(u.text, wer, rng, vocabulary)) for u in dialogue.utterances)
        made.append(replace(dialogue, utterances=tuple(utterances)))
    return made


def acted(clips: Clips, rng: random.Random, turns: int = 10) -> tuple[list[Dialogue], np.ndarray]:
    """Put every clip once into dialogues whose context is uninformative.

    Half of the dialogues have one speaker, so that a voice recurs as in a conversation; in the others two
    speakers take turns.
    """
    by_speaker: dict[str, list[int]] = {}
    for i, who in enumerate(clips.speaker):
        by_speaker.setdefault(str(who), []).append(i)
    voices = list(by_speaker)
    rng.shuffle(voices)
    for part in by_speaker.values():
        rng.shuffle(part)
    dialogues, rows = [], []
    while voices:
        some = voices[: 1 + (len(dialogues) % 2)]
        part = []
        for _ in range(turns):
            left = [who for who in some if by_speaker[who]]
            if left:
                part.append(by_speaker[rng.choice(left)].pop())
        voices = [who for who in voices[len(some) :] + some if by_speaker[who]]
        utterances = tuple(
            Utterance(
                str(clips.speaker[i]), f"{str(clips.text[i]).capitalize()}.", MELD_LABELS[clips.label[i]]
            )
            for i in part
        )
        dialogues.append(Dialogue("acted", f"acted_{len(dialogues)}", utterances))
        rows += part
    return dialogues, clips.audio[rows]


def compose(
    dialogues: Sequence[Dialogue], clips: Clips, rng: random.Random, doubt: float
) -> tuple[list[Dialogue], np.ndarray, Tensor]:
    """Add voices to MELD's words, so that the network learns to weigh words against voice.

    Each speaker of a dialogue has one actor's voice. Emotional words get a clip of the same emotion or a
    neutral one, and their label. Neutral words get any clip and its label, except for a share `doubt` of the
    target that stays neutral, so that a misjudged voice does not overrule plain words.

    Returns:
        The dialogues with the composed labels, audio (N, D), and targets (N, C).
    """
    by_voice: dict[str, dict[int, list[int]]] = {}
    for i, (who, label) in enumerate(zip(clips.speaker, clips.label, strict=True)):
        by_voice.setdefault(str(who), {}).setdefault(int(label), []).append(i)
    voices = [who for who, found in by_voice.items() if NEUTRAL in found]
    everything = len(MELD_LABELS)
    made, rows, targets = [], [], []
    for dialogue in dialogues:
        speakers = list(dict.fromkeys(u.speaker for u in dialogue.utterances))
        voice_of = {who: by_voice[rng.choice(voices)] for who in speakers}
        utterances = []
        for u in dialogue.utterances:
            mine = voice_of[u.speaker]
            said = MELD_LABELS.index(u.emotion or "neutral")
            if said != NEUTRAL:
                voice = said if rng.random() < 0.5 else NEUTRAL
            else:
                voice = NEUTRAL if rng.random() < 0.4 else rng.randrange(everything)
            if voice not in mine:  # read speech is only neutral
                voice = NEUTRAL
            target = torch.zeros(everything)
            if said == NEUTRAL and voice != NEUTRAL:
                target[voice], target[NEUTRAL] = 1 - doubt, doubt
            else:
                target[said] = 1.0
            rows.append(rng.choice(mine[voice]))
            targets.append(target)
            utterances.append(replace(u, emotion=MELD_LABELS[int(target.argmax())]))
        made.append(Dialogue("composed", dialogue.name, tuple(utterances)))
    return made, clips.audio[rows], torch.stack(targets)


class Writer:
    """A writer of the feature sets of one text encoder to a folder.

    Args:
        encoder: on its device, in eval mode.
        out: the folder.
        text: the text's specification.
    """

    def __init__(self, encoder: TextEncoder, out: Path, text: dict) -> None:
        self.encoder, self.out, self.text = encoder, out, text

    def write(self, name: str, made: FeatureSet) -> None:
        """Write a set and print its size."""
        made.save(self.out / f"{name}.safetensors")
        print(f"{name}: {len(made)} dialogues, {len(made.text)} turns", flush=True)

    def corpus(self, name: str, folder: Path) -> None:
        """Write the sets of a corpus, words only."""
        splits = {split: corpus_dialogues(f"{name}_{split}", folder) for split in ("train", "dev")}
        if name == "dailydialog":
            splits["dev_new"] = without_repeats(splits["dev"], splits["train"])
        for split, dialogues in splits.items():
            audio = prosody(dialogues, len(DESCRIPTORS))
            labels = corpus_labels(dialogues)
            text = words(self.encoder, dialogues)
            self.write(f"{name}_{split}", feature_set(dialogues, labels, text, audio, {"text": self.text}))

    def meld(self, folder: Path, clips: Clips | None) -> dict[str, tuple[list[Dialogue], Tensor]]:
        """Write MELD with and without recognition errors, its acoustic features in the groups of `clips`.

        Returns:
            Each version's dialogues and text features.
        """
        groups = (len(DESCRIPTORS),) if clips is None else clips.groups
        spec = {"text": self.text} | ({} if clips is None else {"acoustic": clips.spec})
        train, dev = (corpus_dialogues(f"meld_{split}", folder) for split in ("train", "dev"))
        versions = {
            "train": train,
            "dev": dev,
            "train_heard": heard(train, random.Random(0)),
            "dev_wer35": misheard(dev, 0.35, 0),
        }
        found = {}
        for name, dialogues in versions.items():
            text = words(self.encoder, dialogues)
            audio = prosody(dialogues, sum(groups))
            self.write(f"meld_{name}", feature_set(dialogues, MELD_LABELS, text, audio, spec, groups=groups))
            found[name] = dialogues, text
        return found

    def voices(
        self,
        meld: dict[str, tuple[list[Dialogue], Tensor]],
        clips: dict[str, Clips],
        doubt: float,
        rng: random.Random,
    ) -> None:
        """Write acted clips, and MELD's words in their voices."""
        for split in ("dev", "train"):
            spec = {"text": self.text, "acoustic": clips[split].spec}
            groups = clips[split].groups
            made, audio = acted(clips[split], rng)
            text = words(self.encoder, made)
            self.write(f"acted_{split}", feature_set(made, MELD_LABELS, text, audio, spec, None, groups))
            dialogues, text = meld[split]
            made, audio, soft = compose(dialogues, clips[f"all_{split}"], rng, doubt)
            self.write(f"composed_{split}", feature_set(made, MELD_LABELS, text, audio, spec, soft, groups))
            if split == "train":
                said, text = meld["train_heard"]
                made = [
                    replace(d, utterances=tuple(map(_same_words, d.utterances, h.utterances)))
                    for d, h in zip(made, said, strict=True)
                ]
                self.write(
                    "composed_train_heard", feature_set(made, MELD_LABELS, text, audio, spec, soft, groups)
                )


def _same_words(composed: Utterance, heard: Utterance) -> Utterance:
    return replace(composed, text=heard.text)


def main() -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text-encoder", type=Path, required=True, help="checkpoint whose encoder to use")
    parser.add_argument("--corpora", type=Path, required=True, help="folder with meld/train.jsonl.gz ...")
    parser.add_argument("--corpus", choices=("meld", "emorynlp", "dailydialog"), default="meld")
    parser.add_argument("--past-turns", type=int, help="fewer than the encoder's own; 0: a turn by itself")
    parser.add_argument("--acoustics", type=Path, help="folder with ravdess.npz, tess.npz, read.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--doubt", type=float, default=0.3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    encoder = load_text_encoder(args.text_encoder).float().to(args.device).eval()
    if args.past_turns is not None:
        encoder.config = replace(encoder.config, past_turns=args.past_turns)
    writer = Writer(encoder, args.out, {"past_turns": encoder.config.past_turns})
    if args.corpus != "meld":
        writer.corpus(args.corpus, args.corpora)
        return
    if args.acoustics is None:
        writer.meld(args.corpora, None)
        return

    def load(name: str, split: str | None, copies: tuple[str, ...]) -> Clips:
        return Clips.load(args.acoustics / f"{name}.npz", split, copies)

    train = Clips.join([load("ravdess", "train", COPIES), load("tess", "train", COPIES)])
    dev = load("ravdess", "dev", ("plain",))
    read = load("read", None, ("plain", "random1"))
    clips = {"train": train, "dev": dev, "all_train": Clips.join([train, read]), "all_dev": dev}
    writer.voices(writer.meld(args.corpora, train), clips, args.doubt, random.Random(0))


if __name__ == "__main__":
    main()
