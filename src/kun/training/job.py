"""A job: all that one training goes by, resolved once from its recipe, which nothing after that sees."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from kun.networks.family import Family
from kun.training.tables import Data, Lora, Model, OptimizerTable, Parallel, Tokenizer, Train

CHANGES_BITS = (
    *(f"train.{key}" for key in ("micro_batch_tokens", "activation_checkpointing")),
    *(f"parallel.{key}" for key in ("data", "tensor", "pipeline", "expert", "shard")),
)
"""What of a recipe changes the order of sums, or what dropout draws."""


@dataclass(frozen=True)
class Job:
    """The tables of a recipe, with the family of its model, None where a task brings networks of its own.

    `values` is the recipe as plain values, for the lineage; `toml` the same as it is written into the run.
    """

    stage: str
    out: str | None
    seed: int
    model: Model
    data: Data
    train: Train
    optimizer: OptimizerTable
    lora: Lora | None
    parallel: Parallel
    tokenizer: Tokenizer | None
    family: Family | None
    values: Mapping[str, object]
    toml: str

    @property
    def batch(self) -> int:
        """Items of a step, of a task that counts no tokens."""
        assert self.train.batch is not None
        return self.train.batch

    def conditions(self, processes: int) -> dict[str, object]:
        """What the last bits of a run depend on, of all that may be otherwise when it goes on."""
        values = flat(self.values)
        return {"processes": processes, "threads": threads(), **{key: values[key] for key in CHANGES_BITS}}


def flat(values: Mapping[str, object]) -> dict[str, object]:
    """The values of a recipe by dotted keys."""
    made: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            made |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            made[key] = value
    return made


def threads() -> int:
    """Threads that tensors are computed with, which a bit-exact resumption needs to be the same."""
    return torch.get_num_threads() or os.cpu_count() or 1
