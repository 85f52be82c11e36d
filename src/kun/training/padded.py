"""A feed of rows that stand by themselves, padded: pairs, labelled texts, text that is to be corrupted."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kun.data.packing import Ints
from kun.data.padding import PaddedBatch, PaddedPlan, PaddedRows, micro_batches
from kun.errors import BadRecipe
from kun.training.feed import ALONE, Batch, Place, Share


class PaddedFeed:
    """Steps of about as many tokens as the recipe asks for, whose rows are of like lengths."""

    def __init__(
        self,
        train: PaddedRows,
        evaluation: PaddedRows | None,
        *,
        micro_tokens: int,
        eval_tokens: int,
    ) -> None:
        self.train, self.held_out, self.share = train, evaluation, ALONE
        self.micro_tokens, self.eval_tokens = micro_tokens, eval_tokens
        self._epoch: tuple[int, PaddedPlan] | None = None

    def divide(self, share: Share) -> None:
        """See `Feed`: every so-manieth row for each."""
        fewest = min(len(step) for step in self._of_epoch(0).steps)
        if fewest < share.world:
            raise BadRecipe(
                f"train.batch_tokens = {self.train.step_tokens} makes a step of {fewest} rows, which {share.world} "
                f"processes cannot share: raise it."
            )
        self.share = share

    def step(self, place: Place) -> tuple[list[Batch], Place]:
        """See `Feed`; no step goes beyond the end of an epoch."""
        plan = self._of_epoch(place.epoch)
        number = int(np.searchsorted(plan.starts, place.row))
        rows = plan.steps[number]
        done = number + 1 == len(plan.steps)
        after = Place(place.epoch + 1, 0) if done else Place(place.epoch, int(plan.starts[number + 1]))
        return list(self._batches(plan, rows[self.share.rank :: self.share.world])), after

    def _batches(self, plan: PaddedPlan, rows: Ints) -> Iterator[Batch]:
        for part in micro_batches(plan, rows, self.micro_tokens):
            yield padded_tensors(plan.batch(part))

    def _of_epoch(self, epoch: int) -> PaddedPlan:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self.train.plan(epoch)
        return self._epoch[1]

    def evaluation(self) -> Iterator[Batch]:
        """See `Feed`: rows of the held-out data up to so many tokens, drawn once for all, the shortest first."""
        if self.held_out is None:
            return
        plan = self._evaluated
        chosen = np.random.default_rng(0).permutation(len(plan))
        chosen = chosen[np.cumsum(plan.widths[chosen]) - plan.widths[chosen] < self.eval_tokens]
        ordered = chosen[np.argsort(plan.widths[chosen], kind="stable")]
        yield from self._batches(plan, ordered[self.share.rank :: self.share.world])

    @cached_property
    def _evaluated(self) -> PaddedPlan:
        assert self.held_out is not None
        return self.held_out.plan(0)

    def epochs(self, place: Place) -> float:
        return place.epoch + place.row / max(1, len(self._of_epoch(place.epoch)))


def padded_tensors(batch: PaddedBatch) -> Batch:
    """A padded batch as tensors; the mask is left out where nothing is padding.

    `labels` int64 [b, t] are the tokens of the targets, `classes` float64 [b] the labels of whole rows.
    """
    arrays: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "attention_mask": None if batch.real.all() else batch.real,
        "labels": batch.targets,
        "classes": batch.labels,
        "token_type_ids": batch.types,
        "learned": batch.learned,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}
