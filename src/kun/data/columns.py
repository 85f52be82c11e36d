"""Columns of numbers on disk: memory-mapped, and cut into shards where they may grow beyond one file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: numbers in one file: 512 MiB of 32-bit ids
SHARD = 2**27


def shard_name(column: str, shard: int) -> str:
    return f"{column}-{shard:05}.bin"


class Column:
    """`size` numbers, one after the other, in files of `shard` each."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype, size: int, shard: int = SHARD) -> None:
        self._shard = shard
        self._parts = [
            _mapped(folder / shard_name(name, number), dtype, min(shard, size - number * shard))
            for number in range(-(-size // shard))
        ]
        self._dtype = dtype

    def take(self, positions: NDArray[np.int64]) -> NDArray:
        """The numbers at `positions`, in the same shape."""
        if len(self._parts) == 1:
            return self._parts[0][positions]
        taken = np.empty(positions.shape, self._dtype)
        shards, inside = np.divmod(positions, self._shard)
        for number in np.unique(shards):
            chosen = shards == number
            taken[chosen] = self._parts[number][inside[chosen]]
        return taken

    def slice(self, start: int, stop: int) -> NDArray:
        """The numbers from `start` to `stop`; a view where they stand in one file."""
        pieces = []
        while start < stop:
            number, inside = divmod(start, self._shard)
            end = min(stop - number * self._shard, self._shard)
            pieces.append(self._parts[number][inside:end])
            start = number * self._shard + end
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty(0, self._dtype)


def _mapped(path: Path, dtype: np.dtype, size: int) -> NDArray:
    """A file as an array. numpy's `memmap` subclass would make each small index several times slower."""
    return np.memmap(path, dtype, "r", shape=(size,)).view(np.ndarray)


def ranges(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … below each count, one after the other: [2, 3] gives [0, 1, 0, 1, 2]."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
