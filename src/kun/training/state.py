"""The place of a training in its steps, items and time, from which it goes on with weights, optimizer and feed."""

import math
from collections import deque
from dataclasses import asdict, dataclass, field, fields

from kun.errors import Diverged
from kun.training.snapshot import Snapshot

WINDOW = 50
"""Losses that the guard against divergence remembers."""


@dataclass
class TrainerState:
    """The place of a training: all of it goes into snapshots."""

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

    def facts(self) -> dict[str, object]:
        """All of it but the step, as JSON has it."""
        best = self.best if math.isfinite(self.best) else None
        values = {**asdict(self), "best": best, "losses": list(self.losses)}
        del values["step"]
        return values

    @classmethod
    def of(cls, snapshot: Snapshot) -> "TrainerState":
        """The state that a snapshot was taken in; one of before has `tokens` for `items`."""
        facts = {"items": snapshot.facts.get("tokens"), **snapshot.facts, "step": snapshot.step}
        facts["best"] = math.inf if facts["best"] is None else facts["best"]
        facts["losses"] = deque(facts["losses"], maxlen=WINDOW)
        return cls(**{one.name: facts[one.name] for one in fields(cls) if one.name in facts})

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
