"""A checkpoint that is one GGUF file."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.atomic_files import Progress, silent
from kun.hub.checkpoint import Checkpoint
from kun.hub.gguf.file import GgufFile
from kun.hub.gguf.model import generation_config, hf_config, hf_tensors, pooling
from kun.hub.gguf.tokenizer import GgufTokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer


class GgufCheckpoint(Checkpoint):
    """Everything comes out of the file; its weights as float32."""

    def __init__(self, path: Path, file: GgufFile) -> None:
        super().__init__(path, hf_config(file))
        self._file = file

    @classmethod
    def open(cls, path: Path) -> "GgufCheckpoint":
        """Open a file; its header is checked. Raises `DamagedFile`, which names it, and `UnsupportedFormat`."""
        return cls(path, GgufFile.open(path))

    @cached_property
    def lineage(self) -> dict[str, Any]:
        return {"name": self.path.stem, "source": {"kind": "gguf", "file": self.path.name}}

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        return generation_config(self._file, self._text.end_ids())

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        return self._text.config()

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        return self._text.build()

    @property
    def pooling(self) -> str:
        return pooling(self._file)

    @cached_property
    def _text(self) -> GgufTokenizer:
        return GgufTokenizer(self._file)

    def identifying_files(self) -> list[Path]:
        return [self.path]

    def verify(self, progress: Progress = silent) -> None:
        """Nothing: the file has no digests."""

    def state(self) -> "dict[str, torch.Tensor]":
        """The weights by the reference's names, float32."""
        import torch

        lazy = {name: tensor.read for name, tensor in hf_tensors(self._file).items()}
        return {name: torch.from_numpy(array) for name, array in self._file.read_all(lazy)}
