"""Where a training stands in its steps, items and time: what a run goes on from, beside weights, optimizer and feed."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, cast

from kun.errors import Diverged

WINDOW = 50
"""Losses that the guard against divergence remembers."""


class StateFacts(TypedDict):
    """What a snapshot says of a state. One of before has `tokens` for `items`."""

    items: int
    seconds: float
    busy: float
    idle: float
    best: float | None
    worse: int
    losses: list[float]
    ended: str


@dataclass
class TrainerState:
    """Where a training stands: all of it goes into snapshots."""

    step: int = 0
    items: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    """Of the seconds of all steps, those in the network and the optimizer."""
    idle: float = 0.0
    """Those in all else that belongs to a step."""
    best: float = math.inf
    worse: int = 0
    """Evaluations since the best one."""
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    ended: str = ""
    """Why the task's own verdict ended the training."""

    def facts(self) -> StateFacts:
        return {
            "items": self.items,
            "seconds": self.seconds,
            "busy": self.busy,
            "idle": self.idle,
            "best": self.best if math.isfinite(self.best) else None,
            "worse": self.worse,
            "losses": list(self.losses),
            "ended": self.ended,
        }

    @classmethod
    def of(cls, step: int, facts: Mapping[str, object]) -> "TrainerState":
        """The state after `step`, from the facts of its snapshot."""
        f = cast(StateFacts, {"items": facts.get("tokens"), "ended": "", **facts})
        best = math.inf if f["best"] is None else f["best"]
        losses = deque(f["losses"], maxlen=WINDOW)
        return cls(step, f["items"], f["seconds"], f["busy"], f["idle"], best, f["worse"], losses, f["ended"])

    def check(self, loss: float, norm: float, place: str) -> None:
        """Raise `Diverged` where the next step's loss or gradient must not reach the weights."""
        where = f"step {self.step + 1}{f' ({place})' if place else ''}"
        fix = "lower optimizer.lr, lengthen optimizer.warmup, or set optimizer.clip; the last snapshot is as it was"
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise Diverged(f"The {what} of {where} is no number: {fix}.")
        if len(self.losses) == WINDOW:
            ordered = sorted(self.losses)
            usual, spread = ordered[WINDOW // 2], ordered[-WINDOW // 4] - ordered[WINDOW // 4]
            if loss > 3 * usual + 10 * spread + 3:
                raise Diverged(f"The loss of {where} is {loss:.3g} where {usual:.3g} was usual: {fix}.")
