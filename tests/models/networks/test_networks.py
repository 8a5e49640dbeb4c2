"""What every conversation network must keep: the step/state contract, tested alike on all of them.

A new network adds its entry to `SMALL`, next to the one in `erc_models.networks.checkpoint.ARCHITECTURES`.
"""

from dataclasses import replace

import pytest
import torch
from erc_models.networks.checkpoint import ARCHITECTURES
from erc_models.networks.linear import Linear
from erc_models.networks.streaming import StreamingModel, TurnInput, state_to_bytes, step_each
from networks import CLASSES, GROUPS, TEXT, dialogues, play, stirred
from torch import Tensor

SMALL: dict[str, dict[str, object]] = {
    "si_lstm": {"width": 8, "feedforward": 8, "window": 3},
    "multiemo": {"width": 8, "heads": 2, "feedforward": 8, "window": 3},
    "mmmie": {"width": 8, "heads": 2, "feedforward": 8, "layers": 2, "window": 3, "identities": 2},
    "sentemocontext": {"width": 8, "embedding": 6, "heads": 2, "feedforward": 8, "layers": 2, "window": 3},
    "speaker_multitask": {"width": 8, "heads": 2, "window": 3, "horizon": 2},
    "linear": {},
}
"""Name of the network -> the fields of its configuration that make it small."""

VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "si_lstm with a voice relative to the speaker": ("si_lstm", {"voice_hidden": 5}),
}
"""More to test: the network, and what is different."""


def build(name: str, seed: int = 0) -> StreamingModel:
    """The network of this name, or of a variant, `stirred`."""
    torch.manual_seed(seed)
    network, different = VARIANTS.get(name, (name, {}))
    model_type, config_type = ARCHITECTURES[network]
    fields = SMALL[network] | different
    return stirred(model_type(config_type(text_dim=TEXT, audio_groups=GROUPS, classes=CLASSES, **fields)))


@pytest.fixture(params=[*ARCHITECTURES, *VARIANTS])
def model(request: pytest.FixtureRequest) -> StreamingModel:
    return build(request.param)


def test_every_network_is_tested() -> None:
    assert SMALL.keys() == ARCHITECTURES.keys()


@torch.no_grad()
def test_step_by_step_equals_the_whole_dialogue(model: StreamingModel) -> None:
    x, speaker = dialogues(5, 12)
    stepped, _ = play(model, x, speaker)
    assert stepped.isfinite().all()
    torch.testing.assert_close(model(x, speaker), stepped, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_future_changes_nothing(model: StreamingModel) -> None:
    x, speaker = dialogues(4, 10)
    other, who = dialogues(4, 10, seed=2, speakers=5)
    for t in (1, 5, 9):
        mixed = TurnInput(
            torch.cat([x.text[:, :t], other.text[:, t:]], 1),
            torch.cat([x.audio[:, :t], other.audio[:, t:]], 1),
            torch.cat([x.text_mask[:, :t], other.text_mask[:, t:]], 1),
            torch.cat([x.audio_mask[:, :t], other.audio_mask[:, t:]], 1),
        )
        changed = torch.cat([speaker[:, :t], who[:, t:]], 1)
        torch.testing.assert_close(model(mixed, changed)[:, :t], model(x, speaker)[:, :t], atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_past_matters(model: StreamingModel) -> None:
    if isinstance(model, Linear):
        pytest.skip("it has no memory")
    x, speaker = dialogues(3, 6)
    other, _ = dialogues(3, 6, seed=2)
    x = replace(x, text_mask=torch.ones_like(x.text_mask))
    changed = replace(x, text=torch.cat([other.text[:, :-1], x.text[:, -1:]], 1))
    assert ((model(changed, speaker) - model(x, speaker))[:, -1].abs() > 1e-4).any()


@torch.no_grad()
def test_a_conversation_does_not_see_the_others_of_its_batch(model: StreamingModel) -> None:
    x, speaker = dialogues(4, 8)
    states = [model.initial_state() for _ in range(4)]
    together = []
    for t in range(8):
        logits, states = step_each(model, x.turn(t), speaker[:, t].tolist(), states)
        together.append(logits)
    for i in range(4):
        alone, _ = play(model, x.map(lambda tensor, i=i: tensor[i : i + 1]), speaker[i : i + 1])
        torch.testing.assert_close(torch.stack(together, 1)[i : i + 1], alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_changes_nothing(model: StreamingModel) -> None:
    x, speaker = dialogues(3, 9)
    padding = torch.arange(9) >= 6
    masked = replace(x, text_mask=x.text_mask & ~padding, audio_mask=x.audio_mask & ~padding.unsqueeze(1))
    short = x.map(lambda tensor: tensor[:, :6])
    torch.testing.assert_close(model(masked, speaker)[:, :6], model(short, speaker[:, :6]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_who_is_called_what_does_not_matter(model: StreamingModel) -> None:
    x, speaker = dialogues(3, 10)
    renamed = torch.tensor([2, 0, 1])[speaker]
    torch.testing.assert_close(play(model, x, renamed)[0], play(model, x, speaker)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(model(x, renamed), model(x, speaker), atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_a_mask_hides_is_never_read(model: StreamingModel) -> None:
    x, speaker = dialogues(3, 8)
    groups = torch.tensor(GROUPS)
    hidden = replace(
        x,
        text=x.text.masked_fill(~x.text_mask.unsqueeze(2), torch.nan),
        audio=x.audio.masked_fill(~x.audio_mask.repeat_interleave(groups, 2), torch.nan),
    )
    assert torch.equal(model(hidden, speaker), model(x, speaker))
    assert torch.equal(play(model, hidden, speaker)[0], play(model, x, speaker)[0])


@torch.no_grad()
def test_a_snapshot_goes_on_as_if_nothing_had_happened(model: StreamingModel) -> None:
    x, speaker = dialogues(1, 9)
    whole, _ = play(model, x, speaker)
    _, state = play(model, x.map(lambda tensor: tensor[:, :5]), speaker[:, :5])
    before = state_to_bytes(state)
    restored = model.state_from_bytes(before)
    for t in range(5, 9):
        logits, restored = model.step(x.turn(t), speaker[:, t], restored)
        assert torch.equal(logits, whole[:, t])
    assert state_to_bytes(state) == before


def test_learning_reaches_every_parameter(model: StreamingModel) -> None:
    model.train()
    x, speaker = dialogues(4, 7)
    label = torch.randint(0, CLASSES, speaker.shape)

    def emotion_loss(logits: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), label.flatten())

    losses = model.learn(x, speaker, label, emotion_loss)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent
    grouped = [p for group in model.parameter_groups().values() for p in group]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
    assert len(grouped) == len(list(model.parameters()))
