"""A folder of word vectors: `model.safetensors` with a row for each word, `words.txt` with the words in their order.

`config.json` says which method made them, so that a name alone tells this folder from a model that reads text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kun.atomic_files import Progress, check_once, inside, silent
from kun.errors import BadInput, DamagedFile
from kun.hub.layout import (
    LINEAGE,
    file_records,
    read_json,
    weight_records,
    write_json,
    write_lineage,
    write_vectors_card,
)
from kun.hub.lazy import LazyTensor
from kun.hub.weights import Weights, check_sizes, write_weights

MODEL_TYPE = "word-vectors"
WORDS = "words.txt"
VECTORS, OUTPUTS, COUNTS = "vectors", "outputs", "counts"
"""The tensors: float32 [words, d]; word2vec's output rows, float32 [words, d]; how often each word came, int64."""

_BLOCK = 1 << 16

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class StoredVectors:
    """The content of a folder of word vectors; `outputs` and `counts` are None where the method has none."""

    words: tuple[str, ...]
    vectors: Floats
    outputs: Floats | None = None
    counts: Counts | None = None
    config: Mapping[str, object] = field(default_factory=dict)


def is_word_vectors(folder: Path) -> bool:
    """Whether this is a folder of word vectors."""
    path = folder / "config.json"
    try:
        return path.is_file() and (folder / WORDS).is_file() and describes_vectors(read_json(path))
    except DamagedFile:
        return False


def describes_vectors(config: Mapping[str, object]) -> bool:
    """Whether a config.json is that of word vectors."""
    return config.get("model_type") == MODEL_TYPE


def write_word_vectors(
    folder: Path, held: StoredVectors, lineage: Mapping[str, object], progress: Progress = silent
) -> None:
    """Write into `folder`, which is there and empty. Raises `BadInput` for words that a file of lines cannot hold."""
    unfit = next((word for word in held.words if not word or "\n" in word or "\r" in word), None)
    if unfit is not None:
        raise BadInput(f"{unfit!r} is no word that can be written on a line of its own: leave it out.")
    arrays: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {VECTORS: held.vectors}
    arrays |= {} if held.outputs is None else {OUTPUTS: held.outputs}
    arrays |= {} if held.counts is None else {COUNTS: held.counts}
    records = write_weights(folder, {name: _lazy(array) for name, array in arrays.items()}, progress)
    (folder / WORDS).write_text("".join(f"{word}\n" for word in held.words), encoding="utf-8", newline="\n")
    count, dimensions = held.vectors.shape
    sizes = {"vocab_size": count, "dimensions": dimensions}
    write_json(folder / "config.json", {"model_type": MODEL_TYPE, **held.config, **sizes})
    record: dict[str, object] = {"name": folder.name, **lineage}
    write_lineage(folder, record, records)
    write_vectors_card(folder, record, {**held.config, **sizes})


def _lazy(array: NDArray[np.float32] | NDArray[np.int64]) -> LazyTensor:
    dtype = "F32" if array.dtype == np.float32 else "I64"
    return LazyTensor(array.shape, lambda: np.ascontiguousarray(array), dtype)


def read_word_vectors(folder: Path) -> StoredVectors:
    """Read a folder; the vectors stay mapped from the disk. Raises `DamagedFile`, which names the file."""
    config = read_json(folder / "config.json")
    lineage = read_json(folder / LINEAGE) if (folder / LINEAGE).is_file() else {}
    _check(folder, lineage)
    held, wanted = Weights.open(folder), {VECTORS: ("F32", 2), OUTPUTS: ("F32", 2), COUNTS: ("I64", 1)}
    known = {name: entry for name, entry in held.entries.items() if name in wanted}
    shape = known[VECTORS].shape if VECTORS in known else ()
    if len(shape) != 2 or any(
        (entry.dtype, len(entry.shape)) != wanted[name] or entry.shape != shape[: len(entry.shape)]
        for name, entry in known.items()
    ):
        told = {name: f"{entry.dtype} {entry.shape}" for name, entry in known.items()}
        raise DamagedFile(
            f"{folder} holds no table {VECTORS!r} of float32 with all that belongs to it ({told}): it is damaged; "
            f"pull, copy or train it again."
        )
    arrays = {name: tensor.numpy() for name, tensor in held.load().items() if name in known}
    for name in known.keys() & {VECTORS, OUTPUTS}:
        if not _is_finite(arrays[name]):
            raise DamagedFile(
                f"{folder} has numbers in {name!r} that are none: pull, copy or train it again."
            )
    words = tuple((folder / WORDS).read_text(encoding="utf-8").split("\n")[:-1])
    if len(words) != len(arrays[VECTORS]):
        raise DamagedFile(
            f"{folder / WORDS} has {len(words):,} words where model.safetensors has {len(arrays[VECTORS]):,} rows: "
            f"pull, copy or train it again."
        )
    return StoredVectors(words, arrays[VECTORS], arrays.get(OUTPUTS), arrays.get(COUNTS), config)


def _check(folder: Path, lineage: Mapping[str, object]) -> None:
    """Compare weights and words with what kun.json recorded."""
    weights = weight_records(lineage)
    check_sizes(folder, weights)
    words = {name: record for name, record in file_records(lineage).items() if name == WORDS}
    for name, record in (weights | words).items():
        check_once(inside(folder, name), record["sha256"])


def _is_finite(table: Floats) -> bool:
    """Whether all numbers are some, looked at in blocks: the table may be mapped and large."""
    return all(np.isfinite(table[start : start + _BLOCK]).all() for start in range(0, len(table), _BLOCK))


def from_array(source: Path, folder: Path, lineage: Mapping[str, object], method: str) -> None:
    """A folder of word vectors from `source`, which holds one .npy table and the words of its rows in one .parquet.

    Neither can hold code: the table is read without pickle. Raises `DamagedFile` where they don't fit together.
    """
    import pyarrow.parquet as pq

    tables, indices = sorted(source.glob("*.npy")), sorted(source.glob("*.parquet"))
    if len(tables) != 1 or len(indices) != 1:
        raise DamagedFile(
            f"{source} has {len(tables)} tables (.npy) and {len(indices)} lists of words (.parquet) where word vectors "
            f"have one of each: pull again."
        )
    (table,), (index,) = tables, indices
    try:
        vectors = np.load(table, mmap_mode="r", allow_pickle=False)
        words = tuple(map(str, pq.read_table(index, columns=["index"]).column("index").to_pylist()))
    except (ValueError, OSError, KeyError) as error:
        raise DamagedFile(f"{table.name} or {index.name} cannot be read ({error}): pull again.") from error
    if vectors.ndim != 2 or vectors.dtype != np.float32 or len(words) != len(vectors):
        raise DamagedFile(f"{table.name} has {vectors.shape} numbers for {len(words):,} words: pull again.")
    write_word_vectors(folder, StoredVectors(words, vectors, config={"method": method}), lineage)
