"""A checkpoint: one folder (or .gguf file) with weights, tokenizer, chat template and lineage."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kun.atomic_files import Progress, check_digest, inside, silent
from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.families import family_of
from kun.hub.layout import LINEAGE, is_adapter, read_json, read_pooling
from kun.hub.weights import Weights
from kun.networks.family import Family, Kind
from kun.text.chat import ChatTemplate
from kun.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import nn

    from kun.hub.gguf.file import GgufFile

Quantization = Literal["int4", "int8"]

_SAMPLES = 64
_SAMPLE_BYTES = 2**16
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
_LONGEST_TEMPLATE = 2**20


class Checkpoint:
    """Everything about one model, each part read when it is asked for.

    `config` is config.json, `lineage` kun.json (empty where there is none), `generation_config`
    generation_config.json.
    """

    def __init__(self, path: Path, config: dict[str, Any], gguf: "GgufFile | None" = None) -> None:
        self.path = path
        self.config = config
        self._gguf = gguf

    @classmethod
    def open(cls, path: str | Path) -> "Checkpoint":
        """Open a folder in the Hugging Face layout, or a `.gguf` file; sizes and headers are checked.

        An adapter's folder is opened as the model that it makes of its base. Raises `DamagedFile`, which names the
        file, `UnsupportedFormat`, and for adapters what `AdapterCheckpoint.open` raises.
        """
        path = Path(path)
        if is_adapter(path):
            from kun.hub.adapter import AdapterCheckpoint

            return AdapterCheckpoint.open(path)
        if path.is_file() and path.suffix == ".gguf":
            from kun.hub.gguf.file import GgufFile
            from kun.hub.gguf.model import hf_config

            file = GgufFile.open(path)
            return cls(path, hf_config(file), file)
        if not (path / "config.json").is_file():
            raise UnsupportedFormat(
                f"{path} is no checkpoint: a folder with config.json, or a .gguf file, is."
            )
        checkpoint = cls(path, read_json(path / "config.json"))
        check_sizes(path, checkpoint.lineage)
        return checkpoint

    @property
    def files_path(self) -> Path:
        """Where the small files lie that say how an encoder is used."""
        return self.path

    @cached_property
    def family(self) -> Family:
        """The architecture. Raises `UnsupportedFormat` for one that Kun does not read."""
        return family_of(self.config)

    @property
    def kind(self) -> Kind:
        return self.family.kind

    @property
    def head(self) -> str | None:
        """What an encoder was saved with, as "MaskedLM"; None for the encoder alone and for what writes."""
        return self.family_config.head if self.kind == "encoder" else None

    @cached_property
    def family_config(self) -> Any:
        """config.json as its family reads it. Raises `BadInput` and `UnsupportedFormat`, which name the path."""
        try:
            return self.family.config.from_hf(self.config)
        except BadInput as error:
            raise type(error)(f"{self.path}: {error}") from error

    @cached_property
    def lineage(self) -> dict[str, Any]:
        path = self.path / LINEAGE
        if self._gguf is not None:
            return {"name": self.path.stem, "source": {"kind": "gguf", "file": self.path.name}}
        return read_json(path) if path.is_file() else {}

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        if self._gguf is not None:
            from kun.hub.convert import gguf_generation_config

            return gguf_generation_config(self._gguf, self._gguf_tokenizer)
        path = self.path / "generation_config.json"
        return read_json(path) if path.is_file() else {}

    @property
    def pooling(self) -> str:
        """How an encoder's states become one vector: "mean", as where nothing is said, "cls", "max", or another way.

        Raises `UnsupportedFormat` for a way of a GGUF file's that Kun does not know.
        """
        if self._gguf is None:
            return read_pooling(self.path)
        from kun.hub.gguf.model import pooling

        return pooling(self._gguf)

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        if self._gguf is not None:
            return self._gguf_tokenizer.config()
        path = self.path / "tokenizer_config.json"
        return read_json(path) if path.is_file() else {}

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer, without padding or truncation of its own. Raises `DamagedFile`."""
        return load_tokenizer(self.path) if self._gguf is None else self._gguf_tokenizer.build()

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """The texts of bos_token, eos_token and so on, as far as the checkpoint names them."""
        named = {name: self.tokenizer_config.get(name) for name in _SPECIAL}
        texts = {
            name: value.get("content") if isinstance(value, dict) else value for name, value in named.items()
        }
        return {name: text for name, text in texts.items() if isinstance(text, str)}

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The template that turns messages into a prompt; None for a model that has none."""
        source = self._template_source()
        return ChatTemplate(source, self.special_tokens) if source else None

    def _template_source(self) -> str | None:
        path = self.path / "chat_template.jinja"
        if self._gguf is None and path.is_file():
            if path.stat().st_size > _LONGEST_TEMPLATE:
                raise DamagedFile(
                    f"{path} is longer than a chat template can be: pull or copy the model again."
                )
            return path.read_text(encoding="utf-8", errors="replace")
        said = self.tokenizer_config.get("chat_template")
        if isinstance(said, list):  # several by name; the others are for uses of their own
            said = next((one.get("template") for one in said if one.get("name") == "default"), None)
        return said if isinstance(said, str) else None

    @cached_property
    def identity(self) -> str:
        """A digest that tells this checkpoint from every other: of config, tokenizer and weights.

        Of large files it reads their size and evenly spread samples, so that it costs milliseconds; it is the same on
        every machine, and any training changes it.
        """
        digest = hashlib.sha256()
        for path in self._identifying_files():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            sample(path, digest)
        return digest.hexdigest()

    def _identifying_files(self) -> list[Path]:
        if self._gguf is not None:
            return [self.path]
        small = [self.path / name for name in ("config.json", "tokenizer.json")]
        return [path for path in small if path.is_file()] + Weights.open(self.path).files

    @cached_property
    def _gguf_tokenizer(self) -> Any:
        from kun.hub.gguf.tokenizer import GgufTokenizer

        assert self._gguf is not None
        return GgufTokenizer(self._gguf)

    def verify(self, progress: Progress = silent) -> None:
        """Read every byte of the weights and compare with the digests in kun.json. Raises `DamagedFile`."""
        if self._gguf is not None:
            return
        Weights.open(self.path)
        records = self.lineage.get("weights")
        for name, record in (records if isinstance(records, dict) else {}).items():
            check_digest(inside(self.path, name), record["sha256"], str(self.path / name), progress)

    def state(self) -> "dict[str, torch.Tensor]":
        """The weights by their Hugging Face names: mapped from the disk, or float32 from a GGUF file."""
        if self._gguf is None:
            return Weights.open(self.path).load()
        import torch

        from kun.hub.gguf.model import hf_tensors

        lazy = {name: tensor.read for name, tensor in hf_tensors(self._gguf).items()}
        return {name: torch.from_numpy(array) for name, array in self._gguf.read_all(lazy)}

    def network(
        self,
        dtype: "torch.dtype | str | None" = None,
        device: "torch.device | str | None" = None,
        quantize: str | None = None,
    ) -> "nn.Module":
        """The network with its weights, in evaluation mode.

        `dtype` is that of the file where None; `device` the best here; `quantize` None, "int8" or "int4" (kept
        under KUN_HOME/cache, so that the next start is quick).
        Raises `DamagedFile` where weights and config do not fit together, `BadInput` for unknown options.
        """
        from kun.hub.loading import build, build_quantized

        if quantize is None:
            return build(self, dtype, device)
        return build_quantized(self, quantize, device)


def sample(path: Path, digest: Any) -> None:
    """Add to a digest what tells one file from another: all of a small one, evenly spread parts of a large one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _SAMPLES * _SAMPLE_BYTES:
            digest.update(file.read())
            return
        for number in range(_SAMPLES):
            file.seek(number * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))


def check_sizes(folder: Path, lineage: Mapping[str, Any]) -> None:
    """Raise `DamagedFile` where a weights file has not the size that kun.json recorded."""
    records = lineage.get("weights")
    for name, record in (records if isinstance(records, dict) else {}).items():
        path = inside(folder, name)
        expected = record.get("bytes") if isinstance(record, dict) else None
        size = path.stat().st_size if path.is_file() else None
        if size != expected:
            raise DamagedFile(
                f"{path} has {size or 'no'} bytes where {LINEAGE} recorded {expected}: it is truncated or was "
                f"replaced; pull or copy the model again."
            )
