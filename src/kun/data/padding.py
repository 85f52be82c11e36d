"""Documents padded to the longest of their batch: pairs and labelled texts, which are not packed.

Documents of like length share a batch, as many as keep `batch_tokens`, so that little is padding. Which ones, and the
order of the batches, changes with every epoch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kun.data.columns import ranges
from kun.data.store import TokenStore
from kun.errors import BadInput

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PaddedBatch:
    """`input_ids` and `attention_mask` int64 [b, s], padding at the end; the rest as far as the data has it.

    `documents` int64 [b] are the places in the store. For labelled texts: `labels` float64 [b], class indices or
    numbers, and `token_type_ids` int64 [b, s] of two texts. For pairs, whose source is the input: `target_ids` and
    `target_mask` int64 [b, t].
    """

    documents: Ints
    input_ids: Ints
    attention_mask: Ints
    token_type_ids: Ints | None = None
    labels: NDArray[np.float64] | None = None
    target_ids: Ints | None = None
    target_mask: Ints | None = None


class PaddedRows:
    """The documents of a store in batches of like length. `pad` is the id that stands for nothing."""

    def __init__(self, store: TokenStore, batch_tokens: int, pad: int = 0, seed: int = 0) -> None:
        """Raises `BadInput` where the longest document alone is more than `batch_tokens`."""
        self.store = store
        self.batch_tokens = batch_tokens
        self.pad = pad
        self.seed = seed
        #: tokens of each document, or of the longer side of each pair
        self._widths = np.maximum(store.lengths, store.source_lengths) if store.has_sources else store.lengths
        if batch_tokens < self._widths.max():
            raise BadInput(
                f"A batch of {batch_tokens} tokens cannot hold the longest row, which has {self._widths.max()}: make"
                " batch_tokens larger, or the context smaller."
            )

    def plan(self, epoch: int = 0) -> "PaddingPlan":
        """The batches of epoch `epoch`: a function of the store, the budget, the seed and the epoch alone."""
        random = np.random.default_rng([self.seed, epoch])
        shuffled = random.permutation(len(self.store))
        order = shuffled[np.argsort(self._widths[shuffled], kind="stable")]
        bounds = _bounds(self._widths[order], self.batch_tokens)
        return PaddingPlan(self, order, bounds, random.permutation(len(bounds) - 1))


def _bounds(widths: Ints, budget: int) -> Ints:
    """Where batches begin and end among documents by width: each as long as rows times the widest keep the budget."""
    bounds = [0]
    while (start := bounds[-1]) < len(widths):
        # rows × width grows with every row, so that the last one that fits is found by halving
        low, high = start + 1, min(len(widths), start + budget)
        while low < high:
            middle = (low + high + 1) // 2
            fits = (middle - start) * widths[middle - 1] <= budget
            low, high = (middle, high) if fits else (low, middle - 1)
        bounds.append(low)
    return np.array(bounds, np.int64)


class PaddingPlan:
    """Which documents make up each batch."""

    def __init__(self, rows: PaddedRows, order: Ints, bounds: Ints, batches: Ints) -> None:
        self._rows = rows
        self._order = order
        self._bounds = bounds
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def documents(self, index: int) -> Ints:
        """The places in the store of batch `index`'s documents."""
        batch = self._batches[index]
        return self._order[self._bounds[batch] : self._bounds[batch + 1]]

    def batch(self, index: int) -> PaddedBatch:
        """Batch number `index`."""
        documents = self.documents(index)
        store, pad = self._rows.store, self._rows.pad
        if store.has_sources:
            ids, mask = _padded(store, "source", documents, pad)
            target_ids, target_mask = _padded(store, "ids", documents, pad)
            return PaddedBatch(documents, ids, mask, target_ids=target_ids, target_mask=target_mask)
        ids, mask = _padded(store, "ids", documents, pad)
        types = _padded(store, "types", documents, 0)[0] if store.has_types else None
        labels = store.labels[documents] if store.has_labels else None
        return PaddedBatch(documents, ids, mask, types, labels)


def _padded(store: TokenStore, column: str, documents: Ints, pad: int) -> tuple[Ints, Ints]:
    """A column of some documents side by side, and where it stands, each int64 [b, longest]."""
    of_source = column == "source"
    lengths = (store.source_lengths if of_source else store.lengths)[documents]
    starts = (store.source_starts if of_source else store.starts)[documents]
    width = int(lengths.max())
    along = ranges(lengths)
    cells = np.repeat(np.arange(len(documents)) * width, lengths) + along
    ids = np.full(len(documents) * width, pad, np.int64)
    mask = np.zeros(len(documents) * width, np.int64)
    ids[cells] = store.take(column, np.repeat(starts, lengths) + along)
    mask[cells] = 1
    return ids.reshape(-1, width), mask.reshape(-1, width)
