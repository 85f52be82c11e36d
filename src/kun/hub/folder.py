"""A checkpoint that lies in a folder in the Hugging Face layout."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kun.atomic_files import Progress, checking, silent
from kun.errors import DamagedFile, UnsupportedFormat
from kun.hub.checkpoint import Checkpoint
from kun.hub.layout import LINEAGE, check_files, read_json, read_pooling, weight_records
from kun.hub.weights import Weights, check_sizes
from kun.text.tokenizer_files import read_tokenizer, tokenizer_files, tokenizer_settings

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

_LONGEST_TEMPLATE = 2**20


class FolderCheckpoint(Checkpoint):
    """config.json, weights as safetensors, and the small files around them."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder; sizes and small files are checked. Raises `DamagedFile`, which names the file."""
        checkpoint = cls(path, read_json(path / "config.json"))
        _refuse_packed(path, checkpoint.config)
        check_sizes(path, weight_records(checkpoint.lineage))
        check_files(path, checkpoint.lineage)
        return checkpoint

    def _read(self, name: str) -> dict[str, Any]:
        """A small JSON file; empty where there is none."""
        return read_json(self.path / name) if (self.path / name).is_file() else {}

    @cached_property
    def lineage(self) -> dict[str, Any]:
        return self._read(LINEAGE)

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        return self._read("generation_config.json")

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        return tokenizer_settings(self.path, self.config)

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        return read_tokenizer(self.path, self.config)

    @property
    def pooling(self) -> str:
        return read_pooling(self.path)

    @property
    def is_sentence_encoder(self) -> bool:
        return (self.path / "1_Pooling" / "config.json").is_file()

    def template_source(self) -> str | None:
        return folder_template(self.path) or super().template_source()

    def identifying_files(self) -> list[Path]:
        return [self.path / "config.json", *tokenizer_files(self.path), *Weights.open(self.path).files]

    def verify(self, progress: Progress = silent) -> None:
        Weights.open(self.path)
        super().verify(progress)

    def state(self) -> "dict[str, torch.Tensor]":
        """The weights by the reference's names, mapped from the disk."""
        with checking(self.digests()):
            return Weights.open(self.path).load()


def _refuse_packed(folder: Path, config: Mapping[str, object]) -> None:
    """Raise `UnsupportedFormat` for weights that another program quantized."""
    packed = config.get("quantization_config")
    if isinstance(packed, dict):
        method = str(packed.get("quant_method", "another program's quantization"))[:40]
        method = method.upper() if method in ("gptq", "awq") else method
        raise UnsupportedFormat(
            f"{folder} holds weights packed by {method} (quantization_config in config.json), which Kun does not read: "
            f"take the model before it was quantized, or as GGUF; Kun quantizes it by itself (quantize = int4 or int8)."
        )


def folder_template(folder: Path) -> str | None:
    """The text of chat_template.jinja; None where there is none. Raises `DamagedFile`."""
    path = folder / "chat_template.jinja"
    if not path.is_file():
        return None
    if path.stat().st_size > _LONGEST_TEMPLATE:
        raise DamagedFile(f"{path} is longer than a chat template can be: pull or copy the model again.")
    return path.read_text(encoding="utf-8", errors="replace")
