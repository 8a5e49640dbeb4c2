"""The acoustic encoder: a speaker's past turn by turn and over whole dialogues, and its training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from erc_models.networks.acoustic_encoder import AcousticEncoder, AcousticEncoderConfig
from erc_models.training.train_voice import (
    Recipe,
    Voices,
    cold_logits,
    fit_basis,
    macro_recall,
    pasts,
    pretrain,
    warm_logits,
)
from torch import Tensor, nn

GROUPS, HIDDEN, OUT = (5, 3), 6, 4
SMALL = Recipe(components=(5, 2), hidden=16, out_dim=8, epochs=15, batch=32, dropout=0.1, input_dropout=0.0)


@pytest.fixture
def encoder() -> AcousticEncoder:
    torch.manual_seed(0)
    made = AcousticEncoder(AcousticEncoderConfig(GROUPS, HIDDEN, OUT)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    made.set_normalisation(torch.randn(sum(GROUPS)), 0.5 + torch.rand(sum(GROUPS)))
    return made


def dialogues(batch: int = 4, turns: int = 12, speakers: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return (
        5 * torch.randn(batch, turns, sum(GROUPS), generator=g),
        torch.rand(batch, turns, len(GROUPS), generator=g) > 0.4,
        torch.randint(0, speakers, (batch, turns), generator=g),
    )


@torch.no_grad()
def play(encoder: AcousticEncoder, audio: Tensor, mask: Tensor, speaker: Tensor) -> Tensor:
    """Turn by turn, with a mean and a count kept for each speaker."""
    batch, turns = speaker.shape
    speakers, each = int(speaker.max()) + 1, torch.arange(batch)
    mean, count = (x.view(batch, speakers, *x.shape[1:]) for x in encoder.initial(batch * speakers))
    vectors = []
    for t in range(turns):
        row = (each, speaker[:, t])
        vectors.append(encoder(audio[:, t], mask[:, t], mean[row], count[row]))
        projected = encoder.project(audio[:, t], mask[:, t])
        mean, count = mean.clone(), count.clone()
        mean[row], count[row] = encoder.update(projected, mask[:, t].any(1), mean[row], count[row])
    return torch.stack(vectors, 1)


@torch.no_grad()
def test_turn_by_turn_equals_whole_dialogues(encoder: AcousticEncoder) -> None:
    x = dialogues()
    torch.testing.assert_close(play(encoder, *x), encoder.dialogue(*x), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_speakers_past_is_heard_and_nothing_of_the_future_is(encoder: AcousticEncoder) -> None:
    audio, mask, speaker = dialogues()
    mask, speaker = torch.ones_like(mask), torch.zeros_like(speaker)
    speaker[:, 5] = 1
    before = encoder.dialogue(audio, mask, speaker)
    audio[:, 6] += 3
    change = (encoder.dialogue(audio, mask, speaker) - before).abs().amax((0, 2))
    assert (change[:6] == 0).all()
    assert (change[6:] > 1e-3).all()
    audio[:, 5] += 3  # the other speaker's
    later = encoder.dialogue(audio, mask, speaker)
    audio[:, 5] += 3
    assert torch.equal(encoder.dialogue(audio, mask, speaker)[:, 6:], later[:, 6:])


@torch.no_grad()
def test_renaming_speakers_changes_nothing(encoder: AcousticEncoder) -> None:
    audio, mask, speaker = dialogues()
    renamed = torch.tensor([2, 0, 1])[speaker]
    assert torch.equal(encoder.dialogue(audio, mask, speaker), encoder.dialogue(audio, mask, renamed))


@torch.no_grad()
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
def test_what_is_masked_is_never_read(encoder: AcousticEncoder, rubbish: float) -> None:
    audio, mask, speaker = dialogues()
    expected = encoder.dialogue(audio, mask, speaker)
    assert expected.isfinite().all()
    hidden = ~mask.repeat_interleave(torch.tensor(GROUPS), 2)
    spoilt = audio.masked_fill(hidden, rubbish)
    assert torch.equal(encoder.dialogue(spoilt, mask, speaker), expected)
    assert torch.equal(play(encoder, spoilt, mask, speaker), play(encoder, audio, mask, speaker))
    assert (expected[~mask.any(2)] == 0).all()


@torch.no_grad()
def test_a_value_not_measured_is_the_average(encoder: AcousticEncoder) -> None:
    audio, mask, _ = (x[0] for x in dialogues(turns=2))
    mask = torch.ones_like(mask)
    average = encoder.centre + encoder.scale * encoder.average.sinh()
    audio[:, 2] = average[2]
    expected = encoder.project(audio, mask)
    audio[:, 2] = float("nan")
    torch.testing.assert_close(encoder.project(audio, mask), expected)
    torch.testing.assert_close(encoder.project(average[None], mask[:1]), torch.zeros(1, HIDDEN))


@torch.no_grad()
def test_a_silent_turn_leaves_the_mean(encoder: AcousticEncoder) -> None:
    mean, count = torch.randn(2, HIDDEN), torch.tensor([3.0, 0.0])
    after = encoder.update(torch.zeros(2, HIDDEN), torch.tensor([False, False]), mean, count)
    assert torch.equal(after[0], mean)
    assert torch.equal(after[1], count)


@torch.no_grad()
def test_a_constant_offset_of_the_voice_fades(encoder: AcousticEncoder) -> None:
    """The longer a speaker is known, the less a shift of all that is projected matters."""
    projected, count = torch.randn(1, HIDDEN), torch.tensor([1e6])
    present, shift = torch.tensor([True]), torch.full((1, HIDDEN), 2.0)
    mean = torch.randn(1, HIDDEN)
    told = encoder.read(projected, present, mean, count)
    torch.testing.assert_close(
        encoder.read(projected + shift, present, mean + shift, count), told, atol=1e-4, rtol=0
    )


def clips(rng: np.random.Generator, speakers: int = 6) -> Voices:
    """Classes that an offset of each speaker hides, and features of very different units."""
    direction = rng.normal(size=(7, sum(GROUPS)))
    audio, label, speaker = [], [], []
    for who in range(speakers):
        offset = 3 * rng.normal(size=sum(GROUPS))
        for k in range(42):
            audio.append(3 * direction[k % 7] + offset + 0.3 * rng.normal(size=sum(GROUPS)))
            label.append(k % 7)
            speaker.append(f"s{who}")
    units = 10.0 ** np.arange(-2, sum(GROUPS) - 2)
    names = np.array(speaker)
    split = np.where(names == f"s{speakers - 1}", "dev", "train")
    return Voices(
        (np.array(audio) * units).astype(np.float32),
        GROUPS,
        np.array(label),
        names,
        np.full(len(names), "plain"),
        split,
        {},
    )


def test_pretraining_learns_to_use_a_speakers_past() -> None:
    voices = clips(np.random.default_rng(0))
    train, dev = voices.rows(voices.split == "train"), voices.rows(voices.split == "dev")
    encoder, head = pretrain(train, SMALL, seed=0)
    cold = macro_recall(dev.label, cold_logits(encoder, head, dev))
    warm = macro_recall(dev.label, warm_logits(encoder, head, dev, order=0)[0])
    assert warm > max(60.0, cold + 10.0)


def test_pretraining_is_the_same_for_the_same_seed() -> None:
    voices = clips(np.random.default_rng(0), speakers=3)
    recipe = Recipe(components=(3, 3), hidden=8, out_dim=4, epochs=2, batch=32)
    first, second, other = (pretrain(voices, recipe, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["projection"], other["projection"])


@torch.no_grad()
def test_the_components_multiplied_out_are_the_projection() -> None:
    voices = clips(np.random.default_rng(0), speakers=3)
    basis = fit_basis(voices, SMALL)
    known = basis.blank.compress(torch.from_numpy(voices.audio)) - basis.blank.average
    torch.testing.assert_close(known @ basis.components.t(), basis.values, atol=1e-4, rtol=1e-4)
    assert basis.values.mean(0).abs().max() < 1e-4


def test_pasts_hold_only_the_same_speakers_earlier_clips() -> None:
    speaker = np.array(["a", "b", "a", "a", "b"])
    values = torch.eye(5)
    mean, count = pasts(values, speaker, 60, np.random.default_rng(0))
    assert sorted(count[speaker == "a"].tolist()) == [0, 1, 2]
    assert sorted(count[speaker == "b"].tolist()) == [0, 1]
    assert (mean[:, speaker == "b"][speaker == "a"] == 0).all()
    assert (mean.diagonal() == 0).all()
    torch.testing.assert_close(mean.sum(1), (count > 0).float())


def test_a_saved_encoder_comes_back(encoder: AcousticEncoder, tmp_path: Path) -> None:
    head = nn.Linear(OUT, 7)
    path = tmp_path / "voice.safetensors"
    encoder.save(path, head, {"labels": "a,b"})
    loaded, loaded_head = AcousticEncoder.load(path)
    assert loaded.config == encoder.config
    x = dialogues()
    with torch.no_grad():
        expected = head(encoder.dialogue(*x))
        torch.testing.assert_close(loaded_head(loaded.dialogue(*x)), expected, atol=0.02, rtol=0.02)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="expected an acoustic encoder with a head"):
        AcousticEncoder.load(path)
