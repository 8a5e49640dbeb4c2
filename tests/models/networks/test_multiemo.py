"""MultiEMO beyond the common contract: three modalities, its fusion, its losses, visual features."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from erc_models.data.feature_store import NO_LABEL, FeatureSet, concatenate
from erc_models.networks.checkpoint import Checkpoint, load, save
from erc_models.networks.losses import sample_weighted_focal_contrastive, soft_hgr
from erc_models.networks.multiemo import MultiEmo, MultiEmoConfig, _key_windows, modal_hgr
from erc_models.networks.streaming import (
    StreamingModel,
    TurnInput,
    stack,
    state_bytes,
    state_to_bytes,
    unstack,
)
from networks import play, stirred
from torch import Tensor
from torch.nn import functional as F

TWO = MultiEmoConfig(
    text_dim=6, audio_groups=(4, 3), classes=3, width=8, heads=2, feedforward=8, window=3, dropout=0.0
)
THREE = replace(TWO, vision_dim=5)


def build(config: MultiEmoConfig = THREE, seed: int = 0) -> MultiEmo:
    """A small network, `stirred`."""
    torch.manual_seed(seed)
    model = stirred(MultiEmo(config))
    model.set_audio_normalisation(torch.arange(7.0), torch.arange(1.0, 8.0))
    return model


def dialogues(batch: int, turns: int, seed: int = 1, speakers: int = 3) -> tuple[TurnInput, Tensor]:
    """Random dialogues of three modalities in which every combination of missing ones occurs."""
    g = torch.Generator().manual_seed(seed)
    x = TurnInput(
        torch.randn(batch, turns, 6, generator=g),
        5 * torch.randn(batch, turns, 7, generator=g),
        torch.rand(batch, turns, generator=g) > 0.3,
        torch.rand(batch, turns, 2, generator=g) > 0.4,
        torch.randn(batch, turns, 5, generator=g),
        torch.rand(batch, turns, generator=g) > 0.3,
    )
    return x, torch.randint(0, speakers, (batch, turns), generator=g)


def mean_loss(logits: Tensor) -> Tensor:
    return logits.square().mean()


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 3, 20])
@pytest.mark.parametrize("layers", [1, 3])
def test_step_by_step_equals_the_whole_dialogue(window: int, layers: int) -> None:
    model = build(replace(THREE, window=window, layers=layers))
    x, speaker = dialogues(5, 12)
    stepped, _ = play(model, x, speaker)
    torch.testing.assert_close(model(x, speaker), stepped, atol=1e-5, rtol=0)
    torch.testing.assert_close(StreamingModel.forward(model, x, speaker), stepped, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_future_changes_nothing_and_vision_of_the_past_matters() -> None:
    model = build()
    x, speaker = dialogues(4, 10)
    other, _ = dialogues(4, 10, seed=2)
    assert x.vision is not None and other.vision is not None and x.vision_mask is not None
    for t in (1, 5, 9):
        vision = torch.cat([x.vision[:, :t], other.vision[:, t:]], 1)
        mask = torch.cat([x.vision_mask[:, :t], ~x.vision_mask[:, t:]], 1)
        mixed = replace(x, vision=vision, vision_mask=mask)
        torch.testing.assert_close(model(mixed, speaker)[:, :t], model(x, speaker)[:, :t], atol=1e-6, rtol=0)
    x = replace(x, vision_mask=torch.ones_like(x.vision_mask))
    earlier = replace(x, vision=torch.cat([other.vision[:, :-2], x.vision[:, -2:]], 1))
    assert ((model(earlier, speaker) - model(x, speaker))[:, -1].abs() > 1e-4).any(1).all()


@torch.no_grad()
def test_without_vision_a_network_of_three_modalities_is_the_network_of_two() -> None:
    three, two = build(THREE), build(TWO)
    # every tensor that has the modalities has them first, and vision is the last of them
    two.load_state_dict({name: three.state_dict()[name][: len(t)] for name, t in two.state_dict().items()})
    x, speaker = dialogues(4, 9)
    assert x.vision is not None and x.vision_mask is not None
    blind = replace(x, vision=None, vision_mask=None)
    masked = replace(x, vision_mask=torch.zeros_like(x.vision_mask))
    expected = two(blind, speaker)
    assert not torch.allclose(three(x, speaker), expected, atol=1e-3)
    for absent in (blind, masked):
        torch.testing.assert_close(three(absent, speaker), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(play(three, absent, speaker)[0], expected, atol=1e-5, rtol=0)
    assert torch.equal(two(x, speaker), expected)  # it has no eyes


@torch.no_grad()
def test_what_the_mask_hides_is_never_read() -> None:
    model = build()
    x, speaker = dialogues(3, 8)
    assert x.vision is not None and x.vision_mask is not None
    hidden = replace(x, vision=x.vision.masked_fill(~x.vision_mask.unsqueeze(2), torch.nan))
    assert torch.equal(model(hidden, speaker), model(x, speaker))
    assert torch.equal(play(model, hidden, speaker)[0], play(model, x, speaker)[0])


@torch.no_grad()
def test_who_is_called_what_does_not_matter_but_who_speaks_does() -> None:
    model = build()
    x, speaker = dialogues(3, 10)
    renamed = torch.tensor([2, 0, 1])[speaker]
    torch.testing.assert_close(model(x, renamed), model(x, speaker), atol=1e-5, rtol=0)
    assert not torch.allclose(model(x, torch.zeros_like(speaker)), model(x, speaker), atol=1e-3)


@torch.no_grad()
def test_the_state_stays_as_small_as_it_was() -> None:
    model = build()
    x, speaker = dialogues(2, 30)
    sizes = {
        state_bytes(play(model, x.map(lambda v, n=n: v[:, :n]), speaker[:, :n])[1]) for n in (10, 20, 30)
    }
    values = 3 * 8 * (2 + 1 + 3)  # M d (past turns, g, q of three speakers)
    assert sizes == {2 * (4 * values + 3 * 2)}


@torch.no_grad()
def test_states_of_different_conversations_stack_and_part() -> None:
    model = build()
    parts = [play(model, *dialogues(1, n, seed=n, speakers=n))[1] for n in (1, 4)]
    counts = [part.speakers_known for part in parts]
    for before, after in zip(parts, unstack(stack(model, parts), counts), strict=True):
        assert state_to_bytes(before) == state_to_bytes(after)


@torch.no_grad()
def test_the_fusion_is_multi_head_attention_over_what_was_heard() -> None:
    """Eq. 2-6 with keys and values made from the turns, as the paper writes them."""
    model = build()
    attention = model.layers[0].attention[1]
    f, window = torch.randn(3, 4, 8), torch.randn(3, 4, 3, 8)
    heard = torch.rand(3, 4, 3) > 0.4
    heard[2, 1], heard[2, 2] = True, False
    got = attention(f, _key_windows(window, heard)[1], lambda x: x)
    key, value = (
        layer.weight.view(3, 2, *layer.weight.shape[1:]) for layer in (attention.key, attention.value)
    )
    for modality, source in enumerate((2, 2, 1)):
        for n in range(4):
            if not heard[source, n].any():
                assert torch.equal(got[modality, n], f[modality, n])
                continue
            turns, seen = window[source, n][heard[source, n]], []  # (K, d)
            query = f[modality, n] @ attention.query.weight[modality] + attention.query.bias[modality, 0]
            for head in range(2):
                scores = turns @ key[modality, head].t() @ query[4 * head : 4 * head + 4] / 2  # sqrt(d / H)
                weight = (scores + attention.position[modality, 0, head, heard[source, n]]).softmax(0)
                seen.append(weight @ (turns @ value[modality, head]))
            added = f[modality, n] + torch.cat(seen) @ attention.output.weight[modality]
            norm = attention.norm
            expected = F.layer_norm(added, (8,), norm.gain[modality, 0], norm.offset[modality, 0])
            torch.testing.assert_close(got[modality, n], expected, atol=1e-5, rtol=0)


def test_hgr_reads_only_turns_that_have_both_modalities() -> None:
    views = torch.randn(3, 12, 4)
    mask = torch.rand(3, 12) > 0.4
    expected = sum(
        soft_hgr([views[a][mask[a] & mask[b]], views[b][mask[a] & mask[b]]])
        for a, b in ((0, 1), (0, 2), (1, 2))
    )
    hidden = views.masked_fill(~mask.unsqueeze(2), torch.nan)
    torch.testing.assert_close(modal_hgr(hidden, mask), expected)
    alone = torch.stack([torch.arange(12) % 3 == m for m in range(3)])
    assert modal_hgr(views, alone) == 0


def test_the_losses_are_the_papers() -> None:
    model = build().train()
    x, speaker = dialogues(4, 7)
    label = torch.arange(28).view(4, 7) % 3
    label[0, :3] = NO_LABEL
    views, fused, mask = model._represent(x, speaker)
    losses = model.learn(x, speaker, label, mean_loss)
    assert losses.keys() == {"emotion", "contrastive", "hgr"}
    torch.testing.assert_close(losses["emotion"], 0.4 * mean_loss(model(x, speaker)))
    torch.testing.assert_close(losses["hgr"], 0.3 * modal_hgr(views, mask))
    known = (label.flatten() >= 0) & mask.any(0)
    counts = torch.bincount(label.flatten()[known], minlength=3)
    contrast = sample_weighted_focal_contrastive(
        fused[known], label.flatten()[known], counts, temperature=1.4, alpha=1.2, gamma=2.0
    )
    torch.testing.assert_close(losses["contrastive"], 0.3 * contrast)
    assert model.label_counts.tolist() == counts.tolist()
    model.learn(x, speaker, label, mean_loss)
    assert model.label_counts.tolist() == (2 * counts).tolist()
    model.eval().learn(x, speaker, label, mean_loss)
    assert model.label_counts.tolist() == (2 * counts).tolist()


@torch.no_grad()
def test_padding_has_no_part_in_the_losses() -> None:
    model = build()
    x, speaker = dialogues(4, 9)
    label = torch.randint(0, 3, (4, 9))
    label[:, 6:] = NO_LABEL
    short = x.map(lambda tensor: tensor[:, :6])
    padded = short.map(lambda v: F.pad(v, (0, 0) * (v.dim() - 2) + (0, 3)))
    known = short.text_mask | short.audio_mask.any(2) | short.vision_mask
    label[:, :6][~known] = NO_LABEL  # nothing to learn from: not in the contrast, whatever its label
    one = model.learn(short, speaker[:, :6], label[:, :6], mean_loss)
    other = model.learn(padded, speaker, label, mean_loss)
    for name in ("contrastive", "hgr"):
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=0)


def test_learning_reaches_every_parameter_of_three_modalities() -> None:
    model = build(replace(THREE, dropout=0.2)).train()
    x, speaker = dialogues(4, 7)
    losses = model.learn(x, speaker, torch.arange(28).view(4, 7) % 3, mean_loss)
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; training on a CPU is in float32")
def test_it_learns_in_mixed_precision() -> None:
    model = build().train().cuda()
    x, speaker = (given.to("cuda") for given in dialogues(4, 7))
    label = (torch.arange(28).view(4, 7) % 3).cuda()
    exact = model.learn(x, speaker, label, mean_loss)
    with torch.autocast("cuda", torch.bfloat16):
        mixed = model.learn(x, speaker, label, mean_loss)
    for name, loss in exact.items():
        torch.testing.assert_close(mixed[name], loss, atol=0.02, rtol=0.05, check_dtype=False)
    torch.stack(list(mixed.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_it_learns_from_one_modality_about_another() -> None:
    """A turn's label is the sign that its speaker's face had in the turn before; words tell nothing of it."""
    torch.manual_seed(0)
    model = MultiEmo(replace(THREE, classes=2, width=16)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    speaker = torch.zeros(32, 6, dtype=torch.long)
    for _ in range(60):
        x, _ = dialogues(32, 6, seed=int(torch.randint(10**6, (1,))))
        assert x.vision is not None
        sign = torch.randint(0, 2, (32, 6))
        vision = torch.cat([2.0 * sign.unsqueeze(2) - 1, 0.1 * x.vision[..., 1:]], 2)
        everything = torch.ones(32, 6, dtype=torch.bool)
        x = replace(x, vision=vision, vision_mask=everything, text_mask=everything)
        label = F.pad(sign[:, :-1], (1, 0), value=NO_LABEL)

        def emotion_loss(logits: Tensor, label: Tensor = label) -> Tensor:
            return F.cross_entropy(logits.flatten(0, 1), label.flatten(), ignore_index=NO_LABEL)

        losses = model.learn(x, speaker, label, emotion_loss)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    right = (model.eval()(x, speaker).argmax(2) == label)[:, 1:].float().mean()
    assert right > 0.95


@torch.no_grad()
def test_a_checkpoint_forgets_what_only_training_needs(tmp_path: Path) -> None:
    model = build()
    model.label_counts.fill_(3)
    half = {name: v.half().float() for name, v in model.named_parameters()}
    model.load_state_dict(half, strict=False)
    save(tmp_path / "eyes", Checkpoint("eyes", "multiemo", model, ("a", "b", "c")), "# card")
    again = load(tmp_path / "eyes").network
    assert isinstance(again, MultiEmo) and not again.label_counts.any()
    x, speaker = dialogues(2, 5)
    assert torch.equal(again(x, speaker), model(x, speaker))


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="heads that divide the width of 8, got 3"):
        replace(TWO, heads=3)
    with pytest.raises(ValueError, match=r"at most 1, got 0\.7 and 0\.5"):
        replace(TWO, contrastive_weight=0.7, hgr_weight=0.5)
    x, speaker = dialogues(2, 3)
    with pytest.raises(ValueError, match="visual features of size 4, got 5"):
        build(replace(TWO, vision_dim=4))(x, speaker)


def features(vision: bool, corpus: str = "film", width: int = 5) -> FeatureSet:
    """Dialogues of 3 and 2 turns."""
    torch.manual_seed(0)
    return FeatureSet(
        text=torch.randn(5, 6), audio=torch.randn(5, 7), text_mask=torch.ones(5, dtype=torch.bool),
        audio_mask=torch.ones(5, 2, dtype=torch.bool), speaker=torch.tensor([0, 1, 0, 0, 1]),
        label=torch.tensor([0, 1, 2, 0, 1]), offsets=torch.tensor([0, 3, 5]), corpus=torch.tensor([0, 0]),
        labels=("a", "b", "c"), corpora=(corpus,), names=("one", "two"), audio_groups=(4, 3),
        vision=torch.randn(5, width).half() if vision else None,
        vision_mask=torch.tensor([True, False, True, True, True]) if vision else None,
    )  # fmt: skip


def test_a_feature_set_keeps_visual_features(tmp_path: Path) -> None:
    whole = features(vision=True)
    whole.save(tmp_path / "seen.safetensors")
    again = FeatureSet.load(tmp_path / "seen.safetensors")
    assert torch.equal(again.vision, whole.vision) and torch.equal(again.vision_mask, whole.vision_mask)
    x = again.batch([1, 0]).x
    assert x.vision.dtype == torch.float32 and torch.equal(x.vision[1], whole.vision[:3].float())
    assert x.vision_mask.tolist() == [[True, True, False], [True, False, True]]


def test_a_feature_set_without_visual_features_is_as_it_was(tmp_path: Path) -> None:
    features(vision=False).save(tmp_path / "heard.safetensors")
    again = FeatureSet.load(tmp_path / "heard.safetensors")
    x = again.batch([0, 1]).x
    assert again.vision is None and x.vision is None and x.vision_mask is None
    assert concatenate([again, again]).vision is None


def test_sets_with_and_without_visual_features_join() -> None:
    heard, seen = features(vision=False, corpus="radio"), features(vision=True)
    for sets in ([heard, seen], [seen, heard]):
        joined = concatenate(sets)
        expected = torch.cat(
            [torch.zeros(5, dtype=torch.bool) if s is heard else s.vision_mask for s in sets]
        )
        assert torch.equal(joined.vision_mask, expected)
        assert torch.equal(joined.vision[joined.vision_mask], seen.vision[seen.vision_mask])
        assert joined.vision.dtype == torch.float16 and joined.corpora == (sets[0].corpora + sets[1].corpora)


def test_wrong_visual_features_are_named() -> None:
    with pytest.raises(ValueError, match="'vision' and 'vision_mask' or neither, got 'vision' alone"):
        replace(features(vision=True), vision_mask=None)
    with pytest.raises(ValueError, match=r"'vision_mask' of shape \(5,\), got \(4,\)"):
        replace(features(vision=True), vision_mask=torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="visual features of one size, got 5, 4"):
        concatenate([features(vision=True), features(vision=True, width=4)])
