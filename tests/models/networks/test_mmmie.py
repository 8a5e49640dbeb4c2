"""What is particular to MMMIE; `test_networks` holds what every network keeps."""

import math
from dataclasses import replace

import pytest
import torch
from erc_models.networks.mmmie import Mmmie, MmmieConfig, ranks_of_appearance
from erc_models.networks.streaming import TurnInput, state_bytes
from networks import stirred
from torch import Tensor

SMALL = MmmieConfig(
    text_dim=6,
    audio_groups=(4, 3),
    classes=3,
    width=8,
    feedforward=8,
    window=3,
    identities=4,
    information_hidden=16,
    dropout=0.0,
)
TERMS = {"mine", "club_text", "club_audio", "fit_text", "fit_audio"}


def build(**changes: object) -> Mmmie:
    """A small network, `stirred`."""
    torch.manual_seed(0)
    return stirred(Mmmie(replace(SMALL, **changes)))


def dialogues(batch: int, turns: int, seed: int = 1) -> TurnInput:
    """Random dialogues with nothing missing."""
    g = torch.Generator().manual_seed(seed)
    return TurnInput(
        torch.randn(batch, turns, 6, generator=g),
        torch.randn(batch, turns, 7, generator=g),
        torch.ones(batch, turns, dtype=torch.bool),
        torch.ones(batch, turns, 2, dtype=torch.bool),
    )


@torch.no_grad()
def play(model: Mmmie, x: TurnInput, speaker: Tensor) -> tuple[Tensor, list[int]]:
    """Turn by turn: logits (B, T, C) and, of the first dialogue, the rank kept of each turn's speaker."""
    state, logits, ranks = model.initial_state(speaker.shape[0]), [], []
    for t in range(speaker.shape[1]):
        now, state = model.step(x.turn(t), speaker[:, t], state)
        logits.append(now)
        ranks.append(int(state.ranks[0, speaker[0, t]]))
    return torch.stack(logits, 1), ranks


def silence(logits: Tensor) -> Tensor:
    """No emotion to learn, so that the information terms are alone."""
    return 0.0 * logits.sum()


def test_speakers_are_ranked_by_appearance() -> None:
    speaker = torch.tensor([[5, 2, 5, 0, 2, 7]])
    everyone = torch.ones(1, 6, dtype=torch.bool)
    expected = [0, 1, 0, 2, 1, 3]
    assert ranks_of_appearance(speaker, everyone)[0].tolist() == expected
    assert play(build(), dialogues(1, 6), speaker)[1] == expected


def test_who_said_nothing_has_not_appeared() -> None:
    speaker = torch.tensor([[5, 2, 5, 0, 2]])
    present = torch.tensor([[False, True, True, True, True]])
    assert ranks_of_appearance(speaker, present)[0, 1:].tolist() == [0, 1, 2, 0]
    x = dialogues(1, 5)
    x = replace(x, text_mask=present, audio_mask=present.unsqueeze(2).expand(1, 5, 2))
    assert play(build(), x, speaker)[1] == [-1, 0, 1, 2, 0]


@torch.no_grad()
def test_speakers_beyond_the_table_share_its_last_row() -> None:
    model, x = build(identities=2), dialogues(1, 6)
    many, few = torch.tensor([[0, 1, 2, 3, 1, 4]]), torch.tensor([[0, 1, 1, 1, 1, 1]])
    torch.testing.assert_close(model(x, many), model(x, few), atol=1e-6, rtol=0)
    assert (build()(x, many) - build()(x, few)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="identities: expected at least 1, got 0"):
        replace(SMALL, identities=0)


@torch.no_grad()
def test_training_permutes_identities_per_dialogue() -> None:
    model = build().train()
    one = dialogues(1, 5)
    x = one.map(lambda tensor: tensor.expand(40, *tensor.shape[1:]))
    speaker = torch.tensor([[0, 1, 0, 1, 1]]).expand(40, 5)
    torch.manual_seed(0)
    logits = model(x, speaker)[:, -1]  # (40, C)
    # two speakers over a table of four: twelve pairs of embeddings, of which eval mode knows one
    assert 6 < len({tuple(round(value, 4) for value in row.tolist()) for row in logits}) <= 12
    plain = model.eval()(x, speaker)[:, -1]
    torch.testing.assert_close(plain, plain[:1].expand(40, -1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_turn_without_words_leaves_the_words_past_alone() -> None:
    model, x = build(), dialogues(1, 4)
    state = model.initial_state(1, 2)
    speaker = torch.tensor([0])
    _, state = model.advance(x.turn(0), speaker, state)
    voice = replace(x.turn(1), text_mask=torch.tensor([False]))
    _, after = model.advance(voice, speaker, state)
    for name in ("cells", "filled", "window"):
        before, now = getattr(state, name), getattr(after, name)
        axis = 2 if name == "window" else 1
        assert torch.equal(now.select(axis, 0), before.select(axis, 0)), name
        assert not torch.equal(now.select(axis, 1), before.select(axis, 1)), name


@torch.no_grad()
def test_only_the_modality_that_is_there_speaks() -> None:
    model = build()
    x, other = dialogues(1, 3), dialogues(1, 3, seed=2)
    speaker = torch.zeros(1, 3, dtype=torch.int64)
    no_words = x.text_mask & torch.tensor([True, True, False])
    x = replace(x, text_mask=no_words)
    past = torch.cat([other.text[:, :2], x.text[:, 2:]], 1)
    torch.testing.assert_close(model(replace(x, text=past), speaker)[:, 2], model(x, speaker)[:, 2])


@torch.no_grad()
def test_the_state_does_not_grow_with_the_turns() -> None:
    model, x = build(), dialogues(1, 9)
    state = model.initial_state(1, 2)
    size = state_bytes(state)
    for t in range(9):
        _, state = model.advance(x.turn(t), torch.tensor([t % 2]), state)
        assert state_bytes(state) == size
    assert state_bytes(model.grow(state, 5)) - size == 3 * 8


def correlated(batch: int = 32, turns: int = 3) -> TurnInput:
    """Dialogues whose words and voice say the same."""
    x = dialogues(batch, turns)
    return replace(x, audio=torch.cat([x.text[..., :4], x.text[..., :3]], -1))


def train(model: Mmmie, x: TurnInput, steps: int, parts: tuple[str, ...]) -> list[dict[str, float]]:
    """Minimise the sum of what `learn` returns over some parts of the network; its losses at each step."""
    speaker = torch.zeros(x.text.shape[:2], dtype=torch.int64)
    groups = [group for name, group in model.parameter_groups().items() if name in parts]
    optimizer = torch.optim.Adam([p for group in groups for p in group], lr=1e-2)
    history = []
    for _ in range(steps):
        losses = model.learn(x, speaker, speaker, silence)
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for group in groups:
            torch.nn.utils.clip_grad_norm_(group, 1.0)
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    return history


def mean(history: list[dict[str, float]], name: str) -> float:
    return sum(losses[name] for losses in history) / len(history)


def test_training_raises_the_lower_bound_between_the_modalities() -> None:
    torch.manual_seed(0)
    model = Mmmie(replace(SMALL, mutual_weight=1.0)).train()
    history = train(model, correlated(), 60, ("network", "mine", "club"))
    assert -mean(history[:5], "mine") < 0.1
    assert -mean(history[-5:], "mine") > 0.8
    assert mean(history[-5:], "fit_text") < mean(history[:5], "fit_text")


def test_training_lowers_the_upper_bounds_within_the_modalities() -> None:
    torch.manual_seed(0)
    model = Mmmie(replace(SMALL, mutual_weight=0.0, redundancy_weight=1.0)).train()
    x = correlated()
    fitted = train(model, x, 60, ("club",))[-5:]
    minimised = train(model, x, 60, ("network", "club"))[-5:]
    for term in ("club_text", "club_audio"):
        assert mean(fitted, term) > 0.5
        assert mean(minimised, term) < 0.5 * mean(fitted, term)


def test_each_term_reaches_its_own_parameters() -> None:
    model, x = build().train(), correlated(4, 5)
    losses = model.learn(x, torch.zeros(4, 5, dtype=torch.int64), torch.zeros(4, 5), silence)
    groups = model.parameter_groups()
    assert list(groups) == ["network", "mine", "club"]
    reached = {
        "mine": {"network", "mine"},
        "club_text": {"network"},
        "club_audio": {"network"},
        "fit_text": {"club"},
        "fit_audio": {"club"},
    }
    for term, expected in reached.items():
        gradients = {
            name: torch.autograd.grad(losses[term], group, retain_graph=True, allow_unused=True)
            for name, group in groups.items()
        }
        assert {n for n, g in gradients.items() if any(v is not None and v.any() for v in g)} == expected


@pytest.mark.parametrize("missing", ["text", "audio", "both"])
def test_information_terms_survive_turns_that_share_nothing(missing: str) -> None:
    model, x = build().train(), dialogues(2, 4)
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    if missing != "audio":
        x = replace(x, text=torch.full_like(x.text, math.nan), text_mask=nothing)
    if missing != "text":
        hidden = torch.zeros_like(x.audio_mask)
        x = replace(x, audio=torch.full_like(x.audio, math.nan), audio_mask=hidden)
    speaker = torch.zeros(2, 4, dtype=torch.int64)
    losses = model.learn(x, speaker, speaker, lambda logits: logits.square().mean())
    assert losses.keys() == TERMS | {"emotion"}
    assert losses["mine"] == 0
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="expected a width that heads divide, got 8 and 3 heads"):
        replace(SMALL, heads=3)
