"""A feed of rows that are padded, each a document: pairs, labelled texts, text that is to be corrupted."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch

from kun.data.packing import Ints
from kun.data.padding import PaddedBatch, PaddedPlan, PaddedRows, micro_batches
from kun.errors import BadRecipe
from kun.objectives.text.cursor import DataCursor, RowFeed
from kun.training.feed import Batch, RankSlice


class PaddedFeed(RowFeed):
    """Steps of about as many tokens as the recipe asks for, whose rows are of like lengths."""

    def __init__(
        self,
        train: PaddedRows,
        evaluation: PaddedRows | None,
        *,
        micro_tokens: int,
        eval_tokens: int,
    ) -> None:
        super().__init__(train.store, evaluation.store if evaluation else None)
        self.train, self.evaluated = train, evaluation
        self.micro_tokens, self.eval_tokens = micro_tokens, eval_tokens
        self._epoch: tuple[int, PaddedPlan] | None = None

    def divide(self, rows: RankSlice) -> None:
        """See `Feed`: each takes every `world`-th row."""
        fewest = min(len(step) for step in self._of_epoch(0).steps)
        if fewest < rows.world:
            raise BadRecipe(
                f"train.batch_tokens = {self.train.step_tokens} makes a step of {fewest} rows, which {rows.world} "
                f"processes cannot share: raise it."
            )
        self.rows = rows

    def at(self, place: DataCursor) -> tuple[list[Batch], DataCursor]:
        """See `RowFeed`; no step goes beyond the end of an epoch."""
        plan = self._of_epoch(place.epoch)
        number = int(np.searchsorted(plan.starts, place.row))
        rows = plan.steps[number]
        done = number + 1 == len(plan.steps)
        after = (
            DataCursor(place.epoch + 1, 0) if done else DataCursor(place.epoch, int(plan.starts[number + 1]))
        )
        return list(self._batches(plan, rows[self.rows.rank :: self.rows.world])), after

    def _batches(self, plan: PaddedPlan, rows: Ints) -> Iterator[Batch]:
        for part in micro_batches(plan, rows, self.micro_tokens):
            yield padded_tensors(plan.batch(part))

    def _of_epoch(self, epoch: int) -> PaddedPlan:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self.train.plan(epoch)
        return self._epoch[1]

    def evaluation(self) -> Iterator[Batch]:
        """See `Feed`: rows of the held-out data up to so many tokens, drawn once for all, the shortest first."""
        if self.evaluated is None:
            return
        plan = self._evaluated
        chosen = np.random.default_rng(0).permutation(len(plan))
        chosen = chosen[np.cumsum(plan.widths[chosen]) - plan.widths[chosen] < self.eval_tokens]
        ordered = chosen[np.argsort(plan.widths[chosen], kind="stable")]
        yield from self._batches(plan, ordered[self.rows.rank :: self.rows.world])

    @cached_property
    def _evaluated(self) -> PaddedPlan:
        assert self.evaluated is not None
        return self.evaluated.plan(0)

    def rows_of(self, epoch: int) -> int:
        return len(self._of_epoch(epoch))


def padded_tensors(batch: PaddedBatch) -> Batch:
    """A padded batch as tensors; the mask is left out where nothing is padding.

    `labels` int64 [b, t] are the tokens of the targets, `classes` float64 [b] the labels of whole rows.
    """
    arrays = {
        "input_ids": batch.input_ids,
        "attention_mask": None if batch.real.all() else batch.real,
        "labels": batch.targets,
        "classes": batch.labels,
        "token_type_ids": batch.types,
        "learned": batch.learned,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}
