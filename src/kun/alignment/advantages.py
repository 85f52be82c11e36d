"""What tokens of answers were worth: Schulman et al., arXiv:1506.02438 (GAE); Shao et al., arXiv:2402.03300."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def token_rewards(score: float, log_probs: Floats, reference: Floats, kl: float) -> Floats:
    """float32 [n]: at each token -kl (log p - the reference's log p), and the score at the last one.

    They add up to score - kl Σ (log p - log p of the reference).
    """
    rewards = -kl * (log_probs - reference)
    rewards[-1] += score
    return rewards.astype(np.float32)


def generalized_advantages(
    rewards: Floats, values: Floats, *, gamma: float, lam: float
) -> tuple[Floats, Floats]:
    """Advantages and returns, float32 [n] each, of one answer, behind whose last token nothing comes."""
    advantages = np.zeros(len(rewards), np.float64)
    ahead = 0.0
    for place in range(len(rewards) - 1, -1, -1):
        following = float(values[place + 1]) if place + 1 < len(rewards) else 0.0
        ahead = float(rewards[place]) + gamma * following - float(values[place]) + gamma * lam * ahead
        advantages[place] = ahead
    return advantages.astype(np.float32), (advantages + values).astype(np.float32)


def group_advantages(scores: Sequence[float]) -> Floats:
    """Of answers to one prompt: how many standard deviations each is above their mean; zeros where all are equal."""
    each = np.asarray(scores, np.float64)
    spread = each.std(ddof=1) if len(each) > 1 else 0.0
    if not spread > 1e-6 * max(1.0, float(np.abs(each).max())):
        return np.zeros(len(each), np.float32)
    return ((each - each.mean()) / spread).astype(np.float32)
