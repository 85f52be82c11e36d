"""A part of an index: some documents' passages as arrays in one file, which is mapped into memory, not read.

The file is in the layout of safetensors: a header in JSON that names each array's type, shape and place, then the
arrays. It is written once and never changed.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kun.atomic_files import new_file
from kun.errors import DamagedFile
from kun.knowledge.apparatus import is_apparatus
from kun.knowledge.exact import ExactText
from kun.knowledge.lexical import Postings
from kun.knowledge.rows import Span, StoredText, Table
from kun.knowledge.tables import names_above
from kun.text.language import is_chinese

Array = NDArray[np.generic]

_LOOKED_AT = 600
"""Characters of a passage that tell its language."""
_CHINESE, _APPARATUS = 1, 2
_MAX_HEADER = 1 << 28


class Segment:
    """Passages, one a row, ready to be searched. Nothing changes after it was built."""

    def __init__(
        self, arrays: Mapping[str, Array], documents: Sequence[str], headings: Sequence[str]
    ) -> None:
        self.arrays, self.documents, self._headings = arrays, list(documents), list(headings)
        self.vectors: NDArray[np.float32] = arrays["vectors"].view(np.float32)
        self.document: NDArray[np.int32] = arrays["document"].view(np.int32)
        flags: NDArray[np.uint8] = arrays["flags"].view(np.uint8)
        self.is_chinese: NDArray[np.bool_] = (flags & _CHINESE).astype(np.bool_)
        self.is_apparatus: NDArray[np.bool_] = (flags & _APPARATUS).astype(np.bool_)
        self.words = Postings(arrays)
        self.exact = ExactText(arrays, len(self.document))
        self._first = np.searchsorted(self.document, np.arange(len(self.documents) + 1))
        self._number = {identity: number for number, identity in enumerate(self.documents)}

    def __len__(self) -> int:
        return len(self.document)

    @classmethod
    def build(cls, passages: Table, documents: Sequence[StoredText]) -> "Segment":
        """The `passages` of `documents`: all of them, by document and place."""
        order = {stored.id: number for number, stored in enumerate(documents)}
        named = [identity.rpartition("-") for identity in passages.ids]
        which = np.array([order[name] for name, _, _ in named], np.int32)
        chosen = np.argsort(which, kind="stable")
        which, starts, ends = which[chosen], passages.starts[chosen], passages.ends[chosen]
        of = [slice(*bounds) for bounds in _bounds(which, len(documents))]
        byte_start, byte_end, blob = _bytes_of(documents, starts, ends, of)
        texts = [passages.texts[row] for row in chosen]
        headings = [passages.headings[row] for row in chosen]
        distinct = {heading: number for number, heading in enumerate(dict.fromkeys(headings))}
        columns = [
            names
            for stored, rows in zip(documents, of, strict=True)
            for names in names_above(stored, starts[rows].tolist())
        ]
        found_by = [
            f"{documents[number].source} {heading} {names} {text}"
            for number, heading, names, text in zip(which.tolist(), headings, columns, texts, strict=True)
        ]
        flags = [
            _CHINESE * is_chinese(text[:_LOOKED_AT]) + _APPARATUS * is_apparatus(text, heading)
            for text, heading in zip(texts, headings, strict=True)
        ]
        exact = ExactText.build(
            [(d.text, starts[rows], ends[rows]) for d, rows in zip(documents, of, strict=True)]
        )
        arrays: dict[str, Array] = {
            "vectors": np.ascontiguousarray(passages.vectors[chosen], np.float32),
            "document": which,
            "place": np.array([int(named[row][2]) for row in chosen], np.int32),
            "heading": np.array([distinct[heading] for heading in headings], np.int32),
            "page": passages.pages[chosen].astype(np.int32),
            "start": starts.astype(np.int64),
            "end": ends.astype(np.int64),
            "byte_start": byte_start,
            "byte_end": byte_end,
            "text": blob,
            "flags": np.array(flags, np.uint8),
        }
        return cls({**arrays, **Postings.build(found_by).arrays, **exact.arrays}, list(order), list(distinct))

    def row_of(self, document: str, place: int) -> int | None:
        """The row of a document's passage; None where it is not here."""
        number = self._number.get(document)
        if number is None or not 0 <= place < self._first[number + 1] - self._first[number]:
            return None
        return int(self._first[number]) + place

    def passage_of(self, row: int) -> tuple[str, int]:
        """The identity of a row's document, and the passage's place in it."""
        return self.documents[int(self.document[row])], int(self.arrays["place"][row])

    def text_and_span(self, row: int) -> tuple[str, Span]:
        """A row's text and its place in the document."""
        arrays = self.arrays
        text = arrays["text"][int(arrays["byte_start"][row]) : int(arrays["byte_end"][row])].tobytes()
        heading = self._headings[int(arrays["heading"][row])]
        span = Span(int(arrays["start"][row]), int(arrays["end"][row]), heading, int(arrays["page"][row]))
        return text.decode("utf-8", "surrogatepass"), span

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all. Raises `NoSpace`, `NotWritable`."""
        header: dict[str, object] = {"documents": self.documents, "headings": self._headings}
        place = 0
        for name, array in self.arrays.items():
            header[name] = [array.dtype.str, list(array.shape), place]
            place += -(-array.nbytes // 64) * 64
        head = json.dumps(header).encode()
        head += b" " * (-(len(head) + 8) % 64)
        with new_file(path) as fresh, fresh.open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for array in self.arrays.values():
                file.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
                file.write(b"\0" * (-array.nbytes % 64))

    @classmethod
    def read(cls, path: Path) -> "Segment":
        """Map a file into memory. Raises `DamagedFile` where it is none."""
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                if not 0 < size < _MAX_HEADER:
                    raise ValueError("its header is damaged")
                header = json.loads(file.read(size))
            whole = np.memmap(path, np.uint8, "r")
            documents, headings = header.pop("documents"), header.pop("headings")
            arrays: dict[str, Array] = {}
            for name, (kind, shape, place) in header.items():
                dtype, begin = np.dtype(kind), 8 + size + place
                arrays[name] = (
                    whole[begin : begin + dtype.itemsize * int(np.prod(shape))].view(dtype).reshape(shape)
                )
            return cls(arrays, documents, headings)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"The part {path} of an index cannot be read ({error}).") from error


def _bounds(which: NDArray[np.int32], count: int) -> list[tuple[int, int]]:
    """Where the rows of each document begin and end."""
    edges = np.searchsorted(which, np.arange(count + 1)).tolist()
    return list(pairwise(edges))


def _bytes_of(
    documents: Sequence[StoredText], starts: NDArray[np.int64], ends: NDArray[np.int64], of: Sequence[slice]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """The texts as UTF-8, and where in it each passage starts and ends."""
    byte_start, byte_end = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    blobs: list[bytes] = []
    begin = 0
    for stored, rows in zip(documents, of, strict=True):
        codes = np.frombuffer(stored.text.encode("utf-32-le", "surrogatepass"), np.uint32)
        sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
        offsets = begin + np.concatenate([[0], np.cumsum(sizes)])
        byte_start[rows], byte_end[rows] = offsets[starts[rows]], offsets[ends[rows]]
        blobs.append(stored.text.encode("utf-8", "surrogatepass"))
        begin += len(blobs[-1])
    return byte_start, byte_end, np.frombuffer(b"".join(blobs), np.uint8)
