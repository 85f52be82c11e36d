"""The GGUF container: what it says about itself, and its tensors as plain float32.

The metadata is parsed here, because the `gguf` package's own reader spends ten seconds on the vocabulary of
Qwen; its dequantization of the block formats is used as it is, but for two whose numbers are written where they
belong, without arrays in between.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import re
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kun.atomic_files import refuse_pointer
from kun.errors import DamagedFile, UnsupportedFormat

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MOST_ENTRIES = 2**20
_MOST_DIMENSIONS = 4
_MOST_ELEMENTS = 2**40
_NUMBERS_AT_ONCE = 2**18
_BLOCKS_AT_ONCE = 2**13
_DEEPEST_ARRAY = 4


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `shape` outermost dimension first, `start` and `bytes` within the file that is `part`."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    bytes: int
    part: int = 0


@dataclass
class GgufFile:
    """An open GGUF file, or several that belong together: `fields` by key, `tensors` by name, over all `paths`."""

    path: Path
    fields: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, TensorEntry] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    _parts: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> "GgufFile":
        """Parse the header; the tensors stay on the disk. Any file of several (x-00001-of-00003.gguf) opens them all.

        Raises `DamagedFile` for a truncated or senseless file and for one of several that is missing,
        `UnsupportedFormat` for another version.
        """
        file = cls._open_one(path)
        count = file.field("split.count", 1)
        if count in (0, 1):
            return file
        names = _SPLIT.fullmatch(path.name)
        if names is None or not isinstance(count, int) or int(names["count"]) != count:
            raise DamagedFile(
                f"{path} is one of {count} files and is not named as one, as x-00001-of-{count!s:0>5}.gguf: give the "
                f"files their own names again."
            )
        paths = [path.with_name(f"{names['stem']}-{n:05d}-of-{count:05d}.gguf") for n in range(1, count + 1)]
        missing = next((part.name for part in paths if not part.is_file()), None)
        if missing is not None:
            raise DamagedFile(
                f"{path} is one of {count} files, and {missing} is missing next to it: fetch it, too."
            )
        return _joined([cls._open_one(part) for part in paths])

    @classmethod
    def _open_one(cls, path: Path) -> "GgufFile":
        if path.stat().st_size < 24:
            raise DamagedFile(f"{path} is no GGUF file, or a truncated one: pull or copy it again.")
        with path.open("rb") as handle:
            view = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        return _Parser(path, view).parse()

    def field(self, key: str, default: Any = None) -> Any:
        return self.fields.get(key, default)

    @property
    def architecture(self) -> str:
        return str(self.field("general.architecture", ""))

    def setting(self, key: str, default: Any = None) -> Any:
        """A field of the architecture, as `llama.block_count`."""
        return self.field(f"{self.architecture}.{key}", default)

    def need(self, key: str) -> Any:
        """`setting(key)`, or `DamagedFile` where the file has none."""
        value = self.setting(key)
        if value is None:
            raise DamagedFile(f"{self.path} has no field {self.architecture}.{key}: the file is incomplete.")
        return value

    def rows(self, name: str) -> np.ndarray:
        """The stored bytes of a tensor, one row of its last dimension to a row: uint8 [rows, bytes a row]."""
        entry = self.tensors[name]
        rows = int(np.prod(entry.shape[:-1], dtype=np.int64))
        return self._parts[entry.part][entry.start : entry.start + entry.bytes].reshape(rows, -1)

    def read(self, name: str, order: np.ndarray | None = None) -> np.ndarray:
        """A tensor as float32 of its shape; `order` rearranges the rows. Raises `UnsupportedFormat`."""
        entry = self.tensors[name]
        rows = self.rows(name)
        out = np.empty((rows.shape[0], entry.shape[-1]), np.float32)
        rows = rows if order is None else rows[order]
        if entry.kind in _INTO:
            size, into = _INTO[entry.kind]
            blocks, numbers = rows.reshape(-1, size), out.reshape(-1, 32)
            for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
                part = slice(start, start + _BLOCKS_AT_ONCE)
                into(blocks[part], numbers[part])
            return out.reshape(entry.shape)
        for start, stop, values in self._dequantized(entry, rows):
            out[start:stop] = values
        return out.reshape(entry.shape)

    def _dequantized(self, entry: TensorEntry, rows: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        width = entry.shape[-1]
        step = max(1, _NUMBERS_AT_ONCE // width)
        kind = GGMLQuantizationType(entry.kind)
        for start in range(0, rows.shape[0], step):
            piece = rows[start : start + step]
            plain = _PLAIN.get(kind.name)
            try:
                values = (
                    piece.view(plain) if plain else dequantize(piece.reshape(1, -1), kind).reshape(-1, width)
                )
            except NotImplementedError as error:
                raise UnsupportedFormat(
                    f"{self.path} holds {entry.name} as {kind.name}, which cannot be dequantized: "
                    f"take the model in another quantization."
                ) from error
            yield start, start + piece.shape[0], values

    def read_all(self, jobs: dict[str, Callable[[], np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
        """Run reading jobs on all cores (numpy lets go of the interpreter lock); results in the jobs' order."""
        with ThreadPoolExecutor() as pool:
            yield from zip(jobs, pool.map(lambda job: job(), jobs.values()), strict=True)


def _joined(files: list[GgufFile]) -> GgufFile:
    """Several files as one, whose fields are those of the first. Raises `DamagedFile`."""
    first = files[0]
    for number, file in enumerate(files):
        if file.field("split.no") != number or file.field("split.count") != len(files):
            raise DamagedFile(f"{file.path} is not file {number + 1} of {len(files)}: fetch the model again.")
    tensors = {
        name: replace(entry, part=number)
        for number, file in enumerate(files)
        for name, entry in file.tensors.items()
    }
    expected = first.field("split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise DamagedFile(f"{first.path} and the files next to it hold {len(tensors)} tensors of {expected}.")
    paths, parts = [file.path for file in files], [file._parts[0] for file in files]
    return GgufFile(first.path, first.fields, tensors, paths, parts)


def _four_bits_into(blocks: np.ndarray, out: np.ndarray) -> None:
    """Q4_1: scale and minimum in float16, then 32 codes of 4 bits, the low halves first."""
    codes = np.empty((len(blocks), 2, 16), np.uint8)
    np.bitwise_and(blocks[:, 4:], 15, out=codes[:, 0])
    np.right_shift(blocks[:, 4:], 4, out=codes[:, 1])
    halves = np.ascontiguousarray(blocks[:, :4]).view("<f2").astype(np.float32)
    out[:] = codes.reshape(out.shape)
    out *= halves[:, :1]
    out += halves[:, 1:]


def _eight_bits_into(blocks: np.ndarray, out: np.ndarray) -> None:
    """Q8_0: a scale in float16, then 32 signed bytes."""
    out[:] = blocks[:, 2:].view(np.int8)
    out *= np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)


#: by GGUF's number of the format: the bytes of a block, and what writes blocks as numbers
_INTO: dict[int, tuple[int, Callable[[np.ndarray, np.ndarray], None]]] = {
    3: (20, _four_bits_into),
    8: (34, _eight_bits_into),
}
_PLAIN = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


class _Parser:
    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self._path, self._view, self._at = path, view, 0
        self._order = "<"

    def parse(self) -> GgufFile:
        if self._view[:4] != _MAGIC:
            refuse_pointer(self._path)
            raise DamagedFile(f"{self._path} is no GGUF file: it begins with {bytes(self._view[:4])!r}.")
        self._at = 4
        version = self._scalar("I")
        if version in (2 << 24, 3 << 24):
            raise UnsupportedFormat(
                f"{self._path} is a big-endian GGUF file, made for machines like s390x, and Kun reads little-endian "
                f"ones: take the usual file of the model, or turn this one (gguf-convert-endian FILE little, from the "
                f"package gguf)."
            )
        if version not in (2, 3):
            raise UnsupportedFormat(
                f"{self._path} is GGUF version {version}; versions 2 and 3 (little-endian) are read: convert it anew."
            )
        n_tensors, n_fields = self._scalar("Q"), self._scalar("Q")
        self._sane(n_tensors, "tensors")
        self._sane(n_fields, "fields")
        file = GgufFile(self._path)
        for _ in range(n_fields):
            key = self._string()
            file.fields[key] = self._value(self._scalar("I"))
        headers = [self._tensor() for _ in range(n_tensors)]
        alignment = file.field("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 2**20:
            raise self._damaged(f"says an alignment of {alignment!r}")
        start = -(-self._at // alignment) * alignment
        file.tensors = {header[0]: self._entry(*header, start) for header in headers}
        file.paths, file._parts = [self._path], [np.frombuffer(self._view, np.uint8)]
        return file

    def _damaged(self, what: str) -> DamagedFile:
        return DamagedFile(f"{self._path} {what}: it is truncated or damaged; pull or copy it again.")

    def _sane(self, count: int, of: str) -> None:
        # each entry takes a dozen bytes at least: a larger count cannot be true
        if count > min(_MOST_ENTRIES, len(self._view) // 12):
            raise self._damaged(f"says that it holds {count} {of}")

    def _take(self, size: int) -> int:
        at = self._at
        if size > len(self._view) - at:
            raise self._damaged(f"ends at byte {len(self._view)}, in the middle of its header")
        self._at += size
        return at

    def _scalar(self, code: str) -> Any:
        layout = self._order + code
        return struct.unpack_from(layout, self._view, self._take(struct.calcsize(layout)))[0]

    def _string(self) -> str:
        size = self._scalar("Q")
        at = self._take(size)
        try:
            return self._view[at : at + size].decode("utf-8")
        except UnicodeDecodeError:
            return self._view[at : at + size].decode("utf-8", "replace")

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(depth)
        if kind not in _SCALARS:
            raise self._damaged(f"has a field of the unknown type {kind}")
        return self._scalar(_SCALARS[kind])

    def _array(self, depth: int) -> list[Any]:
        kind, count = self._scalar("I"), self._scalar("Q")
        if depth >= _DEEPEST_ARRAY:
            raise self._damaged("nests arrays too deeply")
        if kind in _SCALARS:
            layout = np.dtype("?" if kind == 7 else self._order + _SCALARS[kind])
            at = self._take(count * layout.itemsize)
            return np.frombuffer(self._view, layout, count, at).tolist()
        if count > len(self._view) // 8:
            raise self._damaged(f"has an array of {count} entries")
        return (
            self._strings(count) if kind == _STRING else [self._value(kind, depth + 1) for _ in range(count)]
        )

    def _strings(self, count: int) -> list[str]:
        """Many strings, as a vocabulary, without a call for each of their parts."""
        size_of, view, at = struct.Struct(self._order + "Q").unpack_from, self._view, self._at
        end, texts = len(view) - 8, list[str]()
        for _ in range(count):
            size = size_of(view, at)[0] if at <= end else end
            at += 8 + size
            if at > end + 8:
                raise self._damaged(f"ends at byte {len(view)}, in the middle of its header")
            texts.append(view[at - size : at].decode("utf-8", "replace"))
        self._at = at
        return texts

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        n_dimensions = self._scalar("I")
        if not 1 <= n_dimensions <= _MOST_DIMENSIONS:
            raise self._damaged(f"gives {name} {n_dimensions} dimensions")
        shape = tuple(reversed([self._scalar("Q") for _ in range(n_dimensions)]))
        return name, shape, self._scalar("I"), self._scalar("Q")

    def _entry(self, name: str, shape: tuple[int, ...], kind: int, offset: int, base: int) -> TensorEntry:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError) as error:
            raise UnsupportedFormat(
                f"{self._path} holds {name} in the unknown quantization {kind}: take the model in another one."
            ) from error
        elements = 1
        for extent in shape:
            elements *= extent
        if not 0 < elements < _MOST_ELEMENTS or shape[-1] % block:
            raise self._damaged(f"gives {name} the shape {list(shape)}")
        entry = TensorEntry(name, shape, kind, base + offset, elements // block * size)
        if entry.start + entry.bytes > len(self._view):
            raise self._damaged(
                f"ends at byte {len(self._view)}, but {name} needs it up to {entry.start + entry.bytes}"
            )
        return entry
