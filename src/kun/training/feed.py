"""Which rows each step learns from: an order that seed and place alone decide, the same on every machine.

Nothing is remembered but the place, so that a run can be taken up anywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kun.data.packing import PackedBatch, PackedRows, PackingPlan
from kun.errors import BadRecipe

Batch = dict[str, Tensor]
"""What an objective makes a loss from: tensors by name, their first dimension the rows."""


@dataclass(frozen=True)
class Place:
    """Where a training stands in its data: `row` rows of epoch `epoch` are done."""

    epoch: int = 0
    row: int = 0


@dataclass(frozen=True)
class Share:
    """Which part of each step's rows this process takes: the `rank`-th of `world`."""

    rank: int = 0
    world: int = 1


ALONE = Share()


class Feed(Protocol):
    """Where the loop gets its batches."""

    def divide(self, share: Share) -> None:
        """From now on take `share` of each step's rows alone. Raises `BadRecipe` where they cannot be shared so."""

    def step(self, place: Place) -> tuple[list[Batch], Place]:
        """This process's batches of the step at `place`, each as much as goes through at once; and the next place."""

    def evaluation(self) -> Iterator[Batch]:
        """This process's share of the evaluation data, always the same."""

    def epochs(self, place: Place) -> float:
        """How often all the data has been seen at `place`."""


class PackedFeed:
    """Rows of a fixed number of tokens in which documents are packed."""

    def __init__(
        self,
        train: PackedRows,
        evaluation: PackedRows | None,
        *,
        seed: int,
        step_tokens: int,
        micro_tokens: int,
        eval_tokens: int,
    ) -> None:
        self.train, self.held_out, self.seed, self.share = train, evaluation, seed, ALONE
        self.rows_per_step = max(1, round(step_tokens / train.context))
        self.micro_rows = max(1, micro_tokens // train.context)
        self.eval_rows = max(1, eval_tokens // train.context)
        self._epoch: tuple[int, Any, np.ndarray] | None = None

    def divide(self, share: Share) -> None:
        """See `Feed`: as many rows for each."""
        rows, context = self.rows_per_step, self.train.context
        if rows % share.world:
            fitting = max(share.world, rows // share.world * share.world) * context
            raise BadRecipe(
                f"train.batch_tokens makes {rows} rows of {context} tokens, which {share.world} processes cannot "
                f"share evenly; {fitting} would do."
            )
        self.share = share

    def step(self, place: Place) -> tuple[list[Batch], Place]:
        """See `Feed`; an epoch's last rows and the next one's first may share a step."""
        wanted = self.rows_per_step
        pieces: list[tuple[Any, np.ndarray]] = []
        while wanted:
            plan, order = self._of_epoch(place.epoch)
            some = order[place.row : place.row + wanted]
            pieces.append((plan, some))
            wanted -= len(some)
            done = place.row + len(some) == len(order)
            place = Place(place.epoch + 1, 0) if done else Place(place.epoch, place.row + len(some))
        return self._batches(pieces), place

    def _batches(self, pieces: list[tuple[Any, np.ndarray]]) -> list[Batch]:
        """This process's rows, in batches of `micro_rows`: as many in each, so that all have one shape."""
        each = self.rows_per_step // self.share.world
        first, last = self.share.rank * each, (self.share.rank + 1) * each
        before, parts = 0, []
        for plan, indices in pieces:
            mine = indices[max(0, first - before) : max(0, last - before)]
            before += len(indices)
            if len(mine):
                parts.append(plan.batch(mine))
        whole = _joined(parts)
        rows = next(n for n in range(min(self.micro_rows, each), 0, -1) if each % n == 0)
        return [tensors(_rows(whole, start, start + rows)) for start in range(0, each, rows)]

    def _of_epoch(self, epoch: int) -> tuple[Any, np.ndarray]:
        if self._epoch is None or self._epoch[0] != epoch:
            plan = self.train.plan(epoch)
            order = np.random.default_rng((self.seed, epoch)).permutation(len(plan))
            self._epoch = epoch, plan, order
        return self._epoch[1:]

    def evaluation(self) -> Iterator[Batch]:
        """See `Feed`: the first rows of the held-out data, which are packed once for all."""
        if self.held_out is None:
            return
        plan = self._evaluated
        chosen = np.random.default_rng(0).permutation(len(plan))[: self.eval_rows]
        mine = chosen[self.share.rank :: self.share.world]
        for start in range(0, len(mine), self.micro_rows):
            yield tensors(plan.batch(mine[start : start + self.micro_rows]))

    @cached_property
    def _evaluated(self) -> PackingPlan:
        assert self.held_out is not None
        return self.held_out.plan(0)

    def epochs(self, place: Place) -> float:
        return place.epoch + place.row / max(1, len(self._of_epoch(place.epoch)[1]))


def _joined(parts: list[PackedBatch]) -> PackedBatch:
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(_columns(part) for part in parts), strict=True)
    return PackedBatch(*(np.concatenate(column) for column in columns))


def _rows(batch: PackedBatch, start: int, end: int) -> PackedBatch:
    return PackedBatch(*(column[start:end] for column in _columns(batch)))


def _columns(batch: PackedBatch) -> list[Any]:
    return [getattr(batch, column.name) for column in fields(batch)]


def tensors(batch: PackedBatch) -> Batch:
    """A packed batch as tensors; the mask is left out where each row is one whole document."""
    made = {
        "input_ids": torch.from_numpy(batch.input_ids),
        "labels": torch.from_numpy(batch.labels),
        "places": torch.from_numpy(batch.places),
    }
    if batch.documents.min() != 1 or batch.documents.max() != 1:
        made["attention_mask"] = torch.from_numpy(batch.documents)
    return made
