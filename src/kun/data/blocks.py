"""Some tokenized rows as one set of arrays, as they go to disk and from process to process."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from numpy.typing import NDArray

from kun.data.rows import Row
from kun.data.tokenized import RowTokenizer, Tokenized
from kun.errors import BadInput, BadRow, KunError, UnsupportedFormat


@dataclass
class Block:
    """`kept` are the places, among the rows that came in, of those that became documents, as often as they became
    several; `columns` hold these.

    `bad` are the messages of rows that cannot be used, by their place.
    """

    kept: list[int]
    columns: dict[str, NDArray]
    bad: dict[int, str] = field(default_factory=dict)
    dropped: int = 0
    cut: int = 0


def tokenize(rows: Sequence[Row], tokenizer: RowTokenizer) -> Block:
    """Tokenize `rows` into arrays."""
    results = tokenizer(rows)
    bad = {place: str(one) for place, one in enumerate(results) if isinstance(one, BadRow)}
    made = [(place, one) for place, some in enumerate(results) for one in _documents(some)]
    kept, documents = [place for place, _ in made], [one for _, one in made]
    dropped = len(rows) - len(bad) - len(set(kept))
    return Block(kept, _columns(documents), bad, dropped, sum(one.was_cut for one in documents))


def _documents(result: Tokenized | list[Tokenized] | BadRow | None) -> list[Tokenized]:
    """The documents that one row became."""
    if isinstance(result, list):
        return result
    return [result] if isinstance(result, Tokenized) else []


def _columns(documents: list[Tokenized]) -> dict[str, NDArray]:
    """The columns of documents that were rows of one kind."""
    if not documents:
        return {}
    first = documents[0]
    columns: dict[str, NDArray] = {
        "ids": np.concatenate([one.ids for one in documents]),
        "lengths": np.array([len(one.ids) for one in documents], np.int32),
    }
    if first.learned is not None:
        masks = [one.learned for one in documents if one.learned is not None]
        columns["learned"] = np.concatenate(masks).view(np.uint8)
    if first.types is not None:
        columns["types"] = np.concatenate([one.types for one in documents if one.types is not None])
    if first.source_ids is not None:
        sources = [one.source_ids for one in documents if one.source_ids is not None]
        columns["source"] = np.concatenate(sources)
        columns["source_lengths"] = np.array([len(source) for source in sources], np.int32)
    if first.label is not None:
        columns["labels"] = np.array([one.label for one in documents], np.float64)
    return columns


_ERRORS: dict[str, type[KunError]] = {kind.__name__: kind for kind in (BadInput, BadRow, UnsupportedFormat)}


def write_block(stream: IO[bytes], block: Block) -> None:
    """A line of JSON, then the arrays."""
    head = {
        "kept": block.kept,
        "bad": list(block.bad.items()),
        "dropped": block.dropped,
        "cut": block.cut,
        "columns": [[name, column.dtype.str, len(column)] for name, column in block.columns.items()],
    }
    stream.write(json.dumps(head).encode() + b"\n")
    for column in block.columns.values():
        stream.write(column.tobytes())
    stream.flush()


def write_error(stream: IO[bytes], error: KunError) -> None:
    """In a block's place, what no row of it can be used for."""
    stream.write(json.dumps({"error": type(error).__name__, "message": str(error)}).encode() + b"\n")
    stream.flush()


def read_block(stream: IO[bytes]) -> Block | None:
    """What `write_block` wrote; None where the stream ended. Raises what `write_error` wrote."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    head = json.loads(line)
    if "error" in head:
        raise _ERRORS.get(head["error"], BadInput)(head["message"])
    columns = {}
    for name, kind, size in head["columns"]:
        dtype = np.dtype(kind)
        content = stream.read(size * dtype.itemsize)
        if len(content) < size * dtype.itemsize:
            return None
        columns[name] = np.frombuffer(content, dtype)
    return Block(head["kept"], columns, dict(head["bad"]), head["dropped"], head["cut"])
