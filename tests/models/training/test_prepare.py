import random

import numpy as np
import torch
from erc_models.data.datasets import DESCRIPTORS, MELD_LABELS, Dialogue, Utterance
from erc_models.data.feature_store import NO_LABEL
from erc_models.training.prepare import NEUTRAL, Clips, acted, compose, heard, prosody
from erc_models.training.training_sets import feature_set

RNG = np.random.default_rng(0)


def clips(speakers: int = 3, each: int = 14) -> Clips:
    count = speakers * each
    return Clips(
        audio=np.arange(count, dtype=np.float32)[:, None] + RNG.random((count, 12)).astype(np.float32),
        label=np.tile(np.arange(7), count // 7),
        speaker=np.repeat([f"actor{i}" for i in range(speakers)], each),
        text=np.array(["dogs are sitting by the door"] * count),
        spec={"dim": 12},
        groups=(4, 8),
    )


def talk(turns: int = 12, dialogues: int = 20) -> list[Dialogue]:
    rng = random.Random(0)
    return [
        Dialogue(
            "meld",
            f"d{i}",
            tuple(
                Utterance(rng.choice("AB"), "Well, you know.", rng.choice(MELD_LABELS)) for _ in range(turns)
            ),
        )
        for i in range(dialogues)
    ]


def test_every_clip_is_acted_once_with_its_own_voice() -> None:
    source = clips()
    made, audio = acted(source, random.Random(0), turns=5)
    rows = audio[:, 0].astype(int)
    assert sorted(rows.tolist()) == list(range(42))
    flat = [u for d in made for u in d.utterances]
    assert [u.speaker for u in flat] == source.speaker[rows].tolist()
    assert [MELD_LABELS.index(u.emotion or "") for u in flat] == source.label[rows].tolist()
    voices = [len({u.speaker for u in d.utterances}) for d in made]
    assert {1, 2} == set(voices)


def test_a_speaker_keeps_a_voice_and_words_and_voice_agree_as_told() -> None:
    source = clips()
    said = talk()
    made, audio, soft = compose(said, source, random.Random(0), doubt=0.3)
    rows = audio[:, 0].astype(int)
    place = 0
    for before, after in zip(said, made, strict=True):
        voices: dict[str, set[str]] = {}
        for u, labelled in zip(before.utterances, after.utterances, strict=True):
            voices.setdefault(u.speaker, set()).add(str(source.speaker[rows[place]]))
            words, voice = MELD_LABELS.index(u.emotion or ""), int(source.label[rows[place]])
            target = soft[place]
            assert float(target.sum()) == 1.0
            if words != NEUTRAL:
                assert voice in (words, NEUTRAL)
                assert target[words] == 1
            elif voice != NEUTRAL:
                assert abs(float(target[voice]) - 0.7) < 1e-6
                assert abs(float(target[NEUTRAL]) - 0.3) < 1e-6
            assert labelled.emotion == MELD_LABELS[int(target.argmax())]
            place += 1
        assert all(len(found) == 1 for found in voices.values())


def test_prosody_stands_at_the_end() -> None:
    measured = tuple(float(i) for i in range(len(DESCRIPTORS)))
    one = Dialogue(
        "meld", "d", (Utterance("A", "Hi.", "joy", prosody=measured), Utterance("B", "Oh.", "joy"))
    )
    audio = prosody([one], 10)
    assert np.isnan(audio[:, :2]).all()
    assert audio[0, 2:].tolist() == list(measured)
    assert np.isnan(audio[1]).all()
    made = feature_set([one], ("joy",), torch.zeros(2, 4), audio, {}, groups=(2, 8))
    assert made.audio_groups == (2, 8)
    assert made.audio_mask.tolist() == [[False, True], [False, False]]


def test_a_label_that_is_not_known_is_none() -> None:
    one = Dialogue("meld", "d", (Utterance("A", "Hi.", "awe"), Utterance("B", "", "joy")))
    made = feature_set([one], ("joy",), torch.zeros(2, 4), prosody([one], 8), {})
    assert made.label.tolist() == [NO_LABEL, 0]
    assert made.text_mask.tolist() == [True, False]
    assert made.soft is not None
    assert made.soft.tolist() == [[0.0], [1.0]]


def test_what_is_heard_keeps_everything_but_the_words() -> None:
    said = talk()
    made = heard(said, random.Random(1))
    assert [(u.speaker, u.emotion) for d in made for u in d.utterances] == [
        (u.speaker, u.emotion) for d in said for u in d.utterances
    ]
    assert made != said
