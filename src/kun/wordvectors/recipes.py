"""The recipe of a training of word vectors, from the few things that a command asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["skip-gram", "cbow", "glove"]
METHODS: tuple[Method, ...] = ("skip-gram", "cbow", "glove")

RATES: dict[Method, float] = {"skip-gram": 0.025, "cbow": 0.05, "glove": 0.05}
"""The first step's rate, as the papers' own programs have it."""
WINDOWS: dict[Method, int] = {"skip-gram": 5, "cbow": 5, "glove": 10}
EPOCHS: dict[Method, int] = {"skip-gram": 5, "cbow": 5, "glove": 25}
_LAST = {"skip-gram": 0.004, "cbow": 0.004, "glove": 1.0}
"""The last step's rate as a share of the first: word2vec's falls, AdaGrad's own falls by itself."""


@dataclass(frozen=True)
class Wanted:
    """The wishes of a command; None leaves a value to the method."""

    source: Sequence[str]
    out: str | None = None
    method: Method = "skip-gram"
    dimensions: int = 100
    window: int | None = None
    epochs: float | None = None
    min_count: int = 5
    seed: int = 0
    eval: float | None = None
    analogies: str | None = None

    def recipe(self) -> dict[str, object]:
        """The recipe, as `kun.training.recipe.parse_recipe` takes it."""
        glove = self.method == "glove"
        objective: dict[str, object] = {
            "name": "glove" if glove else "word2vec",
            "dimensions": self.dimensions,
            "window": WINDOWS[self.method] if self.window is None else self.window,
            "min_count": self.min_count,
        }
        objective |= {} if glove else {"architecture": self.method}
        objective |= {"analogies": self.analogies} if self.analogies else {}
        data: dict[str, object] = {"train": [*self.source] if len(self.source) > 1 else self.source[0]}
        data |= {} if self.eval is None else {"eval": self.eval}
        train: dict[str, object] = {
            "epochs": float(EPOCHS[self.method] if self.epochs is None else self.epochs)
        }
        train |= {"eval_every": 50} if self.eval is not None or self.analogies else {}
        recipe: dict[str, object] = {
            "stage": "vectors",
            "seed": self.seed,
            "data": data,
            "train": train,
            "objective": objective,
            "optimizer": {
                "name": "sgd",
                "lr": RATES[self.method],
                "schedule": "constant" if glove else "linear",
                "final": _LAST[self.method],
            },
        }
        return recipe | ({"out": self.out} if self.out else {})
