"""Rows of like length in one batch: the shortest way through texts of many lengths."""

from collections.abc import Iterator, Sequence

BATCH_TOKENS = 4096
"""Tokens of one batch, where a caller does not say."""


def batches(lengths: Sequence[int], budget: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Indices of rows in batches of like length, longest first, at most `budget` tokens each (or one row)."""
    batch: list[int] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and total + lengths[index] > budget:
            yield batch
            batch, total = [], 0
        batch.append(index)
        total += lengths[index]
    if batch:
        yield batch
