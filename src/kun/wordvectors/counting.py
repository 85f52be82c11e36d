"""Exact counts of words, whatever the vocabulary: those that do not fit the memory are put aside, sorted."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from heapq import merge, nsmallest
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TextIO

IN_MEMORY = 2_000_000
"""Different words that are held at once, some 250 MB."""


class WordCounts:
    """Counts of words in bounded memory; `folder` takes what is put aside, as lines of a word and its count."""

    def __init__(self, folder: Path, in_memory: int = IN_MEMORY) -> None:
        self.folder, self.in_memory = folder, in_memory
        self.total = 0
        self._counts: Counter[str] = Counter()
        self._aside: list[Path] = []

    def add(self, words: list[str]) -> None:
        """Count some words more."""
        self._counts.update(words)
        self.total += len(words)
        if len(self._counts) > self.in_memory:
            self._put_aside()

    def _put_aside(self) -> None:
        path = self.folder / f"counts-{len(self._aside)}.txt"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{word} {count}\n" for word, count in sorted(self._counts.items()))
        self._aside.append(path)
        self._counts.clear()

    def commonest(self, least: int, most: int) -> list[tuple[str, int]]:
        """The words that came at least `least` times, the commonest `most` of them, the commonest first."""
        often = ((-count, word) for word, count in self._all() if count >= least)
        return [(word, -count) for count, word in nsmallest(most, often)]

    def _all(self) -> Iterator[tuple[str, int]]:
        if not self._aside:
            yield from self._counts.items()
            return
        self._put_aside()
        with ExitStack() as files:
            parts = [
                _read(files.enter_context(path.open(encoding="utf-8", newline="\n"))) for path in self._aside
            ]
            for word, some in groupby(merge(*parts), key=itemgetter(0)):
                yield word, sum(count for _, count in some)


def _read(lines: Iterable[str] | TextIO) -> Iterator[tuple[str, int]]:
    for line in lines:
        word, _, count = line.rpartition(" ")
        yield word, int(count)
