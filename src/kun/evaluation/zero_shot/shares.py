"""Scores to shares that add up to one."""

import numpy as np


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """The logarithm of each row's shares, [n, labels]."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    shares: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shares
