"""Weights as safetensors: checked before they are believed, streamed when they are written, sharded when large.

Format: https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kun.atomic_files import Progress, inside, refuse_pointer, silent
from kun.errors import DamagedFile, UnsupportedFormat
from kun.hub.layout import Record
from kun.hub.lazy import ITEM_BYTES, LazyTensor

if TYPE_CHECKING:
    import torch

TRANSFORMERS, DIFFUSERS = "model", "diffusion_pytorch_model"
"""What files of weights are called, after the library that reads them."""
SINGLE = f"{TRANSFORMERS}.safetensors"
INDEX = f"{SINGLE}.index.json"
SHARD_BYTES = 5 * 10**9
_LONGEST_HEADER = 100 * 10**6
_LONGEST_INDEX = 64 * 2**20
_READ_AHEAD = 4
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Entry:
    """One tensor of a safetensors file; `start` and `stop` are bytes within the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of one safetensors file, every claim of its header checked against the file.

    Raises `DamagedFile`, which names the file and the tensor.
    """
    try:
        size = path.stat().st_size
        refuse_pointer(path)
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _LONGEST_HEADER):
                raise DamagedFile(
                    f"{path} says that its header has {length} bytes, and the file has {size}: {_MEND}"
                )
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        entries = {name: _entry(path, name, said, 8 + length) for name, said in header.items()}
    except FileNotFoundError as error:
        raise DamagedFile(f"{path} is missing: {_MEND}") from error
    except (struct.error, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{path} has no readable safetensors header: {_MEND}") from error
    _check_layout(path, entries, 8 + length, size)
    return entries


_MEND = "it is truncated or damaged; pull or copy it again."


def _entry(path: Path, name: str, said: Any, base: int) -> Entry:
    try:
        start, stop = said["data_offsets"]
        shape, dtype = tuple(said["shape"]), said["dtype"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, stop))
        fits = whole and _elements(shape) * ITEM_BYTES[dtype] == stop - start
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise DamagedFile(f"{path} describes its tensor {name!r} by what cannot be true: {_MEND}")
    return Entry(path, dtype, shape, base + start, base + stop)


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def _check_layout(path: Path, entries: dict[str, Entry], start: int, size: int) -> None:
    at = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != at or entry.stop > size:
            raise DamagedFile(
                f"{path} puts its tensor {name!r} at bytes {entry.start} to {entry.stop} of {size}: {_MEND}"
            )
        at = entry.stop
    if at != size:
        raise DamagedFile(f"{path} has {size} bytes, and its header accounts for {at}: {_MEND}")


@dataclass(frozen=True)
class Weights:
    """The weights of a folder: `entries` by name, over one file or many."""

    folder: Path
    entries: dict[str, Entry]

    @classmethod
    def open(cls, folder: Path) -> "Weights":
        """Find and check the headers. Raises `DamagedFile`, `UnsupportedFormat` for a folder with pickles only."""
        for stem in (TRANSFORMERS, DIFFUSERS):
            whole = folder / f"{stem}.safetensors"
            index = folder / f"{whole.name}.index.json"
            if index.is_file():
                return cls(folder, _read_index(folder, index))
            if whole.is_file():
                return cls(folder, read_header(whole))
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            raise UnsupportedFormat(
                f"{folder} holds its weights as {pickles[0]}, a pickle, which can run code and is never read: have "
                f"them written as safetensors (in transformers: save_pretrained(..., safe_serialization=True))."
            )
        raise DamagedFile(f"{folder} holds no weights: {SINGLE} is missing; pull or copy the model again.")

    @property
    def files(self) -> list[Path]:
        return sorted({entry.file for entry in self.entries.values()})

    @property
    def bytes(self) -> int:
        return sum(entry.stop - entry.start for entry in self.entries.values())

    def load(self) -> "dict[str, torch.Tensor]":
        """All tensors by name, mapped from the disk: pages are read when they are touched."""
        from safetensors import SafetensorError, safe_open

        tensors: dict[str, torch.Tensor] = {}
        for path in self.files:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 (no mapping)
                        if self.entries.get(name, None) and self.entries[name].file == path:
                            tensors[name] = file.get_tensor(name)
            except SafetensorError as error:
                raise DamagedFile(f"{path} cannot be read ({error}): {_MEND}") from error
        return tensors


def check_sizes(folder: Path, records: Mapping[str, Record]) -> None:
    """Raise `DamagedFile` where a weights file has not the size that kun.json recorded."""
    for name, record in records.items():
        path = inside(folder, name)
        expected = record["bytes"]
        size = path.stat().st_size if path.is_file() else None
        if size != expected:
            raise DamagedFile(
                f"{path} has {size or 'no'} bytes where kun.json recorded {expected}: it is truncated or was "
                f"replaced; pull or copy the model again."
            )


def _read_index(folder: Path, path: Path) -> dict[str, Entry]:
    try:
        if path.stat().st_size > _LONGEST_INDEX:
            raise ValueError("too long")
        shards: dict[str, str] = json.loads(path.read_bytes())["weight_map"]
        names = sorted(set(shards.values()))
        headers = {name: read_header(inside(folder, name)) for name in names}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{path} is no index of shards: {_MEND}") from error
    missing = next((name for name, shard in shards.items() if name not in headers[shard]), None)
    if missing is not None:
        raise DamagedFile(
            f"{folder / shards[missing]} lacks the tensor {missing!r} that {path.name} promises: {_MEND}"
        )
    return {name: headers[shard][name] for name, shard in shards.items()}


def write_weights(
    folder: Path,
    tensors: dict[str, LazyTensor],
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
    stem: str = TRANSFORMERS,
) -> dict[str, Record]:
    """Write `{stem}.safetensors`, or shards of at most `shard_bytes` and their index.

    The tensors are read one after the other, a few ahead, so that memory holds only those.
    Returns for each file its `sha256` and `bytes`.
    """
    shards = shards_of(tensors, shard_bytes, stem)
    total = sum(tensor.bytes for tensor in tensors.values())
    records: dict[str, Record] = {}
    done = 0
    for name, shard in shards.items():

        def written(size: int, before: int = done) -> None:
            progress("writing", before + size, total)

        digest = write_file(folder / name, shard, written)
        done += sum(tensor.bytes for tensor in shard.values())
        records[name] = Record(sha256=digest, bytes=(folder / name).stat().st_size)
    if len(shards) > 1:
        _write_index(folder / f"{stem}.safetensors.index.json", shards, total)
    return records


def write_file(
    path: Path, tensors: dict[str, LazyTensor], written: Callable[[int], None] | None = None
) -> str:
    """Write one safetensors file; returns its SHA-256. `written` is told how many bytes of tensors there are so far."""
    digest = hashlib.sha256()
    done = 0
    with path.open("wb") as file:
        header = header_of(tensors)
        digest.update(header)
        file.write(header)
        for data in _read_ahead(list(tensors.values())):
            digest.update(data)
            file.write(data)
            done += data.nbytes
            if written:
                written(done)
    return digest.hexdigest()


def shards_of(
    tensors: dict[str, LazyTensor], shard_bytes: int = SHARD_BYTES, stem: str = TRANSFORMERS
) -> dict[str, dict[str, LazyTensor]]:
    """The files that the tensors are written to, by name: one, or as many as take `shard_bytes` at most."""
    shards = _shards(tensors, shard_bytes)
    count = len(shards)
    names = [f"{stem}-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    names = names if count > 1 else [f"{stem}.safetensors"]
    return {name: {key: tensors[key] for key in shard} for name, shard in zip(names, shards, strict=True)}


def _shards(tensors: dict[str, LazyTensor], shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += tensor.bytes
    return shards


def header_of(tensors: Mapping[str, LazyTensor]) -> bytes:
    """The first bytes of a safetensors file, which tell where each tensor lies."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.bytes
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _read_ahead(tensors: list[LazyTensor]) -> Iterator[memoryview]:
    with ThreadPoolExecutor(2) as pool:
        left = iter(tensors)
        waiting: list[Future[np.ndarray]] = [pool.submit(each.read) for each in islice(left, _READ_AHEAD)]
        while waiting:
            array = np.ascontiguousarray(waiting.pop(0).result())
            waiting += [pool.submit(each.read) for each in islice(left, 1)]
            yield array.reshape(-1).view(np.uint8).data


def _write_index(path: Path, shards: dict[str, dict[str, LazyTensor]], total: int) -> None:
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: file for file, names in shards.items() for name in names},
    }
    path.write_text(json.dumps(index, indent=2), encoding="utf-8")
