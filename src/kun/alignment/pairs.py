"""Pairs of answers in a batch of rankings."""

from torch import Tensor

from kun.training.feed import Batch


def pair_weights(batch: Batch) -> Tensor:
    """What each pair counts, float32 [pairs]: those of one ranking one together, so that long ones do not rule."""
    return 1.0 / batch["rankings"][batch["of"]].float()
