"""The losses of the networks' papers.

They take N turns without padding or missing modalities, which the caller selects. Without anything to learn
from (N = 0, or no pairs) a loss is a zero that still depends on its inputs, so that ``backward`` works.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

_SMALL = 1e-6
"""Lower bound that keeps a power of a difference differentiable."""
_MAX_LOG_VARIANCE = 4.0
"""Bound of CLUB's log variances, so that a dimension of low variance cannot outweigh all others."""


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the cross-entropy against target distributions, a weighted mean over the rows.

    Args:
        logits: (N, C).
        target: (N, C) probabilities, one-hot or soft.
        weight: (N,), or None for the plain mean.
    """
    losses = -(target * logits.log_softmax(-1)).sum(-1)  # (N,)
    weight = torch.ones_like(losses) if weight is None else weight
    return (losses * weight).sum() / weight.sum().clamp(min=1e-9)


def r_drop(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """Return the symmetric Kullback-Leibler divergence of two dropout passes (R-Drop, eq. 2).

    Args:
        logits_a: (N, C).
        logits_b: (N, C), of the same rows.

    Returns:
        The mean over rows of (KL(a|b) + KL(b|a)) / 2.
    """
    if not len(logits_a):
        return _nothing(logits_a, logits_b)
    a, b = logits_a.log_softmax(-1), logits_b.log_softmax(-1)
    return 0.5 * ((a.exp() - b.exp()) * (a - b)).sum(-1).mean()


def sample_weighted_focal_contrastive(
    features: Tensor, label: Tensor, counts: Tensor, *, temperature: float, alpha: float, gamma: float
) -> Tensor:
    """Return the sample-weighted focal contrastive loss, SWFC (MultiEMO, eq. 18-19).

    Turns of a class attract each other, hard pairs (small s) and rare classes more strongly. The features
    are scaled to unit length first, which the paper leaves open: otherwise products are unbounded and s
    saturates. An anchor without a positive has no term.

    Args:
        features: (N, D).
        label: int64 (N,); rows with a negative label are left out.
        counts: (C,) training examples of each class; the weight of class y is (sum counts / counts[y])^alpha.
        temperature: tau.
        alpha: 0 weights all classes equally.
        gamma: 0 gives the plain supervised contrastive loss.

    Returns:
        The mean over the anchors that have a positive.
    """
    features, label = features[label >= 0], label[label >= 0]
    positive = _same(label)
    degree = positive.sum(1)  # |R|
    anchors = degree > 0
    if not bool(anchors.any()):
        return _nothing(features)
    unit = F.normalize(features, dim=1)
    score = unit @ unit.t() / temperature
    itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
    log_s = score.masked_fill(itself, torch.finfo(score.dtype).min).log_softmax(1)
    log_s = log_s.where(positive, 0.0)[anchors]  # before the power, which must get no gradient from others
    focus = (-torch.expm1(log_s)).clamp(min=_SMALL) ** gamma  # (1 - s)^gamma
    share = counts.clamp(min=1).to(score.dtype)
    weight = (share.sum() / share)[label[anchors]] ** alpha
    return -(weight * (focus * log_s).sum(1) / degree[anchors]).mean()


def soft_hgr(features: Sequence[Tensor]) -> Tensor:
    """Return the Soft Hirschfeld-Gebelein-Renyi loss between modalities (MultiEMO, eq. 20).

    It is low if the modalities of a turn agree: -(E[Q.V] - tr(cov Q cov V) / 2) with centred features and
    D x D covariances over the features. Without the covariances it would have no lower bound.

    Args:
        features: the modalities of the same turns, each (N, D). Each pair counts once.

    Returns:
        The sum over the pairs; expectations divide by N - 1 (Wang et al. 2019), so it is 0 for N < 2.

    Raises:
        ValueError: fewer than two modalities, or their shapes differ.
    """
    shapes = {tuple(f.shape) for f in features}
    if len(features) < 2 or len(shapes) > 1:
        raise ValueError(
            f"expected two or more modalities of one shape, got {[tuple(f.shape) for f in features]}"
        )
    n = len(features[0])
    if n < 2:
        return _nothing(*features)
    centred = [f - f.mean(0) for f in features]
    covariances = [c.t() @ c / (n - 1) for c in centred]  # (D, D) each
    total = _nothing(*features)
    for i, j in combinations(range(len(features)), 2):
        agreement = (centred[i] * centred[j]).sum() / (n - 1)
        total = total - agreement + 0.5 * (covariances[i] * covariances[j]).sum()
    return total


def triplet_margin(embeddings: Tensor, label: Tensor, margin: float) -> Tensor:
    """Return the triplet loss with semi-hard negatives in cosine distance (FaceNet, eq. 4).

    Each positive pair is compared with the nearest turn of another class that is farther from the anchor than
    the positive, or, if there is none, with the farthest turn of another class. With noisy labels the hardest
    negatives would make the embeddings collapse.

    Args:
        embeddings: (N, D), scaled to unit length here.
        label: int64 (N,); rows with a negative label are left out.
        margin: in cosine distance, which is between 0 and 2.

    Returns:
        The mean over the anchors that have a positive and a negative, of the mean over their positives.
    """
    embeddings, label = embeddings[label >= 0], label[label >= 0]
    positive, other = _same(label), label[:, None] != label
    anchors = positive.any(1) & other.any(1)
    if not bool(anchors.any()):
        return _nothing(embeddings)
    unit = F.normalize(embeddings, dim=1)
    distance = (1 - unit @ unit.t())[anchors]  # (A, N)
    positive, other = positive[anchors], other[anchors]
    negatives = distance.masked_fill(~other, torch.inf).sort(1).values
    farther = torch.searchsorted(negatives.detach(), distance.detach(), right=True)
    negative = negatives.gather(1, farther.minimum(other.sum(1, keepdim=True) - 1))
    losses = F.relu(distance - negative + margin).where(positive, 0.0)
    return (losses.sum(1) / positive.sum(1)).mean()


def orthogonality(shared: Tensor, private: Tensor) -> Tensor:
    """Return the difference loss between shared and private representations (Bousmalis et al. 2016).

    It is the squared Frobenius norm of S^T P / N over centred columns and rows of unit length: 0 if no
    direction of one correlates with any direction of the other.

    Args:
        shared: (N, D).
        private: (N, E), of the same rows.
    """
    n = len(shared)
    if n < 2:
        return _nothing(shared, private)
    s, p = (F.normalize(rows - rows.mean(0), dim=1) for rows in (shared, private))
    return (s.t() @ p / n).square().sum()


class Mine(nn.Module):
    """A lower bound of the mutual information I(a; b) (MINE, Belghazi et al. 2018; MMMIE, eq. 11).

    E[T(a, b)] - log E[exp T(a, b')], with b' the rows of b permuted so that none keeps its place. In training
    mode the gradient of the second term divides by a running mean of E[exp T], since the batch's own mean
    would bias it (MINE, section 3.2); the value is the batch's.
    """

    log_denominator: Tensor

    def __init__(self, dim_a: int, dim_b: int, hidden: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.score = nn.Sequential(
            nn.Linear(dim_a + dim_b, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )
        self.register_buffer("log_denominator", torch.tensor(-torch.inf))  # until the first batch

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the bound in nats, to be maximised, from (N, Da) and (N, Db); zero for N < 2."""
        n = len(a)
        if n < 2:
            return _nothing(a, b)
        order = torch.randperm(n, device=a.device)
        shuffled = b.index_select(0, order.roll(1)[order.argsort()])  # one cycle: no row stays
        pairs = torch.cat([torch.cat([a, a]), torch.cat([b, shuffled])], 1)
        joint, apart = self.score(pairs).squeeze(1).split(n)
        log_mean = apart.logsumexp(0) - math.log(n)
        if not self.training:
            return joint.mean() - log_mean
        now = log_mean.detach().to(self.log_denominator.dtype)
        running = torch.logaddexp(self.log_denominator + math.log(self.decay), now + math.log1p(-self.decay))
        running = running.where(self.log_denominator.isfinite(), now)
        self.log_denominator.copy_(running)
        ratio = torch.exp(log_mean - running)
        return joint.mean() - log_mean.detach() - (ratio - ratio.detach())


class Club(nn.Module):
    """An upper bound of the mutual information I(x; y) (CLUB, Cheng et al. 2020; MMMIE, eq. 14).

    q(y | x) is a Gaussian with a diagonal covariance. `fit` trains q only, `bound` trains x and y only. The
    bound is only as good as the fit of q, and can be negative.
    """

    def __init__(self, dim_x: int, dim_y: int, hidden: int) -> None:
        super().__init__()
        self.q = nn.Sequential(nn.Linear(dim_x, hidden), nn.ReLU(), nn.Linear(hidden, 2 * dim_y))

    def bound(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the bound in nats, to be minimised, from (N, Dx) and (N, Dy); q gets no gradient.

        The mean over j of log q(y_j | x_i) needs only the mean and variance of y, so it costs O(N).
        """
        if not len(x):
            return _nothing(x, y)
        frozen = {name: parameter.detach() for name, parameter in self.q.named_parameters()}
        mean, log_variance = _gaussian(functional_call(self.q, frozen, (x,)))
        centre = y.mean(0)
        spread = (y - centre).square().mean(0)
        off = (centre - mean).square() + spread - (y - mean).square()  # (N, Dy)
        return 0.5 * (off * torch.exp(-log_variance)).sum(1).mean()

    def fit(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the negative log-likelihood of q in nats per row; x and y get no gradient."""
        x, y = x.detach(), y.detach()
        mean, log_variance = _gaussian(self.q(x))
        if not len(x):
            return _nothing(mean)
        errors = (y - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)
        return 0.5 * errors.sum(1).mean()


def _gaussian(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Split a map's output (N, 2 D) into mean and bounded log variance (N, D)."""
    mean, raw = parameters.chunk(2, 1)
    return mean, _MAX_LOG_VARIANCE * torch.tanh(raw / _MAX_LOG_VARIANCE)


def _same(label: Tensor) -> Tensor:
    """Return which pairs of different rows have the same label, bool (N, N)."""
    return (label[:, None] == label).fill_diagonal_(False)


def _nothing(*tensors: Tensor) -> Tensor:
    """Return a zero that depends on the tensors in the graph, whatever their values."""
    return torch.stack([tensor[:0].sum() for tensor in tensors]).sum()
