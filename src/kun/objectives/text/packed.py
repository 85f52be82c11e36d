"""A feed of rows of a fixed number of tokens in which documents are packed."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch

from kun.data.packing import Ints, PackedBatch, PackedRows, PackingPlan
from kun.errors import BadRecipe
from kun.objectives.text.cursor import DataCursor, RowFeed
from kun.training.feed import Batch, RankSlice


class PackedFeed(RowFeed):
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
        super().__init__(train.store, evaluation.store if evaluation else None)
        self.train, self.evaluated, self.seed = train, evaluation, seed
        self.rows_per_step = max(1, round(step_tokens / train.context))
        self.micro_rows = max(1, micro_tokens // train.context)
        self.eval_rows = max(1, eval_tokens // train.context)
        self._epoch: tuple[int, PackingPlan, Ints] | None = None

    def divide(self, rows: RankSlice) -> None:
        """See `Feed`: as many rows for each."""
        count, context, world = self.rows_per_step, self.train.context, rows.world
        if count % world:
            fitting = max(world, count // world * world) * context
            raise BadRecipe(
                f"train.batch_tokens makes {count} rows of {context} tokens, which {world} processes cannot "
                f"share evenly; {fitting} would do."
            )
        self.rows = rows

    def at(self, place: DataCursor) -> tuple[list[Batch], DataCursor]:
        """See `RowFeed`; an epoch's last rows and the next one's first may share a step."""
        wanted = self.rows_per_step
        pieces: list[tuple[PackingPlan, Ints]] = []
        while wanted:
            plan, order = self._of_epoch(place.epoch)
            some = order[place.row : place.row + wanted]
            pieces.append((plan, some))
            wanted -= len(some)
            done = place.row + len(some) == len(order)
            place = DataCursor(place.epoch + 1, 0) if done else DataCursor(place.epoch, place.row + len(some))
        return self._batches(pieces), place

    def _batches(self, pieces: list[tuple[PackingPlan, Ints]]) -> list[Batch]:
        """This process's rows, in batches of `micro_rows`: as many in each, so that all have one shape."""
        each = self.rows_per_step // self.rows.world
        first, last = self.rows.rank * each, (self.rows.rank + 1) * each
        before, parts = 0, []
        for plan, indices in pieces:
            mine = indices[max(0, first - before) : max(0, last - before)]
            before += len(indices)
            if len(mine):
                parts.append(plan.batch(mine))
        whole = _joined(parts)
        rows = next(n for n in range(min(self.micro_rows, each), 0, -1) if each % n == 0)
        return [tensors(_rows(whole, slice(start, start + rows))) for start in range(0, each, rows)]

    def _of_epoch(self, epoch: int) -> tuple[PackingPlan, Ints]:
        if self._epoch is None or self._epoch[0] != epoch:
            plan = self.train.plan(epoch)
            order = np.random.default_rng((self.seed, epoch)).permutation(len(plan))
            self._epoch = epoch, plan, order
        return self._epoch[1:]

    def evaluation(self) -> Iterator[Batch]:
        """See `Feed`: the first rows of the held-out data, which are packed once for all."""
        if self.evaluated is None:
            return
        plan = self._evaluated
        chosen = np.random.default_rng(0).permutation(len(plan))[: self.eval_rows]
        mine = chosen[self.rows.rank :: self.rows.world]
        for start in range(0, len(mine), self.micro_rows):
            yield tensors(plan.batch(mine[start : start + self.micro_rows]))

    @cached_property
    def _evaluated(self) -> PackingPlan:
        assert self.evaluated is not None
        return self.evaluated.plan(0)

    def rows_of(self, epoch: int) -> int:
        return len(self._of_epoch(epoch)[1])


def _joined(parts: list[PackedBatch]) -> PackedBatch:
    if len(parts) == 1:
        return parts[0]
    return PackedBatch(
        np.concatenate([part.input_ids for part in parts]),
        np.concatenate([part.documents for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.places for part in parts]),
    )


def _rows(batch: PackedBatch, rows: slice) -> PackedBatch:
    return PackedBatch(batch.input_ids[rows], batch.documents[rows], batch.labels[rows], batch.places[rows])


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
