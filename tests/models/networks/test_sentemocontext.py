"""SentEmoContext's embedding space, and labels given by examples; its contract is in test_networks.py."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from erc_models.data.feature_store import NO_LABEL
from erc_models.networks.prototypes import (
    UNKNOWN_SCALE,
    LabelSpace,
    fit,
    fit_scale,
    left_out_cosines,
    prototype_logits,
    prototypes,
)
from erc_models.networks.sentemocontext import Relabelled, SentEmoContext, SentEmoContextConfig, balanced
from erc_models.networks.streaming import TurnInput, state_to_bytes, step_each
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

CONFIG = SentEmoContextConfig(
    text_dim=6,
    audio_groups=(4, 3),
    classes=3,
    width=8,
    embedding=5,
    heads=2,
    feedforward=8,
    window=3,
    layers=2,
)


@pytest.fixture
def network() -> SentEmoContext:
    """A network whose every parameter is off its initial value."""
    torch.manual_seed(0)
    model = SentEmoContext(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def dialogues(batch: int, turns: int, seed: int = 1) -> tuple[TurnInput, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = TurnInput(
        torch.randn(batch, turns, 6, generator=g),
        torch.randn(batch, turns, 7, generator=g),
        torch.ones(batch, turns, dtype=torch.bool),
        torch.ones(batch, turns, 2, dtype=torch.bool),
    )
    return x, torch.randint(0, 3, (batch, turns), generator=g)


def clouds(each: int, seed: int = 0, spread: float = 0.4) -> tuple[Tensor, Tensor]:
    """Embeddings of three labels that share a large common part: (3 each, 8), and their labels."""
    g = torch.Generator().manual_seed(seed)
    corners = torch.eye(8)[:3].repeat_interleave(each, 0) + 3 * torch.eye(8)[7]
    label = torch.arange(3).repeat_interleave(each)
    return F.normalize(corners + spread * torch.randn(3 * each, 8, generator=g), dim=1), label


def space_of(network: SentEmoContext, names: tuple[str, ...] = ("up", "down")) -> LabelSpace:
    with torch.no_grad():
        rows = network.embed(*dialogues(4, 1, seed=5)).flatten(0, 1)
    return fit(rows, torch.arange(4) % len(names), names)


# --- the embedding space --------------------------------------------------------------------------


@torch.no_grad()
def test_embeddings_have_unit_length_and_equal_those_of_the_steps(network: SentEmoContext) -> None:
    x, speaker = dialogues(4, 9)
    whole = network.embed(x, speaker)
    assert whole.shape == (4, 9, 5)
    torch.testing.assert_close(whole.norm(dim=2), torch.ones(4, 9))
    state = network.initial_state(4)
    for t in range(9):
        row, state = network.embed_step(x.turn(t), speaker[:, t], state)
        torch.testing.assert_close(row, whole[:, t], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_turn_without_words_is_read_from_the_voice(network: SentEmoContext) -> None:
    x, speaker = dialogues(1, 1)
    heard = replace(x, text_mask=torch.zeros_like(x.text_mask))
    other = replace(heard, audio=x.audio + 1)
    assert (network(heard, speaker) - network(other, speaker)).abs().max() > 1e-3


@torch.no_grad()
def test_it_matters_who_spoke_before_but_no_more_than_whether_it_was_the_same(
    network: SentEmoContext,
) -> None:
    x, _ = dialogues(1, 3)
    aba, bba = (network(x, torch.tensor([who])) for who in ([0, 1, 0], [1, 1, 0]))
    assert (aba - bba)[:, -1].abs().max() > 1e-4
    torch.manual_seed(0)
    shallow = SentEmoContext(
        replace(CONFIG, layers=1)
    ).eval()  # in a second layer, turns carry their own past
    bba, cba = (shallow(x, torch.tensor([who])) for who in ([1, 1, 0], [2, 1, 0]))
    torch.testing.assert_close(bba[:, 2], cba[:, 2], atol=1e-6, rtol=0)
    assert (bba - cba)[:, 1].abs().max() > 1e-6


@torch.no_grad()
def test_a_turn_that_left_every_window_is_forgotten(network: SentEmoContext) -> None:
    x, speaker = dialogues(1, 8)
    reach = 1 + CONFIG.layers * (CONFIG.window - 1)
    changed = replace(x, text=torch.cat([x.text[:, :1] + 1, x.text[:, 1:]], 1))
    difference = (network(changed, speaker) - network(x, speaker)).abs().amax(2)[0]
    assert (difference[:reach] > 1e-6).all()
    assert difference[reach:].max() < 1e-6


@torch.no_grad()
def test_a_turn_of_which_nothing_is_known_is_seen_by_no_later_one(network: SentEmoContext) -> None:
    x, _ = dialogues(1, 3)
    x.text_mask[:, 1] = False
    x.audio_mask[:, 1] = False
    mine, yours = (network(x, torch.tensor([[0, who, 0]])) for who in (0, 1))
    torch.testing.assert_close(mine[:, 2], yours[:, 2], atol=1e-6, rtol=0)


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a width that 3 heads divide, got 8"):
        SentEmoContext(replace(CONFIG, heads=3))


# --- learning -------------------------------------------------------------------------------------


def test_the_triplet_loss_reaches_the_text_features(network: SentEmoContext) -> None:
    x, speaker = dialogues(3, 4)
    text = x.text.clone().requires_grad_()
    label = torch.arange(12).view(3, 4) % 3
    losses = network.learn(replace(x, text=text), speaker, label, lambda logits: logits.sum() * 0)
    assert losses["triplet"] > 0
    losses["triplet"].backward()
    assert (text.grad.abs().sum(2) > 0).all()


def test_turns_without_a_label_or_without_anything_make_no_triplets(network: SentEmoContext) -> None:
    x, speaker = dialogues(2, 4)
    label = torch.tensor([[0, 1, 0, 1], [NO_LABEL] * 4])
    x.text_mask[0, 2:] = False
    x.audio_mask[0, 2:] = False  # leaves one turn of each label: no pair
    losses = network.learn(x, speaker, label, lambda logits: logits.sum() * 0)
    assert losses["triplet"] == 0
    losses["triplet"].backward()


def test_a_draw_is_balanced() -> None:
    label = torch.tensor([0] * 50 + [1] * 3 + [4] * 9)
    torch.manual_seed(0)
    draws = [balanced(label, 5) for _ in range(2)]
    for rows in draws:
        assert torch.bincount(label[rows]).tolist() == [5, 3, 0, 0, 5]
        assert len(set(rows.tolist())) == 13
    assert set(draws[0].tolist()) != set(draws[1].tolist())
    assert balanced(label[:0], 5).tolist() == []


# --- labels by examples ---------------------------------------------------------------------------


def test_prototypes_are_means_of_unit_length() -> None:
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = prototypes(rows, torch.tensor([0, 0, 2]), 3)
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5, 0.5**0.5, 0], [0, 0, 0], [0, 0, 1]]))
    logits = prototype_logits(torch.tensor([[2.0, 0, 0], [0, 0, 7]]), found, 10.0)
    torch.testing.assert_close(logits, torch.tensor([[10 * 0.5**0.5, 0, 0], [0, 0, 10]]))


@pytest.mark.parametrize("each", [1, 5, 20])
def test_labels_of_examples_are_told_apart_in_spite_of_what_they_share(each: int) -> None:
    space = fit(*clouds(each), ["a", "b", "c"])
    new, label = clouds(200, seed=1)
    probabilities = space.logits(new).softmax(1)
    accuracy = (probabilities.argmax(1) == label).float().mean()
    assert accuracy > (0.5 if each == 1 else 0.75)
    if each == 20:
        assert abs(float(probabilities.amax(1).mean()) - float(accuracy)) < 0.1


def test_the_order_and_the_number_of_examples_favour_no_label() -> None:
    rows, label = clouds(20)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    one, other = (fit(rows[o], label[o], ["a", "b", "c"]) for o in (torch.arange(60), order))
    new, _ = clouds(10, seed=1)
    torch.testing.assert_close(one.logits(new), other.logits(new), atol=1e-4, rtol=0)
    twice = torch.cat([torch.arange(60), torch.arange(20)])
    more = fit(rows[twice], label[twice], ["a", "b", "c"])
    torch.testing.assert_close(more.prototypes, one.prototypes, atol=1e-5, rtol=0)


def test_an_example_left_out_is_compared_with_what_the_others_alone_make() -> None:
    rows, label = clouds(3)
    rows, label = torch.cat([rows, torch.ones(1, 8)]), torch.cat([label, torch.tensor([3])])
    cosines, of = left_out_cosines(rows, label)
    assert of.tolist() == label[:9].tolist()  # the only example of label 3 cannot be left out
    for i in range(9):
        others = torch.arange(10) != i
        space = fit(rows[others], label[others], ["a", "b", "c", "d"])
        torch.testing.assert_close(space.logits(rows[i]) / space.scale, cosines[i], atol=1e-5, rtol=0)


def test_of_very_many_examples_some_are_left_out() -> None:
    rows, label = clouds(1_500)
    cosines, of = left_out_cosines(rows, label)
    assert len(cosines) == len(of) == 1_500 and torch.bincount(of).tolist() == [500, 500, 500]


def test_clear_examples_make_a_sure_space_and_unclear_ones_an_unsure_one() -> None:
    sure, unsure = (fit(*clouds(10, spread=spread), ["a", "b", "c"]).scale for spread in (0.1, 2.0))
    assert sure > 2 * unsure
    assert fit(*clouds(1), ["a", "b", "c"]).scale == UNKNOWN_SCALE
    few, many = (fit_scale(torch.eye(3).repeat(n, 1), torch.arange(3).repeat(n)) for n in (1, 100))
    assert few < 4 < many < 10  # three right answers do not make it as sure as three hundred


@pytest.mark.parametrize(
    ("label", "names", "told"),
    [
        ([0, 0], ["a"], "expected two labels or more, got a"),
        ([0, 0], ["a", "b"], "expected an example of each label, got none of b"),
    ],
)
def test_too_few_labels_or_examples(label: list[int], names: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        fit(torch.randn(2, 4), torch.tensor(label), names)


def test_a_label_space_survives_a_file_bit_for_bit(tmp_path: Path) -> None:
    space = fit(*clouds(4), ["joyful", "größe", "c"])
    space.save(tmp_path / "labels.safetensors")
    again = LabelSpace.load(tmp_path / "labels.safetensors")
    assert again.labels == ("joyful", "größe", "c") and again.scale == space.scale
    assert torch.equal(again.centre, space.centre) and torch.equal(again.prototypes, space.prototypes)


@pytest.mark.parametrize("harm", ["missing", "not one", "other", "shape"])
def test_a_file_that_is_no_label_space_is_refused_in_one_line(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "x.safetensors"
    if harm == "not one":
        path.write_bytes(b"nonsense")
    elif harm == "other":
        save_file({"a": torch.zeros(1)}, path)
    elif harm == "shape":
        about = json.dumps({"labels": ["a", "b"], "scale": 1.0})
        save_file({"centre": torch.zeros(3), "prototypes": torch.zeros(2, 4)}, path, {"label_space": about})
    with pytest.raises(ValueError, match="expected") as caught:
        LabelSpace.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


# --- in the place of the head ---------------------------------------------------------------------


@torch.no_grad()
def test_new_labels_take_the_place_of_the_head_and_touch_no_weight(network: SentEmoContext) -> None:
    x, speaker = dialogues(3, 6)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    logits = network(x, speaker)
    space = space_of(network)
    relabelled = Relabelled(network, space)
    assert relabelled.config.classes == 2
    whole = relabelled(x, speaker)
    torch.testing.assert_close(whole, space.logits(network.embed(x, speaker)))
    states = [relabelled.initial_state() for _ in range(3)]
    for t in range(6):
        now, states = step_each(relabelled, x.turn(t), speaker[:, t].tolist(), states)
        torch.testing.assert_close(now, whole[:, t], atol=1e-4, rtol=0)
    assert torch.equal(network(x, speaker), logits)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@torch.no_grad()
def test_a_conversation_goes_on_where_labels_change(network: SentEmoContext) -> None:
    x, speaker = dialogues(1, 4)
    relabelled = Relabelled(network, space_of(network))
    _, state = network.step(x.turn(0), speaker[:, 0], network.initial_state())
    _, same = relabelled.step(x.turn(0), speaker[:, 0], relabelled.initial_state())
    assert state_to_bytes(state) == state_to_bytes(same)
    restored = relabelled.state_from_bytes(state_to_bytes(state))
    now, _ = relabelled.step(x.turn(1), speaker[:, 1], restored)
    torch.testing.assert_close(now, relabelled(x, speaker)[:, 1], atol=1e-5, rtol=0)
