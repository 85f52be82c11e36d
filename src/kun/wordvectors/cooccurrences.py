"""Counts of words that come together, out of core: sorted parts on the disk, merged, then shuffled in buckets.

A pair of words `k` places apart in one paragraph counts 1/k to either side, as GloVe counts (Pennington et al., 2014).
Memory holds one block of text, or one bucket, whatever the vocabulary and the text.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kun.atomic_files import new_file
from kun.wordvectors.glove import Entries

Ids = NDArray[np.int32]
Keys = NDArray[np.int64]
Weights = NDArray[np.float64]

_BLOCK = 1 << 19
"""Words whose pairs are counted at once with a window of ten, some hundred megabytes; of a wider one fewer."""
_MERGED = 1 << 22
"""Pairs that are merged, or shuffled, at once."""
ENTRY = np.dtype([("row", "<i4"), ("column", "<i4"), ("count", "<f4")])


@dataclass(frozen=True)
class Cooccurrences:
    """Pairs with their counts, in an order without order, mapped from the disk; both orders of a pair are there."""

    path: Path

    @property
    def table(self) -> NDArray[np.void]:
        """The entries: row, column, count."""
        if not self.path.stat().st_size:
            return np.empty(0, ENTRY)
        return np.memmap(self.path, ENTRY, "r")

    def __len__(self) -> int:
        return self.path.stat().st_size // ENTRY.itemsize

    def entries(self, start: int, stop: int) -> Entries:
        """Those from `start` to `stop`."""
        part = self.table[start:stop]
        row, column, count = (
            torch.from_numpy(np.ascontiguousarray(part[name])) for name in ENTRY.names or ()
        )
        return row, column, count


def count(
    ids: Ids,
    words: int,
    window: int,
    path: Path,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
    *,
    block: int | None = None,
    merged: int = _MERGED,
) -> Cooccurrences:
    """Count the pairs of a text (-1 between paragraphs) of a vocabulary of `words`, into the file `path`.

    `block` words are counted, and `merged` pairs merged or shuffled at once. The same text and seed give the same file.
    """
    block = block or max(1, _BLOCK * 10 // max(10, window))
    for left in path.parent.glob(f".{path.name}.*.counting"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".counting", dir=path.parent) as folder:
        parts: list[tuple[Path, Path]] = []
        for start in range(0, len(ids), block):
            tell(start, len(ids))
            # the words before the block are met by those in it
            behind = max(0, start - window)
            part = np.asarray(ids[behind : start + block])
            parts.append(_put_aside(_pairs(part, start - behind, words, window), Path(folder), len(parts)))
        rng = np.random.default_rng((seed, 0xC0))
        with new_file(path) as fresh:
            _shuffle(_merge(parts, merged), words, Path(folder), fresh, rng, merged)
    return Cooccurrences(path)


def _pairs(ids: Ids, first: int, words: int, window: int) -> tuple[Keys, Weights]:
    """The pairs whose later word is at `first` or behind it, the lower id first: sorted keys and their counts."""
    paragraph = np.cumsum(ids < 0)
    keys: list[Keys] = []
    weights: list[Weights] = []
    for distance in range(1, min(window, len(ids) - 1) + 1):
        begin = max(0, first - distance)
        left, right = ids[begin : len(ids) - distance], ids[begin + distance :]
        whole = paragraph[begin : len(ids) - distance] == paragraph[begin + distance :]
        whole &= (left >= 0) & (right >= 0)
        low, high = np.minimum(left, right)[whole], np.maximum(left, right)[whole]
        found, often = np.unique(low.astype(np.int64) * words + high, return_counts=True)
        keys.append(found)
        weights.append(often / distance)
    if not keys:
        return np.empty(0, np.int64), np.empty(0)
    return _added(np.concatenate(keys), np.concatenate(weights))


def _added(keys: Keys, weights: Weights) -> tuple[Keys, Weights]:
    """Keys sorted, each once, with the sum of its weights."""
    order = np.argsort(keys, kind="stable")
    keys, weights = keys[order], weights[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(weights, starts) if len(keys) else weights


def _put_aside(pairs: tuple[Keys, Weights], folder: Path, number: int) -> tuple[Path, Path]:
    names = folder / f"keys-{number}", folder / f"weights-{number}"
    for name, array in zip(names, pairs, strict=True):
        array.tofile(name)
    return names


def _merge(parts: list[tuple[Path, Path]], merged: int) -> Iterator[tuple[Keys, Weights]]:
    """All parts as one, a stretch of keys at a time."""
    columns = [
        (np.memmap(keys, np.int64, "r"), np.memmap(weights, np.float64, "r"))
        for keys, weights in parts
        if keys.stat().st_size
    ]
    places = [0] * len(columns)
    while any(place < len(keys) for place, (keys, _) in zip(places, columns, strict=True)):
        # as far as no part has more than its share of the memory
        share = max(1, merged // len(columns))
        ahead = [
            int(keys[place + share])
            for place, (keys, _) in zip(places, columns, strict=True)
            if place + share < len(keys)
        ]
        bound = min(ahead, default=np.iinfo(np.int64).max)
        ends = [int(np.searchsorted(keys, bound)) for keys, _ in columns]
        if ends == places:  # all stand before the same key
            ends = [int(np.searchsorted(keys, bound, side="right")) for keys, _ in columns]
        found = [
            (keys[place:end], weights[place:end])
            for place, end, (keys, weights) in zip(places, ends, columns, strict=True)
        ]
        places = ends
        yield _added(np.concatenate([k for k, _ in found]), np.concatenate([w for _, w in found]))


def _shuffle(
    stretches: Iterator[tuple[Keys, Weights]],
    words: int,
    folder: Path,
    path: Path,
    rng: np.random.Generator,
    merged: int,
) -> None:
    """Both orders of each pair into buckets at random, each of which is then shuffled in memory."""
    thrown = folder / "thrown"
    total = 0
    with thrown.open("wb") as file:
        for keys, weights in stretches:
            entries = _both_orders(keys, weights, words)
            total += len(entries)
            file.write(entries.tobytes())
    buckets = max(1, -(-total // merged))
    names = [folder / f"bucket-{number}" for number in range(buckets)]
    source = np.memmap(thrown, ENTRY, "r") if total else np.empty(0, ENTRY)
    for start in range(0, total, merged):
        part = np.asarray(source[start : start + merged])
        chosen = rng.integers(0, buckets, len(part))
        for number, name in enumerate(names):
            with name.open("ab") as file:
                file.write(part[chosen == number].tobytes())
    with path.open("wb") as file:
        for name in names if total else ():
            bucket = np.fromfile(name, ENTRY)
            file.write(bucket[rng.permutation(len(bucket))].tobytes())


def _both_orders(keys: Keys, weights: Weights, words: int) -> NDArray[np.void]:
    """Entries of pairs; a word with itself was met from both sides, too, and has one entry."""
    low, high = np.divmod(keys, words)
    apart = low != high
    entries = np.empty(len(keys) + int(apart.sum()), ENTRY)
    entries["row"] = np.concatenate([low, high[apart]])
    entries["column"] = np.concatenate([high, low[apart]])
    entries["count"] = np.concatenate([np.where(apart, weights, 2 * weights), weights[apart]])
    return entries
