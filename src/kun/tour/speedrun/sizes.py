"""The size of network that suits the time: measured on this machine, not guessed."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from kun.objectives.next_token import NextToken
from kun.objectives.text.fresh import new_config
from kun.objectives.text.model import tokenizer_of
from kun.tour.speedrun.facts import RecipeValues
from kun.training.flops import flops_per_token
from kun.training.networks import Networks
from kun.training.recipe import Recipe, parse_recipe
from kun.training.resolving import find_family

_TOKENS_PER_PARAMETER = 1.5
"""Far fewer than the 20 of Hoffmann et al. (arXiv:2203.15556): in networks this small most parameters are the table of
tokens. Measured in 36 s on one thread, 3 × 128 came to the held-out loss of 2 × 64 (5.03, 4.87) with 0.7 of them, and
4 × 192 did not (5.48) with 0.2.
"""
_SHAPES = (
    (2, 64), (3, 128), (4, 192), (4, 256), (5, 320), (6, 384), (8, 448), (8, 512), (10, 640), (12, 768),
)  # fmt: skip
_HEAD = 64
_MEASURED_TOKENS, _MEASUREMENTS = 2048, 6
_LONG_ENOUGH = 1.0
"""Seconds after which no other step is measured: on a machine that others keep busy one may take that long."""
_BY_FAR = 1.2


@dataclass(frozen=True)
class Budget:
    """Limits that follow from the minutes alone."""

    minutes: float

    @property
    def vocabulary(self) -> int:
        steps = ((2, 2048), (20, 4096), (120, 8192))
        return next((size for limit, size in steps if self.minutes < limit), 16384)

    @property
    def characters(self) -> int:
        """Of documentation to read."""
        return round(max(0.5, 2.0 * self.minutes) * 1e6)

    @property
    def context(self) -> int:
        return 128 if self.minutes < 2 else 256

    @property
    def asked(self) -> int:
        """Questions of each kind."""
        return round(min(100, max(12, 8 * self.minutes)))


@dataclass(frozen=True)
class Size:
    """Layers and width of a network, its parameters, and the tokens per second that it is expected to learn from."""

    n_layers: int
    d_model: int
    parameters: int
    tokens_per_s: float

    @property
    def sizes(self) -> dict[str, int]:
        return {"n_layers": self.n_layers, "n_heads": max(1, self.d_model // _HEAD), "d_model": self.d_model}


def choose_size(values: RecipeValues, seconds: float) -> Size:
    """The largest network that sees enough tokens for its size in `seconds` of a recipe (its `values`, without sizes).

    Only the second smallest is measured: the others' operations for each token tell how much slower they are.
    """
    best: Size | None = None
    measured = _speed(*_network(values, *_SHAPES[1]), values["train"]["context"])
    for n_layers, d_model in _SHAPES:
        with torch.device("meta"):
            net, operations = _network(values, n_layers, d_model)
        parameters = sum(p.numel() for p in net.parameters())
        size = Size(n_layers, d_model, parameters, measured / operations)
        if best is not None and size.tokens_per_s * seconds < _TOKENS_PER_PARAMETER * parameters:
            break
        best = size
    assert best is not None
    return best


def choose_threads(values: RecipeValues) -> int:
    """All threads, or one where that is faster by far: small steps wait for a thread whose core others are using."""
    every = torch.get_num_threads()
    made = _network(values, *_SHAPES[1])
    speeds = {}
    try:
        for count in dict.fromkeys((every, 1)):
            torch.set_num_threads(count)
            speeds[count] = _speed(*made, values["train"]["context"])
    finally:
        torch.set_num_threads(every)
    return 1 if speeds[1] > _BY_FAR * speeds[every] else every


def _network(values: RecipeValues, n_layers: int, d_model: int) -> tuple[Any, float]:
    """A network of these sizes, and its operations for each token."""
    sizes = Size(n_layers, d_model, 0, 0.0).sizes
    recipe: Recipe = parse_recipe({**values, "model": {**values["model"], **sizes}})
    tokenizer, _ = tokenizer_of(recipe.model, recipe.data)
    context = values["train"]["context"]
    config = new_config(recipe.model, tokenizer, context)
    net = find_family(str(values["model"]["family"])).network(config)
    return net, flops_per_token(net, context)


def _speed(net: Any, operations: float, context: int) -> float:
    """Floating-point operations per second of a network's steps in bfloat16, whatever else this machine does now."""
    net = net.to(torch.bfloat16)
    ids = torch.randint(0, 256, (_MEASURED_TOKENS // context, context))
    batch = {"input_ids": ids, "labels": ids}
    NextToken().loss(Networks(net), batch).sum.backward()
    began, seconds, steps = time.perf_counter(), 0.0, 0
    while steps < _MEASUREMENTS and seconds < _LONG_ENOUGH:
        NextToken().loss(Networks(net), batch).sum.backward()
        steps, seconds = steps + 1, time.perf_counter() - began
    return operations * ids.numel() * steps / seconds
