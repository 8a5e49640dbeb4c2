import numpy as np
import pytest
import torch
from erc_models.networks.linear import Linear, LinearConfig
from erc_models.networks.si_lstm import SiLstm, SiLstmConfig
from erc_models.networks.streaming import TurnInput
from erc_models.training import label_bias

LABELS = ("neutral", "joy", "fear")
SHARES = np.array([0.8, 0.15, 0.05])


def turns(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of labels taken for equally likely, as balanced training gives, and gold labels that are not."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(3, count, p=SHARES)
    seen = np.eye(3)[gold] * 2.0 + rng.normal(size=(count, 3))
    return 2.0 * seen, gold  # the log likelihood of a label under unit noise, but for what all labels share


def test_what_is_chosen_is_worth_more_on_other_turns_too() -> None:
    logits, gold = turns(4000, 0)
    bias = label_bias.choose(logits, gold, LABELS)
    others, truth = turns(20_000, 1)
    before = label_bias.worth(others, truth, LABELS)
    assert label_bias.worth(others + bias, truth, LABELS) > before + 5
    assert bias[0] > bias[1] > bias[2]  # balanced logits gave the rare labels too readily


def test_the_worth_is_the_mean_of_both_scores_without_neutral() -> None:
    gold = np.array([0, 0, 1, 1, 2, 2])
    logits = np.eye(3)[[0, 1, 1, 0, 2, 2]]
    joy, fear = 2 * 1 / (2 + 2), 1.0
    micro = 2 * 3 / (4 + 4)
    assert label_bias.worth(logits, gold, LABELS) == pytest.approx(100 * (micro + (joy + fear) / 2) / 2)


def test_a_bias_follows_the_log_frequencies() -> None:
    counts = np.array([100.0, 10.0, 1.0])
    np.testing.assert_allclose(
        label_bias.bias_of(counts, 0, 1.0, 0.0), [-np.log(10), 0, np.log(10)], atol=1e-9
    )
    np.testing.assert_allclose(label_bias.bias_of(counts, 0, 0.0, 1.5), [1.5, 0, 0])
    assert np.isfinite(
        label_bias.bias_of(np.array([5.0, 0.0]), 0, 1.0, 0.0)
    ).all()  # a label that never occurs


def test_without_a_neutral_label_there_is_nothing_to_choose() -> None:
    with pytest.raises(ValueError, match="expected neutral among the labels, got a, b"):
        label_bias.choose(np.zeros((2, 2)), np.array([0, 1]), ("a", "b"))


@pytest.mark.parametrize(
    "network",
    [
        Linear(LinearConfig(text_dim=4, audio_groups=(1,), classes=3)),
        SiLstm(SiLstmConfig(text_dim=4, audio_groups=(1,), classes=3, width=8, feedforward=8)),
    ],
    ids=["linear", "si_lstm"],
)
def test_a_network_gives_the_label_by_its_bias(network: Linear | SiLstm) -> None:
    network.eval()
    x = TurnInput(torch.randn(1, 4), torch.zeros(1, 1), torch.tensor([True]), torch.tensor([[False]]))
    speaker = torch.zeros(1, dtype=torch.long)
    before, _ = network.step(x, speaker, network.initial_state())
    label_bias.add(network, np.array([0.0, -1.0, 2.5]))
    after, _ = network.step(x, speaker, network.initial_state())
    torch.testing.assert_close(after.detach() - before.detach(), torch.tensor([[0.0, -1.0, 2.5]]))


def test_a_network_without_such_a_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a network with a bias for each label"):
        label_bias.add(torch.nn.Module(), np.zeros(3))  # type: ignore[arg-type]
