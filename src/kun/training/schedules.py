"""The learning rate over time, as a share of its peak: each schedule is a function of how far training is."""

import math
from collections.abc import Callable

from kun.training.tables import OptimizerTable

Schedule = Callable[[int, float], float]
"""From the step (0, 1, …) and the share of the training that is done, in [0, 1), to the share of the peak rate."""


def make_schedule(table: OptimizerTable) -> Schedule:
    """The schedule that the table asks for, after a linear warm-up over its first `warmup` steps.

    "cosine" and "linear" fall to `final`; "wsd" (warm up, stay, decay: Hu et al., arXiv:2404.06395) stays at the
    peak and falls in the last `decay` of the training; "noam" is the Transformer's (arXiv:1706.03762, section
    5.3), scaled so that its peak, at the end of the warm-up, is one.
    """
    shape = _SHAPES[table.schedule]
    warmup = table.warmup

    def share(step: int, done: float) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return shape(step, min(done, 1.0), table)

    return share


def _cosine(step: int, done: float, table: OptimizerTable) -> float:
    return table.final + (1 - table.final) * 0.5 * (1 + math.cos(math.pi * done))


def _linear(step: int, done: float, table: OptimizerTable) -> float:
    return table.final + (1 - table.final) * (1 - done)


def _wsd(step: int, done: float, table: OptimizerTable) -> float:
    falling = max(0.0, (done - (1 - table.decay)) / table.decay)
    return table.final + (1 - table.final) * (1 - falling)


def _noam(step: int, done: float, table: OptimizerTable) -> float:
    return math.sqrt(max(1, table.warmup) / (step + 1))


def _constant(step: int, done: float, table: OptimizerTable) -> float:
    return 1.0


_SHAPES: dict[str, Callable[[int, float, OptimizerTable], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "wsd": _wsd,
    "noam": _noam,
    "constant": _constant,
}
