"""Evaluation sets: corpora and clips as feature sets, unchanged or with simulated errors."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from erc_models.data import datasets
from erc_models.data.datasets import DAILYDIALOG_TO_MELD, MELD_LABELS, Dialogue, Utterance, relabel
from erc_models.data.feature_store import NO_LABEL, FeatureSet
from erc_models.data.text_features import text_features
from erc_models.formats.text_windows import TextWindow
from erc_models.networks.checkpoint import Checkpoint

TOGETHER = 10
"""Clips of one speaker in a dialogue."""


def with_labels(dialogues: Sequence[Dialogue], labels: Sequence[str]) -> list[Dialogue]:
    """Rename the emotions of dialogues to the checkpoint's labels.

    Raises:
        ValueError: the checkpoint has no label for an emotion.
    """
    found = list(dict.fromkeys(u.emotion for d in dialogues for u in d.utterances if u.emotion is not None))
    if set(found) <= set(labels):
        return list(dialogues)
    if all(DAILYDIALOG_TO_MELD.get(emotion) in labels for emotion in found):
        return relabel(dialogues, DAILYDIALOG_TO_MELD)
    unknown = ", ".join(emotion for emotion in found if emotion not in labels)
    raise ValueError(f"labels: expected emotions of the checkpoint ({', '.join(labels)}), got {unknown}")


def windows_of(dialogue: Dialogue, past_turns: int) -> list[TextWindow]:
    """Return a window for each turn with words, as at run time: turns without words are skipped."""
    past: list[tuple[int, str]] = []
    found = []
    for who, utterance in zip(dialogue.speaker_ids(), dialogue.utterances, strict=True):
        if utterance.text:
            found.append(TextWindow(tuple(past[-past_turns:]) if past_turns else (), who, utterance.text))
            past.append((who, utterance.text))
    return found


def voices_of(checkpoint: Checkpoint, dialogues: Sequence[Dialogue]) -> np.ndarray:
    """Return the acoustic features (N, D) of a corpus: prosody, if the checkpoint reads it, else NaN."""
    width = sum(checkpoint.network.config.audio_groups)
    flat = [u for d in dialogues for u in d.utterances]
    audio = np.full((len(flat), width), np.nan, dtype=np.float32)
    names = checkpoint.features.get("acoustic", {}).get("prosody", ())
    if names:
        columns = [datasets.DESCRIPTORS.index(name) for name in names]
        for row, utterance in zip(audio, flat, strict=True):
            if utterance.prosody is not None:  # prosody is the last group
                row[width - len(columns) :] = np.array(utterance.prosody)[columns]
    return audio


def featurise(
    checkpoint: Checkpoint,
    dialogues: Sequence[Dialogue],
    audio: np.ndarray,
    *,
    text: bool = True,
    cache: Path | None = None,
) -> FeatureSet:
    """Compute the features of dialogues for a checkpoint.

    Args:
        checkpoint: its text encoder and labels are used.
        dialogues: with the checkpoint's labels.
        audio: (N, D) of all turns in order, NaN for missing values.
        text: whether to read words at all.
        cache: see `text_features`.

    Raises:
        ValueError: there are words to read, and the checkpoint has no text encoder.
    """
    config, encoder = checkpoint.network.config, checkpoint.text_encoder
    flat = [u for d in dialogues for u in d.utterances]
    said = torch.tensor([text and bool(u.text) for u in flat])
    words = torch.zeros(len(flat), config.text_dim)
    if bool(said.any()):
        if encoder is None:
            raise ValueError(f"{checkpoint.name}: expected a checkpoint with a text encoder, got one without")
        windows = [w for d in dialogues for w in windows_of(d, encoder.config.past_turns)]
        words[said] = text_features(encoder, windows, cache)
    groups = np.split(np.isfinite(audio), np.cumsum(config.audio_groups)[:-1], axis=1)
    known = [NO_LABEL if u.emotion is None else checkpoint.labels.index(u.emotion) for u in flat]
    corpora = tuple(dict.fromkeys(d.corpus for d in dialogues))
    return FeatureSet(
        text=words,
        audio=torch.from_numpy(audio).float(),
        text_mask=said,
        audio_mask=torch.from_numpy(np.stack([group.any(1) for group in groups], 1)),
        speaker=torch.tensor([who for d in dialogues for who in d.speaker_ids()]),
        label=torch.tensor(known),
        offsets=torch.tensor([0, *np.cumsum([len(d.utterances) for d in dialogues])]),
        corpus=torch.tensor([corpora.index(d.corpus) for d in dialogues]),
        labels=checkpoint.labels,
        corpora=corpora,
        names=tuple(d.name for d in dialogues),
        audio_groups=tuple(config.audio_groups),
        spec=checkpoint.features,
    )


def voices_from(path: Path, dialogues: Sequence[Dialogue], groups: tuple[int, ...]) -> np.ndarray:
    """Look up the acoustic features (N, D) of dialogues in a feature set, by name."""
    stored = FeatureSet.load(path)
    if stored.audio_groups != groups:
        raise ValueError(f"{path}: expected groups of {groups} acoustic features, got {stored.audio_groups}")
    columns = torch.arange(len(groups)).repeat_interleave(torch.tensor(groups))
    audio = stored.audio.float().where(stored.audio_mask[:, columns], torch.nan).numpy()
    place = {name: k for k, name in enumerate(stored.names)}
    rows = []
    for dialogue in dialogues:
        k = place.get(dialogue.name)
        turns = None if k is None else stored.lengths()[k]
        if k is None or turns != len(dialogue.utterances):
            wanted = f"{len(dialogue.utterances)} turns of dialogue {dialogue.name}"
            raise ValueError(f"{path}: expected {wanted}, got {turns or 'none'}")
        rows.append(audio[int(stored.offsets[k]) : int(stored.offsets[k + 1])])
    return np.concatenate(rows)


def clips(path: Path, checkpoint: Checkpoint) -> tuple[list[Dialogue], np.ndarray]:
    """Load clips of split dev as dialogues of one turn, and their acoustic features (N, D).

    Raises:
        ValueError: the file has no features of clips, or not those that the checkpoint reads.
    """
    spec = checkpoint.features.get("acoustic") or {}
    column = {"ComParE_2016": "functionals_compare", "eGeMAPSv02": "functionals_egemaps"}.get(spec.get("set"))
    parts = [*([column] if column else []), *(["voice_states"] if spec.get("voice_states") else [])]
    with np.load(path) as file:
        wanted = {"label", "speaker", "text", "augmentation", "split", "prosody", *parts}
        if not wanted <= set(file.files):
            raise ValueError(
                f"{path}: expected acoustic features of clips with {' and '.join(parts)}, "
                f"got {', '.join(file.files)}"
            )
        keep = (file["split"] == "dev") & (file["augmentation"] == "plain")
        order = [datasets.DESCRIPTORS.index(name) for name in spec.get("prosody", ())]
        audio = np.concatenate([*(file[part][keep] for part in parts), file["prosody"][keep][:, order]], 1)
        rows = list(zip(file["speaker"][keep], file["text"][keep], file["label"][keep], strict=True))
    width = sum(checkpoint.network.config.audio_groups)
    if audio.shape[1] != width:
        raise ValueError(f"{path}: expected {width} acoustic features, got {audio.shape[1]}")
    dialogues = [
        Dialogue("clips", f"clip_{i}", (Utterance(str(who), f"{text}.", MELD_LABELS[label]),))
        for i, (who, text, label) in enumerate(rows)
    ]
    return dialogues, audio.astype(np.float32)


def together(
    dialogues: Sequence[Dialogue], audio: np.ndarray, seed: int
) -> tuple[list[Dialogue], np.ndarray]:
    """Shuffle clips into dialogues of `TOGETHER` clips of one speaker, whose context is uninformative."""
    rng = random.Random(seed)
    by_speaker: dict[str, list[int]] = {}
    for i, dialogue in enumerate(dialogues):
        by_speaker.setdefault(dialogue.utterances[0].speaker, []).append(i)
    made, rows = [], []
    for who, part in by_speaker.items():
        rng.shuffle(part)
        for first in range(0, len(part), TOGETHER):
            some = part[first : first + TOGETHER]
            made.append(Dialogue("clips", f"{who}_{first}", tuple(dialogues[i].utterances[0] for i in some)))
            rows += some
    return made, audio[rows]


def misheard(dialogues: Sequence[Dialogue], wer: float, seed: int) -> list[Dialogue]:
    """Simulate a recognizer's errors in dialogues, at a word error rate of 0 to 1."""
    from erc_models.data.asr_noise import Vocabulary, corrupt

    rng = random.Random(seed)
    vocabulary = Vocabulary.of(u.text for d in dialogues for u in d.utterances)
    return [
        replace(
            d,
            utterances=tuple(replace(u, text=corrupt(u.text, wer, rng, vocabulary)) for u in d.utterances),
        )
        for d in dialogues
    ]


def swapped(dialogues: Sequence[Dialogue], share: float, seed: int) -> list[Dialogue]:
    """Assign a share of the turns to another speaker of the dialogue, if there is one."""
    rng = random.Random(seed)
    made = []
    for dialogue in dialogues:
        speakers = list(dict.fromkeys(u.speaker for u in dialogue.utterances))
        utterances = []
        for u in dialogue.utterances:
            others = [who for who in speakers if who != u.speaker]
            moved = rng.random() < share and bool(others)
            utterances.append(replace(u, speaker=rng.choice(others)) if moved else u)
        made.append(replace(dialogue, utterances=tuple(utterances)))
    return made


def merged(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """Assign all turns of a dialogue to its first speaker, as without diarization."""
    return [
        replace(d, utterances=tuple(replace(u, speaker=d.utterances[0].speaker) for u in d.utterances))
        for d in dialogues
    ]
