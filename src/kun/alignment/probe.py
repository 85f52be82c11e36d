"""A head that is fitted before the network learns: logistic regression on the states of the network as it is.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", arXiv:2202.10054: a
random head, or one of zeros, sends gradients through the network that serve the head; one that is fitted first does
not. How strongly weights are held back is chosen by cross-validation.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the penalty, on states whose spread is one."""
FOLDS = 5
LEAST = 4 * FOLDS
"""Rankings below which nothing is fitted."""
_ITERATIONS = 60


@dataclass(frozen=True)
class PairStates:
    """Of n pairs: states of the better and of the worse answer, float32 [n, d]; what a pair weighs, [n]; by how much it
    is to be better, [n]; and the ranking that it belongs to: pairs of one are learned from, or judged, together.
    """

    better: Tensor
    worse: Tensor
    shares: Tensor
    margins: Tensor
    rankings: list[int]


def fitted_head(states: PairStates, center: float) -> Tensor | None:
    """The weights that best tell better answers from worse ones, float32 [d]; None where none do better than chance.

    What is minimized is the reward model's own loss, with `center` of the squared sum of a pair's scores.
    """
    if len(set(states.rankings)) < LEAST:
        return None
    folds = torch.tensor([number % FOLDS for number in states.rankings])
    spread = (states.better - states.worse).double().std()
    data = _Data(
        (states.better - states.worse).double() / spread,
        (states.better + states.worse).double() / spread * center**0.5,
        states.margins.double(),
        states.shares.double(),
    )
    held_out = {}
    for strength in STRENGTHS:
        fits = [
            (data.among(folds == fold), _fit(data.among(folds != fold), strength)) for fold in range(FOLDS)
        ]
        held_out[strength] = sum(float(left.losses(weights).sum()) for left, weights in fits)
    best = min(held_out, key=lambda strength: held_out[strength])
    chance = data.losses(data.differences.new_zeros(data.differences.shape[1])).sum()
    if held_out[best] >= float(chance):
        return None
    return (_fit(data, best) / spread).float()


class _Data(NamedTuple):
    """Differences and sums of states, [n, d], margins and shares, [n], in float64."""

    differences: Tensor
    sums: Tensor
    margins: Tensor
    shares: Tensor

    def among(self, chosen: Tensor) -> "_Data":
        return _Data(*(each[chosen] for each in self))

    def losses(self, weights: Tensor) -> Tensor:
        """Of each pair by its share: [n]."""
        apart = F.softplus(self.margins - self.differences @ weights)
        return (apart + (self.sums @ weights).square()) * self.shares


def _fit(data: _Data, strength: float) -> Tensor:
    """The minimum of the mean loss and strength / 2 of the squared weights, float64 [d], by L-BFGS."""
    weights = data.differences.new_zeros(data.differences.shape[1], requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = data.losses(weights).sum() / data.shares.sum() + strength / 2 * weights.square().sum()
        value.backward()
        return value

    search.step(loss)
    return weights.detach()
