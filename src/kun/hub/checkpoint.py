"""A checkpoint: weights, tokenizer, chat template and lineage of one model, whatever form they lie in.

The makers are `folder` (the Hugging Face layout), `gguf.checkpoint`, `adapter` and `pipeline`; `opening` chooses.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.atomic_files import Progress, check_digest, inside, silent
from kun.errors import BadInput
from kun.families import family_of
from kun.hub.layout import weight_records
from kun.hub.lazy import LazyTensor
from kun.hub.loading import build, build_quantized
from kun.text.chat import ChatTemplate

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import nn

    from kun.networks.family import Family, Kind

_SAMPLES = 64
_SAMPLE_BYTES = 2**16
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token")


class Checkpoint(ABC):
    """Everything about one model, each part read when it is asked for; `config` is config.json."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    @property
    @abstractmethod
    def lineage(self) -> dict[str, Any]:
        """kun.json: where the model comes from; empty where nothing is known."""

    @property
    @abstractmethod
    def generation_config(self) -> dict[str, Any]:
        """generation_config.json: which tokens begin and end, how to sample; empty where nothing is known."""

    @property
    @abstractmethod
    def tokenizer_config(self) -> dict[str, Any]:
        """tokenizer_config.json: special tokens, limits; empty where nothing is known."""

    @property
    @abstractmethod
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer, without padding or truncation of its own. Raises `DamagedFile`."""

    @property
    @abstractmethod
    def pooling(self) -> str:
        """How an encoder's states become one vector: "mean", as where nothing is stated, "cls", "max", or another way.

        Raises `UnsupportedFormat` for a way of a GGUF file's that Kun does not know.
        """

    @property
    def is_sentence_encoder(self) -> bool:
        """Whether its files tell how a text becomes one vector, so that it was trained to make some by `pooling`."""
        return False

    @abstractmethod
    def state(self) -> "dict[str, torch.Tensor]":
        """The weights by the reference's names, `digests` compared while they are read. Raises `DamagedFile`."""

    def packed_tensors(self) -> Mapping[str, LazyTensor] | None:
        """The weights by the reference's names, each unpacked when it is asked for; None where nothing is packed."""
        return None

    @abstractmethod
    def identifying_files(self) -> list[Path]:
        """The files that make up the model."""

    @cached_property
    def identity(self) -> str:
        """A digest that tells this checkpoint from every other: of config, tokenizer and weights.

        Of large files it reads their size and evenly spread samples, so that it costs milliseconds; it is the same on
        every machine, and any training changes it.
        """
        digest = hashlib.sha256()
        for path in self.identifying_files():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            sample(path, digest)
        return digest.hexdigest()

    def digests(self) -> dict[Path, str]:
        """The SHA-256 of each file of weights, as far as kun.json records it."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return {
            inside(folder, name): record["sha256"] for name, record in weight_records(self.lineage).items()
        }

    def verify(self, progress: Progress = silent) -> None:
        """Read every byte of the weights and compare with `digests`, whatever is remembered. Raises `DamagedFile`."""
        for path, expected in self.digests().items():
            check_digest(path, expected, str(path), progress)

    @property
    def tokenizer_path(self) -> Path | None:
        """The tokenizer.json; None for a checkpoint that has its tokenizer in another form."""
        path = self.files_path / "tokenizer.json"
        return path if path.is_file() else None

    @property
    def files_path(self) -> Path:
        """Where the small files lie that tell how an encoder is used."""
        return self.path

    @cached_property
    def family(self) -> "Family":
        """The architecture. Raises `UnsupportedFormat` for one that Kun does not read."""
        return family_of(self.config)

    @property
    def kind(self) -> "Kind":
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
        source = self.template_source()
        return ChatTemplate(source, self.special_tokens) if source else None

    def template_source(self) -> str | None:
        """The text of the chat template, of several the one named default."""
        stated = self.tokenizer_config.get("chat_template")
        if isinstance(stated, list):  # several by name; the others are for uses of their own
            stated = next((one.get("template") for one in stated if one.get("name") == "default"), None)
        return stated if isinstance(stated, str) else None

    def network(
        self,
        dtype: "torch.dtype | str | None" = None,
        device: "torch.device | str | None" = None,
        quantize: str | None = None,
        *,
        as_packed: bool = False,
    ) -> "nn.Module":
        """The network with its weights, in evaluation mode.

        `dtype` is that of the file where None; `device` the best here; `quantize` None, "int8" or "int4" (kept
        under KUN_HOME/cache, so that the next start is quick). With `as_packed` a table of words that is only looked
        up may stay in the blocks of its file.
        Raises `DamagedFile` where weights and config do not fit together, `BadInput` for unknown options.
        """
        del as_packed  # a matter of packed files
        if quantize is None:
            return build(self, dtype, device)
        return build_quantized(self, quantize, device)


def sample(path: Path, digest: "hashlib._Hash") -> None:
    """Add to a digest what tells one file from another: all of a small one, evenly spread parts of a large one."""
    with path.open("rb") as file:
        for start, stop in sampled(path.stat().st_size):
            file.seek(start)
            digest.update(file.read(stop - start))


def sampled(size: int) -> list[tuple[int, int]]:
    """Start and end of the parts of a file of `size` bytes that `sample` reads."""
    if size <= _SAMPLES * _SAMPLE_BYTES:
        return [(0, size)]
    starts = (number * (size - _SAMPLE_BYTES) // (_SAMPLES - 1) for number in range(_SAMPLES))
    return [(start, start + _SAMPLE_BYTES) for start in starts]
