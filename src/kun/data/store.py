"""The tokens of a data set on disk: memory-mapped, checked by digests, split into training and evaluation.

A folder holds `store.json`, which is written last; per token `ids-00000.bin` … and, where there are such, `learned`,
`types` and `source`; per document `lengths.bin`, `source_lengths.bin`, `labels.bin`, `digests.bin` and `sides.bin`.
"""

import json
from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kun.atomic_files import Progress, check_once, silent
from kun.data.building import build
from kun.data.columns import SHARD, Column
from kun.data.described import DOCUMENT_COLUMNS, TOKEN_COLUMNS, Counts, Described, read_description
from kun.data.rows import BadRows, Row
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput


class TokenStore:
    """The documents of a data set as token ids, or a part of them."""

    def __init__(
        self, folder: Path, described: Described, documents: NDArray[np.int64] | None = None
    ) -> None:
        self.folder = folder
        self._described = described
        self._documents = documents
        types = {name: np.dtype(kind) for name, kind in described.types.items()}
        self._tokens = {
            name: Column(folder, name, types[name], described.sizes[name], described.shard)
            for name in TOKEN_COLUMNS
            if name in types
        }
        self._columns = {
            name: _whole(folder, name, types[name], described.n_documents)
            for name in DOCUMENT_COLUMNS
            if name in types
        }

    @classmethod
    def build(
        cls,
        folder: str | Path,
        rows: Iterable[Row],
        tokenizer: RowTokenizer,
        *,
        bad: BadRows | None = None,
        fingerprint: str = "",
        processes: int | None = None,
        shard: int = SHARD,
        progress: Progress = silent,
    ) -> "TokenStore":
        """Tokenize `rows` into `folder`, in parallel; what a killed build had finished is not done again.

        Exact duplicates are dropped and counted. `bad` is what the rows are read with, for the count. A whole store
        that was made with the same tokenizer and `fingerprint` (which stands for the source; "" for none) is opened
        as it is.

        Raises `BadInput` where no row is left, `BadRow`, `NoSpace`, `NotWritable`.
        """
        build(Path(folder), rows, tokenizer, bad or BadRows(), fingerprint, processes, shard, progress)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path, check: bool = True, progress: Progress = silent) -> "TokenStore":
        """A store that was built whole. Raises `DamagedFile`, which names the file; `check` reads all digests."""
        folder = Path(folder)
        described = read_description(folder)
        if check:
            for name, digest in described.digests.items():
                check_once(folder / name, digest, progress)
        return cls(folder, described)

    def __len__(self) -> int:
        return self._described.n_documents if self._documents is None else len(self._documents)

    def _column(self, name: str) -> NDArray:
        column = self._columns[name]
        return column if self._documents is None else column[self._documents]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, [n]."""
        return self._column("lengths").astype(np.int64)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each document's first token stands among all tokens of the folder, [n]."""
        return self._starts("lengths")

    @cached_property
    def source_lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair's source, [n]."""
        return self._column("source_lengths").astype(np.int64)

    @cached_property
    def source_starts(self) -> NDArray[np.int64]:
        """Where each source's first token stands among all sources' tokens of the folder, [n]."""
        return self._starts("source_lengths")

    def _starts(self, lengths: str) -> NDArray[np.int64]:
        ends = np.cumsum(self._columns[lengths], dtype=np.int64)
        starts = ends - self._columns[lengths]
        return starts if self._documents is None else starts[self._documents]

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of all documents, sources left out."""
        return int(self.lengths.sum())

    @property
    def is_masked(self) -> bool:
        """Whether only some of the tokens are learned."""
        return "learned" in self._tokens

    @property
    def has_sources(self) -> bool:
        return "source" in self._tokens

    @property
    def has_types(self) -> bool:
        """Whether documents are two texts that are judged together."""
        return "types" in self._tokens

    @property
    def has_labels(self) -> bool:
        return "labels" in self._columns

    @property
    def counts(self) -> Counts:
        """What became of the rows when the store was built."""
        return self._described.counts

    @cached_property
    def digest(self) -> str:
        """A digest of all that is in here, in its order."""
        whole = sha256(json.dumps(self._described.digests, sort_keys=True).encode())
        if self._documents is not None:
            whole.update(self._documents.tobytes())
        return whole.hexdigest()

    def ids(self, index: int) -> NDArray[np.int32]:
        """Document `index`, int32 [n]."""
        return self._slice("ids", self.starts[index], self.lengths[index]).astype(np.int32)

    def learned(self, index: int) -> NDArray[np.bool_]:
        """Which of its tokens are to be predicted, bool [n]."""
        if not self.is_masked:
            return np.ones(self.lengths[index], np.bool_)
        return self._slice("learned", self.starts[index], self.lengths[index]).astype(np.bool_)

    def types(self, index: int) -> NDArray[np.uint8]:
        """Which of two texts each token belongs to, uint8 [n]; zeros where there is one text."""
        if not self.has_types:
            return np.zeros(self.lengths[index], np.uint8)
        return self._slice("types", self.starts[index], self.lengths[index])

    def source_ids(self, index: int) -> NDArray[np.int32]:
        """The source of pair `index`, int32 [m]."""
        return self._slice("source", self.source_starts[index], self.source_lengths[index]).astype(np.int32)

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        """The class's index, or the number, of each document, [n]."""
        return self._column("labels").astype(np.float64)

    @property
    def digests(self) -> NDArray:
        """16 bytes for each document's content before it was tokenized, [n]."""
        return self._column("digests")

    def _slice(self, name: str, start: np.int64, length: np.int64) -> NDArray:
        return self._tokens[name].slice(int(start), int(start + length))

    def take(self, name: str, positions: NDArray[np.int64]) -> NDArray:
        """The numbers of a column ("ids", "learned", "types", "source") at places among all tokens of the folder."""
        return self._tokens[name].take(positions)

    def split(self, share: float) -> "tuple[TokenStore, TokenStore]":
        """Training and evaluation, `share` of the documents in the latter.

        A document's side depends on its own content alone, so that neither another order nor more data moves it; there
        is at least one on each side. Raises `BadInput` for a share that is none, and for a single document.
        """
        if not 0 < share < 1:
            raise BadInput(f"The share for evaluation is {share}: name one between 0 and 1, such as 0.1.")
        sides = self._column("sides")
        if len(np.unique(sides)) < 2:
            raise BadInput(
                "The data is one document, which cannot be divided: name a file for evaluation, or cut the data."
            )
        threshold = np.uint64(share * 2**64)
        threshold = min(max(threshold, sides.min() + np.uint64(1)), sides.max())
        held_out = sides < threshold
        return self._part(~held_out), self._part(held_out)

    def _part(self, chosen: NDArray[np.bool_]) -> "TokenStore":
        documents = np.flatnonzero(chosen)
        if self._documents is not None:
            documents = self._documents[documents]
        return TokenStore(self.folder, self._described, documents)


def _whole(folder: Path, name: str, dtype: np.dtype, size: int) -> NDArray:
    return np.memmap(folder / f"{name}.bin", dtype, "r", shape=(size,)).view(np.ndarray)
