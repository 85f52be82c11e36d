"""The oldest way to a high reward: an answer that is longer. Singhal et al., arXiv:2310.03716."""

from collections.abc import Sequence

from kun.training.progress import TrainingProgress

LIKE_LENGTH = 0.9
"""A correlation of reward and length above which the reward is as good as the length."""


class LengthFlag:
    """Warns once of a reward that is length."""

    def __init__(self, say: TrainingProgress) -> None:
        self._say, self._is_raised = say, False

    def __call__(self, correlation: float) -> None:
        if abs(correlation) > LIKE_LENGTH and not self._is_raised:
            self._is_raised = True
            more = "longer" if correlation > 0 else "shorter"
            self._say(
                "reward is length", 0, None, f"correlation {correlation:.2f}: {more} may be all that it likes"
            )


def correlation(sums: Sequence[float]) -> float:
    """Pearson's, of how many there are, and the sums of x, y, x², y² and xy; 0 where either never changes."""
    count, x, y, xx, yy, xy = sums
    if count < 2:
        return 0.0
    spread = max(0.0, xx / count - (x / count) ** 2) * max(0.0, yy / count - (y / count) ** 2)
    together = xy / count - x / count * y / count
    return together / spread**0.5 if spread > 1e-18 else 0.0
