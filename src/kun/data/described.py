"""store.json: what a token store holds, and what became of the rows that it was made from."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from kun.data.columns import shard_name
from kun.errors import DamagedFile

VERSION = 1
STORE = "store.json"
#: columns with a number for each token, and the column of lengths that they go by
TOKEN_COLUMNS = {"ids": "lengths", "learned": "lengths", "types": "lengths", "source": "source_lengths"}
#: columns with a number for each document
DOCUMENT_COLUMNS: dict[str, np.dtype] = {
    "lengths": np.dtype("<i4"),
    "source_lengths": np.dtype("<i4"),
    "labels": np.dtype("<f8"),
    "digests": np.dtype("V16"),
    "sides": np.dtype("<u8"),
}


@dataclass
class Counts:
    """What became of the rows that were read."""

    rows: int = 0
    documents: int = 0
    duplicates: int = 0
    dropped: int = 0
    cut: int = 0
    bad: int = 0
    examples: list[str] = field(default_factory=list)
    """Why the first bad rows were skipped."""


@dataclass(frozen=True)
class Described:
    """store.json: sizes, types and digests of the columns, and what the store was made from."""

    version: int
    fingerprint: str
    tokenizer: str
    shard: int
    n_documents: int
    types: dict[str, str]
    sizes: dict[str, int]
    digests: dict[str, str]
    counts: Counts

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_description(folder: Path) -> Described:
    """store.json, with the files' sizes checked. Raises `DamagedFile`."""
    path = folder / STORE
    try:
        values = json.loads(path.read_bytes())
        if values.get("version") != VERSION:
            raise ValueError(f"it is of version {values.get('version')}, not {VERSION}")
        described = Described(**values | {"counts": Counts(**values["counts"])})
    except FileNotFoundError as error:
        raise DamagedFile(f"{folder} holds no finished token store: build it (again).") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedFile(
            f"{path} cannot be read ({error}): delete the folder and build it again."
        ) from error
    for name, size in file_sizes(described).items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes, not {size:,}"
            raise DamagedFile(f"{folder / name} {state}: delete the folder and build it again.")
    return described


def file_sizes(described: Described) -> dict[str, int]:
    """The bytes that each file of a store must have."""
    sizes = {}
    for name, kind in described.types.items():
        width = np.dtype(kind).itemsize
        if name in DOCUMENT_COLUMNS:
            sizes[f"{name}.bin"] = described.n_documents * width
            continue
        total, shard = described.sizes[name], described.shard
        for number in range(-(-total // shard)):
            sizes[shard_name(name, number)] = min(shard, total - number * shard) * width
    return sizes
