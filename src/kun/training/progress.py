"""Where a training stands in its steps, data and time: what a run goes on from, beside weights and optimizer."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from kun.errors import Diverged
from kun.training.feed import Place
from kun.training.snapshot import Snapshot

WINDOW = 50
"""Losses that the guard against divergence remembers."""


@dataclass
class Progress:
    """Where a training stands: all of it goes into snapshots."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    """Of the seconds of all steps, those in the network and the optimizer."""
    idle: float = 0.0
    """Those in all else that belongs to a step."""
    place: Place = field(default_factory=Place)
    best: float = math.inf
    worse: int = 0
    """Evaluations since the best one."""
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def facts(self) -> dict[str, Any]:
        best = self.best if math.isfinite(self.best) else None
        return {
            "tokens": self.tokens,
            "seconds": self.seconds,
            "busy": self.busy,
            "idle": self.idle,
            "epoch": self.place.epoch,
            "row": self.place.row,
            "best": best,
            "worse": self.worse,
            "losses": list(self.losses),
        }

    def check(self, loss: float, norm: float) -> None:
        """Raise `Diverged` where the next step's loss or gradient must not reach the weights."""
        where = f"step {self.step + 1} (epoch {self.place.epoch}, rows from {self.place.row})"
        mend = "lower optimizer.lr, lengthen optimizer.warmup, or set optimizer.clip; the last snapshot is as it was"
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise Diverged(f"The {what} of {where} is no number: {mend}.")
        if len(self.losses) == WINDOW:
            ordered = sorted(self.losses)
            usual, spread = ordered[WINDOW // 2], ordered[-WINDOW // 4] - ordered[WINDOW // 4]
            if loss > 3 * usual + 10 * spread + 3:
                raise Diverged(f"The loss of {where} is {loss:.3g} where {usual:.3g} was usual: {mend}.")

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Progress":
        f = snapshot.facts
        losses: deque[float] = deque(f["losses"], maxlen=WINDOW)
        best = math.inf if f["best"] is None else f["best"]
        place = Place(f["epoch"], f["row"])
        return cls(
            snapshot.step, f["tokens"], f["seconds"], f["busy"], f["idle"], place, best, f["worse"], losses
        )
