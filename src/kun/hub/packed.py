"""A checkpoint whose weights stay in the one packed file that they came in, with small JSON files next to it.

`model.gguf` is llama.cpp's format, `model.e5` the 4-bit file of multilingual-e5-small. Nothing heavy is written to the
folder: the converted tokenizer is kept under KUN_HOME/cache, as are weights that are packed for this processor.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from tokenizers import Tokenizer

from kun.atomic_files import Progress, checking, silent
from kun.errors import DamagedFile, UnsupportedFormat
from kun.hub.cache import keep, kept
from kun.hub.checkpoint import Checkpoint
from kun.hub.e5 import E5File
from kun.hub.folder import FolderCheckpoint
from kun.hub.gguf.file import GgufFile
from kun.hub.gguf.model import hf_tensors
from kun.hub.gguf.tokenizer import GgufTokenizer
from kun.hub.layout import packed_file, weight_records
from kun.hub.lazy import LazyTensor
from kun.hub.loading import build

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kun.networks.family import Family

_TOKENIZER_VERSION = 1


class PackedFile(Protocol):
    """An open packed file."""

    @property
    def tensors(self) -> Mapping[str, LazyTensor]:
        """The tensors by the reference's names."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def rows(self) -> Mapping[str, np.ndarray]:
        """Tables in 4-bit blocks that can be looked up as they are, uint8 [rows, bytes], by the reference's names."""


@dataclass(frozen=True)
class _Gguf:
    file: GgufFile

    @cached_property
    def tensors(self) -> Mapping[str, LazyTensor]:
        return hf_tensors(self.file)

    @property
    def tokenizer(self) -> Tokenizer:
        return GgufTokenizer(self.file).build()

    @property
    def rows(self) -> Mapping[str, np.ndarray]:
        return {}


_READERS: dict[str, Callable[[Path], PackedFile]] = {
    ".gguf": lambda path: _Gguf(GgufFile.open(path)),
    ".e5": E5File,
}


class PackedCheckpoint(FolderCheckpoint):
    """A folder with a packed file in the place of safetensors and tokenizer.json."""

    @cached_property
    def file_path(self) -> Path:
        """The packed file."""
        path = packed_file(self.path)
        if path is None:
            raise DamagedFile(f"{self.path} holds no weights: pull or copy the model again.")
        return path

    @cached_property
    def _file(self) -> PackedFile:
        if self.file_path.suffix not in _READERS:
            raise UnsupportedFormat(f"{self.file_path} is of no kind that Kun reads.")
        return _READERS[self.file_path.suffix](self.file_path)

    @cached_property
    def identity(self) -> str:
        """That of the same model in another form, where kun.json records one; else the digest of the file."""
        recorded = self.lineage.get("identity")
        return recorded if isinstance(recorded, str) else super().identity

    def identifying_files(self) -> list[Path]:
        return [self.path / "config.json", self.file_path]

    @property
    def tokenizer_key(self) -> str:
        """Under which name the converted tokenizer is kept."""
        record = weight_records(self.lineage).get(self.file_path.name)
        return f"packed-{(record['sha256'] if record else self.identity)[:32]}-v{_TOKENIZER_VERSION}"

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        return self._read("tokenizer_config.json")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        path = self.tokenizer_path
        return self._file.tokenizer if path is None else Tokenizer.from_file(str(path))

    @property
    def tokenizer_path(self) -> Path | None:
        """The kept tokenizer.json, made where there is none; None where it could not be kept."""
        for path in kept("tokenizers", self.tokenizer_key, ".json"):
            return path
        with checking(self.digests()):
            tokenizer = self._file.tokenizer
        keep("tokenizers", self.tokenizer_key, ".json", lambda path: tokenizer.save(str(path), pretty=False))
        vars(self._file).pop("tokenizer", None)
        return next(kept("tokenizers", self.tokenizer_key, ".json"), None)

    def verify(self, progress: Progress = silent) -> None:
        Checkpoint.verify(self, progress)

    def packed_tensors(self) -> Mapping[str, LazyTensor]:
        return self._file.tensors

    def state(self) -> "dict[str, torch.Tensor]":
        """The weights by the reference's names, float32."""
        with checking(self.digests()):
            return read_all(self.packed_tensors())

    def network(
        self,
        dtype: "torch.dtype | str | None" = None,
        device: "torch.device | str | None" = None,
        quantize: str | None = None,
        *,
        as_packed: bool = False,
    ) -> "nn.Module":
        import torch

        plain = dtype is None and device is None and quantize is None and not torch.cuda.is_available()
        if not (as_packed and plain and self._file.rows):
            return super().network(dtype, device, quantize)
        from kun.adaptation.block_rows import BlockRows

        net: Any = build(_Spared(self), None, "cpu")
        for name, rows in self._file.rows.items():
            (part,) = net.names.ours({name: torch.empty(0)})
            net.set_submodule(part.removesuffix(".weight"), BlockRows(rows))
        return cast("nn.Module", net)


@dataclass(frozen=True)
class _Spared:
    """A packed checkpoint without the numbers of those tables that stay as they are."""

    checkpoint: PackedCheckpoint

    @property
    def path(self) -> Path:
        return self.checkpoint.path

    @property
    def identity(self) -> str:
        return self.checkpoint.identity

    @property
    def config(self) -> dict[str, Any]:
        return self.checkpoint.config

    @property
    def family(self) -> "Family":
        return self.checkpoint.family

    @property
    def family_config(self) -> Any:
        return self.checkpoint.family_config

    def state(self) -> "dict[str, torch.Tensor]":
        import torch

        every = self.checkpoint.packed_tensors()
        spared = self.checkpoint._file.rows
        with checking(self.checkpoint.digests()):
            read = read_all({name: tensor for name, tensor in every.items() if name not in spared})
        return {
            name: read[name] if name in read else torch.zeros(1).expand(each.shape)
            for name, each in every.items()
        }


def read_all(tensors: Mapping[str, LazyTensor]) -> "dict[str, torch.Tensor]":
    """Tensors read on all cores: numpy lets go of the interpreter's lock."""
    import torch

    def read(tensor: LazyTensor) -> Any:
        return torch.from_numpy(tensor.read())

    with ThreadPoolExecutor() as pool:
        return dict(zip(tensors, pool.map(read, tensors.values()), strict=True))
