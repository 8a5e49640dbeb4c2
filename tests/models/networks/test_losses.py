"""Each loss against values worked out by hand, its equation written as a loop, and its gradient."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from erc_models.networks.losses import (
    Club,
    Mine,
    cross_entropy,
    orthogonality,
    r_drop,
    sample_weighted_focal_contrastive,
    soft_hgr,
    triplet_margin,
)
from torch import Tensor

FOCAL = {"temperature": 0.7, "alpha": 1.2, "gamma": 2.0}


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64).requires_grad_()


def quiet(loss: Tensor, *inputs: Tensor) -> bool:
    """Whether a loss is zero and yet trains: its gradient exists and is zero."""
    return loss.item() == 0 and all(not grad.any() for grad in torch.autograd.grad(loss, inputs))


def gradcheck(function: Callable[..., Tensor], *inputs: Tensor) -> bool:
    return torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-5)


def test_cross_entropy_weighs_the_rows() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    target = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    plain = (math.log(4) + math.log(2)) / 2
    assert cross_entropy(logits, target).item() == pytest.approx(plain)
    weighted = (3 * math.log(4) + math.log(2)) / 4
    assert cross_entropy(logits, target, torch.tensor([3.0, 1.0])).item() == pytest.approx(weighted)
    empty = torch.zeros(0, 2, requires_grad=True)
    assert quiet(cross_entropy(empty, torch.zeros(0, 2)), empty)


def test_r_drop_is_the_mean_of_both_divergences() -> None:
    a = torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64)  # 1/4, 3/4
    b = torch.tensor([[0.0, 0.0]], dtype=torch.float64)  # 1/2, 1/2
    forward = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    backward = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert r_drop(a, b).item() == pytest.approx((forward + backward) / 2)
    assert r_drop(b, a).item() == pytest.approx((forward + backward) / 2)
    assert r_drop(a, a + 5).item() == pytest.approx(0)
    assert gradcheck(r_drop, rows(3, 4), rows(3, 4, seed=1))
    empty = rows(0, 4)
    assert quiet(r_drop(empty, empty), empty)


def test_contrastive_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    label, counts = torch.tensor([0, 0, 1]), torch.tensor([2, 1])
    # the two anchors of class 0 see one positive at cosine 1 and one negative at 0; class 1 has no pair
    s = math.e / (math.e + 1)
    expected = (3 / 2) ** 2 * (1 - s) * -math.log(s)
    loss = sample_weighted_focal_contrastive(features, label, counts, temperature=1, alpha=2, gamma=1)
    assert loss.item() == pytest.approx(expected)
    assert expected == pytest.approx(0.189560, abs=1e-6)


def test_contrastive_equals_its_equation() -> None:
    features, label = rows(9, 4), torch.tensor([0, 1, 0, 2, 1, 0, 3, -100, 1])
    counts = torch.tensor([40, 10, 5, 5])
    unit = torch.nn.functional.normalize(features.detach(), dim=1)
    kept = [i for i in range(9) if label[i] >= 0]
    terms = []
    for j in kept:
        scores = {g: math.exp(float(unit[j] @ unit[g]) / FOCAL["temperature"]) for g in kept if g != j}
        share = [scores[g] / sum(scores.values()) for g in scores if label[g] == label[j]]
        if share:
            weight = (60 / float(counts[label[j]])) ** FOCAL["alpha"]
            terms.append(-weight * np.mean([(1 - s) ** FOCAL["gamma"] * math.log(s) for s in share]))
    loss = sample_weighted_focal_contrastive(features, label, counts, **FOCAL)
    assert len(terms) == 6
    assert loss.item() == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_contrastive_gradient(gamma: float) -> None:
    label, counts = torch.tensor([0, 1, 0, 2, 1, 0]), torch.tensor([3, 2, 1])
    settings = {**FOCAL, "gamma": gamma}
    assert gradcheck(lambda f: sample_weighted_focal_contrastive(f, label, counts, **settings), rows(6, 3))
    pair = rows(2, 3)  # nothing to contrast with: s is 1
    loss = sample_weighted_focal_contrastive(pair, torch.zeros(2).long(), counts, **settings)
    assert quiet(loss, pair)


@pytest.mark.parametrize("label", [[], [0], [0, 1, 2], [-100, -100, 1]])
def test_contrastive_without_positives_is_a_zero_that_trains(label: list[int]) -> None:
    features = rows(len(label), 3)
    target = torch.tensor(label, dtype=torch.int64)
    assert quiet(sample_weighted_focal_contrastive(features, target, torch.ones(3), **FOCAL), features)


def test_soft_hgr_by_hand() -> None:
    q = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    v = torch.tensor([[7.0, 3.0], [3.0, 3.0]])  # centred: +-2 in the first dimension
    # E[Q.V] = 4; covariances diag(2, 0) and diag(8, 0): tr = 16
    assert soft_hgr([q, v]).item() == pytest.approx(-4 + 8)
    # of the pairs (q, q'), (q, v), (q', v) the first gives -2 + 4/2
    assert soft_hgr([q, q + 1, v]).item() == pytest.approx(0 + 4 + 4)


def test_soft_hgr_has_covariances_over_features() -> None:
    q, v = rows(7, 3), rows(7, 3, seed=1)
    a, b = q.detach().numpy(), v.detach().numpy()
    agreement = ((a - a.mean(0)) * (b - b.mean(0))).sum() / 6
    expected = -agreement + 0.5 * np.trace(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))
    assert soft_hgr([q, v]).item() == pytest.approx(expected)
    assert gradcheck(lambda x, y: soft_hgr([x, y]), q, v)


def test_soft_hgr_of_too_little() -> None:
    for n in (0, 1):
        q, v = rows(n, 3), rows(n, 3)
        assert quiet(soft_hgr([q, v]), q, v)
    with pytest.raises(ValueError, match=r"expected two or more modalities of one shape, got \[\(2, 3\)\]"):
        soft_hgr([rows(2, 3)])
    with pytest.raises(ValueError, match=r"got \[\(2, 3\), \(2, 4\)\]"):
        soft_hgr([rows(2, 3), rows(2, 4)])


def test_orthogonality_by_hand() -> None:
    a = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    b = torch.tensor([[2.0], [2.0], [-2.0], [-2.0]])
    assert orthogonality(a, b).item() == pytest.approx(0)
    assert orthogonality(a, 3 * a + 5).item() == pytest.approx(1)
    # the first column of the private part, 1/sqrt(2) of a row's length, goes with the shared one
    assert orthogonality(a, torch.cat([2 * a, b], 1)).item() == pytest.approx(0.5)
    assert gradcheck(orthogonality, rows(5, 3), rows(5, 2, seed=1))
    for n in (0, 1):
        x, y = rows(n, 3), rows(n, 2)
        assert quiet(orthogonality(x, y), x, y)


def angles(*degrees: float) -> Tensor:
    """Unit vectors (N, 2), times 3: only the angle may count."""
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return (3 * torch.stack([radians.cos(), radians.sin()], 1)).requires_grad_()


def test_triplet_takes_the_semi_hard_negative_by_hand() -> None:
    # distances 1 - cos. Anchor at 0, partner at 60: 1/2. Negatives at 90 (1) and 180 (2) of the anchor,
    # so the semi-hard one is at 90; of the partner they are 30 and 120 degrees off, so it is the one at 120.
    points, label = angles(0, 60, 90, 180), torch.tensor([0, 0, 1, 2])
    first, second = 0.5 - 1 + 0.8, max(0.0, 0.5 - 1.5 + 0.8)
    assert triplet_margin(points, label, 0.8).item() == pytest.approx((first + second) / 2)
    assert triplet_margin(points, label, 1.2).item() == pytest.approx((0.7 + 0.2) / 2)


def test_triplet_takes_the_farthest_negative_where_all_are_nearer() -> None:
    points, label = angles(0, 180, 60, 90), torch.tensor([0, 0, 1, 2])
    # both partners are 2 apart. The anchor at 0 has negatives at 1/2 and 1, the one at 180 at 3/2 and 1.
    assert triplet_margin(points, label, 0.5).item() == pytest.approx(((2 - 1 + 0.5) + (2 - 1.5 + 0.5)) / 2)


def test_triplet_gradient() -> None:
    label = torch.tensor([0, 1, 0, 2, 1, 0, -100])
    assert gradcheck(lambda e: triplet_margin(e, label, 0.5), rows(7, 3))


@pytest.mark.parametrize("label", [[], [0], [0, 0, 0], [0, 1, 2], [-100, -100, 1]])
def test_triplet_without_a_triplet_is_a_zero_that_trains(label: list[int]) -> None:
    embeddings = rows(len(label), 3)
    assert quiet(triplet_margin(embeddings, torch.tensor(label, dtype=torch.int64), 0.2), embeddings)


def gaussians(n: int, rho: float) -> tuple[Tensor, Tensor]:
    """Pairs (n, 1) of correlation rho; their information is -log(1 - rho^2) / 2."""
    a, noise = torch.randn(2, n, 1)
    return a, rho * a + math.sqrt(1 - rho**2) * noise


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_mine_recovers_the_information_of_gaussians(rho: float) -> None:
    torch.manual_seed(0)
    mine = Mine(1, 1, 32)
    optimizer = torch.optim.Adam(mine.parameters(), 3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        (-mine(*gaussians(256, rho))).backward()
        optimizer.step()
    with torch.no_grad():
        found = mine.eval()(*gaussians(20_000, rho)).item()
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.08)


def test_mine_never_pairs_a_row_with_itself() -> None:
    torch.manual_seed(0)
    mine = Mine(1, 1, 2)

    class Equal(torch.nn.Module):
        def forward(self, pairs: Tensor) -> Tensor:
            return 20.0 * (pairs[:, :1] == pairs[:, 1:])

    mine.score = Equal()  # joint: 20 each; another order: exp 0 each, unless a row kept its place
    for n in (2, 3, 10):
        a = torch.arange(float(n)).unsqueeze(1)
        assert mine(a, a).item() == pytest.approx(20)


def test_mine_gradient_divides_by_the_running_mean() -> None:
    torch.manual_seed(0)
    mine = Mine(2, 2, 4).double()
    a, b = rows(2, 2), rows(2, 2, seed=1)  # of two rows there is only one other order
    assert gradcheck(mine.eval(), a, b)
    plain = torch.autograd.grad(mine(a, b), mine.score[0].weight)[0]
    joint = torch.autograd.grad(mine.score(torch.cat([a, b], 1)).mean(), mine.score[0].weight)[0]
    mine.train()
    first = mine(a, b)  # the running mean begins at the first batch's
    torch.testing.assert_close(torch.autograd.grad(first, mine.score[0].weight)[0], plain)
    mine.log_denominator += 50.0  # as if earlier batches had been far larger: the second term fades
    later = mine(a, b)
    assert later.item() == pytest.approx(first.item())
    torch.testing.assert_close(torch.autograd.grad(later, mine.score[0].weight)[0], joint)


@pytest.mark.parametrize("n", [0, 1])
def test_mine_of_too_little(n: int) -> None:
    a, b = rows(n, 2), rows(n, 3)
    mine = Mine(2, 3, 4).double()
    assert quiet(mine(a, b), a, b)
    assert mine.log_denominator.item() == -math.inf


def identity_club() -> Club:
    """q(y | x) = N(y; x, 1) in one dimension, through relu(x) and relu(-x)."""
    club = Club(1, 1, 2).double()
    with torch.no_grad():
        for parameter in club.parameters():
            parameter.zero_()
        club.q[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        club.q[2].weight[0].copy_(torch.tensor([1.0, -1.0]))
    return club


def test_club_by_hand() -> None:
    club, x = identity_club(), torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    # own y fits exactly, the other is 2 off: the mean over j of 2^2 / 2 is 1 for each row
    assert club.bound(x, x).item() == pytest.approx(1)
    assert club.bound(x, -x).item() == pytest.approx(-1)
    assert club.fit(x, x).item() == pytest.approx(0.5 * math.log(2 * math.pi))
    assert club.fit(x, x + 3).item() == pytest.approx(4.5 + 0.5 * math.log(2 * math.pi))


def test_club_equals_its_equation() -> None:
    torch.manual_seed(0)
    club = Club(3, 2, 5).double()
    x, y = rows(6, 3), rows(6, 2, seed=1)
    mean, raw = club.q(x).chunk(2, 1)
    q = torch.distributions.Normal(mean[:, None], (2 * torch.tanh(raw / 4)).exp()[:, None])
    pairs = q.log_prob(y).sum(2)  # (N, N): log q(y_j | x_i)
    torch.testing.assert_close(club.bound(x, y), (pairs.diagonal() - pairs.mean(1)).mean())
    torch.testing.assert_close(club.fit(x, y), -pairs.diagonal().mean())
    assert gradcheck(club.bound, x, y)


def test_club_parts_what_it_teaches() -> None:
    club, x, y = Club(3, 2, 5).double(), rows(6, 3), rows(6, 2, seed=1)
    club.bound(x, y).backward()
    assert x.grad.any()
    assert y.grad.any()
    assert all(parameter.grad is None for parameter in club.parameters())
    x.grad = y.grad = None
    club.fit(x, y).backward()
    assert x.grad is None
    assert y.grad is None
    assert all(parameter.grad.any() for parameter in club.parameters())


def test_club_bounds_the_information_of_gaussians_from_above() -> None:
    torch.manual_seed(0)
    club, rho = Club(1, 1, 16), 0.7
    optimizer = torch.optim.Adam(club.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        club.fit(*gaussians(256, rho)).backward()
        optimizer.step()
    bound = club.bound(*gaussians(20_000, rho)).item()
    # with the true q it is rho^2 / (1 - rho^2), above the information
    assert bound == pytest.approx(rho**2 / (1 - rho**2), rel=0.15)
    assert bound > -0.5 * math.log(1 - rho**2)


def test_club_of_nothing() -> None:
    club, x, y = Club(3, 2, 5).double(), rows(0, 3), rows(0, 2)
    assert quiet(club.bound(x, y), x, y)
    assert quiet(club.fit(x, y), *club.parameters())
