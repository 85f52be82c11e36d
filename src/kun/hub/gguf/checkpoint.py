"""A checkpoint that is one GGUF file."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.atomic_files import check_once
from kun.hub.checkpoint import Checkpoint
from kun.hub.gguf.file import GgufFile
from kun.hub.gguf.model import generation_config, hf_config, hf_tensors, pooling
from kun.hub.gguf.tokenizer import GgufTokenizer
from kun.hub.layout import LINEAGE, read_json, weight_records
from kun.hub.lazy import LazyTensor

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
        """Open a file; its header is checked, and its digest where a kun.json next to it records one.

        Raises `DamagedFile`, which names it, and `UnsupportedFormat`.
        """
        file = GgufFile.open(path)
        for part, expected in _digests(
            file.paths
        ).items():  # at once: config and tokenizer are in the file, too
            check_once(part, expected)
        return cls(file.path, file)

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

    @property
    def is_sentence_encoder(self) -> bool:
        return bool(self._file.setting("pooling_type", 0))

    @cached_property
    def _text(self) -> GgufTokenizer:
        return GgufTokenizer(self._file)

    def identifying_files(self) -> list[Path]:
        return self._file.paths

    def digests(self) -> dict[Path, str]:
        return _digests(self._file.paths)

    def packed_tensors(self) -> Mapping[str, LazyTensor]:
        return hf_tensors(self._file)

    def state(self) -> "dict[str, torch.Tensor]":
        """The weights by the reference's names, float32."""
        import torch

        lazy = {name: tensor.read for name, tensor in self.packed_tensors().items()}
        return {name: torch.from_numpy(array) for name, array in self._file.read_all(lazy)}


def _digests(paths: list[Path]) -> dict[Path, str]:
    record = paths[0].with_name(LINEAGE)
    recorded = weight_records(read_json(record)) if record.is_file() else {}
    return {path: recorded[path.name]["sha256"] for path in paths if path.name in recorded}
