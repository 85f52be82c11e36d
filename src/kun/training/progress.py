"""Where a training stands in its steps, data and time: what a run goes on from, beside weights and optimizer."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

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

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Progress":
        f = snapshot.facts
        losses: deque[float] = deque(f["losses"], maxlen=WINDOW)
        best = math.inf if f["best"] is None else f["best"]
        place = Place(f["epoch"], f["row"])
        return cls(
            snapshot.step, f["tokens"], f["seconds"], f["busy"], f["idle"], place, best, f["worse"], losses
        )
