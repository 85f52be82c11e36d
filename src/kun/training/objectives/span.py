"""Span corruption: Raffel et al., T5, arXiv:1910.10683, section 3.1.4.

Spans of a text are left out, each replaced by a sentinel of its own; the target lists them, each after its sentinel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kun.training.cross_entropy import IGNORED
from kun.training.feed import Batch
from kun.training.objectives.seq2seq import Seq2Seq

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """-log p(token of a left-out span | the rest of the text, and the spans before it), as `reading` has it.

    `share` of the tokens are left out, in spans of `length` in the mean; no more spans than there are `sentinels`, in
    their order. A target ends with `end`.
    """

    reading: Seq2Seq
    sentinels: tuple[int, ...]
    end: int
    share: float = 0.15
    length: float = 3.0

    def prepare(self, batch: Batch, chance: np.random.Generator) -> Batch:
        ids, mask = batch["input_ids"].numpy(), batch.get("attention_mask")
        sizes = np.full(len(ids), ids.shape[1]) if mask is None else mask.numpy().sum(axis=1)
        pairs = [self.corrupted(row[:size], chance) for row, size in zip(ids, sizes, strict=True)]
        sources, real = _padded([source for source, _ in pairs], self.reading.pad)
        labels, _ = _padded([target for _, target in pairs], IGNORED)
        made = {"input_ids": torch.from_numpy(sources), "labels": torch.from_numpy(labels)}
        if not real.all():
            made["attention_mask"] = torch.from_numpy(real)
        return self.reading.prepare(made, chance)

    def corrupted(self, ids: Ids, chance: np.random.Generator) -> tuple[Ids, Ids]:
        """A text without its spans, and the spans: the source and the target, each with its sentinels.

        A last `end` stays where it is. What is kept and what is left out take turns, the former first.
        """
        text, tail = (ids[:-1], ids[-1:]) if len(ids) and ids[-1] == self.end else (ids, ids[:0])
        left_out = min(len(text) - 1, max(1, round(len(text) * self.share)))
        if left_out < 1:  # one token, which says nothing of itself
            return ids, np.array([self.end], np.int64)
        spans = max(
            1, min(round(left_out / self.length), left_out, len(text) - left_out, len(self.sentinels))
        )
        kept, gone = _parts(len(text) - left_out, spans, chance), _parts(left_out, spans, chance)
        edges = np.cumsum(np.stack([kept, gone], axis=1).ravel())
        pieces = np.split(text, edges[:-1])
        source, target = [], []
        for number, sentinel in enumerate(self.sentinels[:spans]):
            mark = np.array([sentinel], np.int64)
            source += [pieces[2 * number], mark]
            target += [mark, pieces[2 * number + 1]]
        return np.concatenate([*source, tail]), np.concatenate([*target, [self.end]])

    def targets(self, batch: Batch) -> int:
        return self.reading.targets(batch)

    def loss(self, net: Any, batch: Batch) -> Tensor:
        return self.reading.loss(net, batch)

    def measure(self, net: Any, batch: Batch) -> dict[str, float]:
        return self.reading.measure(net, batch)

    def summary(self, sums: Mapping[str, float], targets: int) -> dict[str, float]:
        return self.reading.summary(sums, targets)


def _parts(total: int, count: int, chance: np.random.Generator) -> Ids:
    """`total` in `count` whole parts of at least one, every division equally likely: [count]."""
    cuts = np.sort(chance.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff([0, *cuts, total])


def _padded(rows: list[Ids], filler: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Rows as int64 [b, longest], and where they are real."""
    sizes = np.array([len(row) for row in rows])
    real = np.arange(sizes.max()) < sizes[:, None]
    padded = np.full(real.shape, filler, np.int64)
    padded[real] = np.concatenate(rows)
    return padded, real
