"""Models out of Kun: in the Hugging Face layout, or as one GGUF file.

Whatever the form, the weights, the tokenizer, the chat template and the lineage go along, and the folder takes its name
when all of it is written and, where that was asked for, proved.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from kun.atomic_files import Progress, new_file, silent
from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.families.bert.config import BertConfig
from kun.hub.adapter import AdapterCheckpoint
from kun.hub.checkpoint import Checkpoint
from kun.hub.export.gguf import KINDS, as_stored, check_network, write_gguf
from kun.hub.export.gguf_fields import LINEAGE_KEY, network_fields
from kun.hub.gguf.file import GgufFile
from kun.hub.layout import LINEAGE, parent_of, read_json
from kun.hub.saving import lineage_of, save_checkpoint

if TYPE_CHECKING:
    import torch

    from kun.hub.export.gguf_tokenizer import Loss
    from kun.hub.export.verdict import Fidelity

Format = Literal["hf", "gguf"]
_NAMES = {
    "float32": "F32", "fp32": "F32", "f32": "F32",
    "bfloat16": "BF16", "bf16": "BF16",
    "float16": "F16", "fp16": "F16", "f16": "F16",
}  # fmt: skip
_FLOATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Exported:
    """What was written: `path` is what a reader opens, a folder or a .gguf file; `lost` what the format cannot say."""

    path: Path
    format: Format
    dtype: str
    bytes: int
    lost: tuple[str, ...] = ()
    fidelity: "Fidelity | None" = None
    """The proof of an export that was verified."""


@dataclass(frozen=True)
class Export:
    """One model on its way out: `net` is written as `format`, its weights as `dtype` ("F32", "Q8_0", …)."""

    checkpoint: Checkpoint
    net: Any
    format: Format
    dtype: str

    @classmethod
    def of(cls, checkpoint: Checkpoint, format: str, dtype: str | None, net: Any = None) -> "Export":
        """`net` is the checkpoint's own where it is None, `dtype` that of the weights.

        Raises `BadInput` for an unknown format or dtype, `UnsupportedFormat` for what the format cannot hold.
        """
        if format not in get_args(Format):
            raise BadInput(f"The format is one of {', '.join(get_args(Format))}, not {format!r}.")
        net = checkpoint.network(device="cpu") if net is None else net
        own = str(next(net.parameters()).dtype).removeprefix("torch.")
        wanted = _NAMES.get((dtype or own).lower(), (dtype or own).upper())
        known = _FLOATS if format == "hf" else KINDS
        if wanted not in known:
            raise BadInput(f"{format} files hold weights as one of {', '.join(known)}, not {dtype!r}.")
        if format == "gguf":
            check_network(net)
        else:
            _check_pooling(checkpoint, net.config)
        return cls(checkpoint, net, "hf" if format == "hf" else "gguf", wanted)

    def write(
        self, folder: Path, progress: Progress = silent, check: Callable[[Path], None] = lambda path: None
    ) -> Exported:
        """Write to `folder`, whole or not at all; for GGUF it may also be the file, named *.gguf.

        `check` is shown the written folder or file before it takes its name; if that raises, nothing is left.
        Raises `BadInput`, `UnsupportedFormat`, `NoSpace`, `NotWritable`.
        """
        folder = folder.absolute()
        if self.format == "gguf":
            return self._write_gguf(folder, progress, check)
        self._check_target(folder)
        _check_earlier(folder, self.checkpoint)
        save_checkpoint(
            folder,
            self.net,
            tokenizer=self.checkpoint.tokenizer,
            origin=self.checkpoint,
            dtype=self._float(),
            progress=progress,
            check=check,
        )
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Exported(folder, "hf", self.dtype, size)

    def _write_gguf(self, folder: Path, progress: Progress, check: Callable[[Path], None]) -> Exported:
        from kun.hub.export.gguf_tokenizer import tokenizer_fields

        checkpoint, template = self.checkpoint, self.checkpoint.chat_template
        lineage = lineage_of(_name(checkpoint), None, checkpoint)
        fields = network_fields(self.net, self.dtype, checkpoint, lineage)
        fields |= tokenizer_fields(
            checkpoint.tokenizer,
            self.net.config.vocab_size,
            checkpoint.special_tokens,
            _end_ids(checkpoint),
            template.source if template else None,
        )
        path = folder if folder.suffix == ".gguf" else folder / f"{lineage['name']}-{self.dtype}.gguf"
        if folder != path and folder.is_file():
            raise BadInput(f"{folder} is a file: name a folder, or a file that ends in .gguf.")
        if path.is_dir():
            raise BadInput(f"{path} is a folder: name another file for the export.")
        self._check_target(path)
        _check_earlier_file(path, checkpoint)
        with new_file(path) as fresh:
            write_gguf(fresh, self.net, self.dtype, fields, progress)
            check(fresh)
        size = path.stat().st_size
        return Exported(path, "gguf", self.dtype, size, tuple(loss.sentence for loss in self.losses()))

    def _check_target(self, path: Path) -> None:
        """Raise `BadInput` where the export would take the place of what it is made of."""
        base = self.checkpoint.base.path if isinstance(self.checkpoint, AdapterCheckpoint) else None
        for source in filter(None, (self.checkpoint.path, base)):
            if path.resolve() == source.resolve():
                raise BadInput(f"{path} is the model itself: name another place for the export.")

    def losses(self) -> "list[Loss]":
        """What of the tokenizer the format cannot say."""
        from kun.hub.export.gguf_tokenizer import losses

        return losses(self.checkpoint.tokenizer) if self.format == "gguf" else []

    def round(self, net: Any) -> None:
        """Give every weight of a float32 `net` of this kind the value that a reader of the export finds, in place."""
        import torch

        if self.format == "gguf":
            as_stored(net, self.dtype)
            return
        with torch.no_grad():
            for weight in net.parameters():
                weight.copy_(weight.to(self._float()).float())

    def _float(self) -> "torch.dtype":
        import torch

        return getattr(torch, _FLOATS[self.dtype])


def _check_pooling(checkpoint: Checkpoint, config: object) -> None:
    """Raise `UnsupportedFormat` for a classifier that reads all states: the reference's class reads the first alone."""
    if isinstance(config, BertConfig) and config.head == "SequenceClassification" and not config.reads_first:
        raise UnsupportedFormat(
            f"{checkpoint.path} pools by {config.pooling}, and transformers' {config.architecture} reads the first "
            'token alone: fine-tune it with objective.pooling = "cls" for other programs.'
        )


def _check_earlier(folder: Path, checkpoint: Checkpoint) -> None:
    """Raise `BadInput` where `folder` holds a model that is no earlier export of this one."""
    if (folder / LINEAGE).is_file() and not _is_parent(checkpoint, read_json(folder / LINEAGE)):
        raise BadInput(f"{folder} holds another model: name a new or empty folder for the export.")


def _check_earlier_file(path: Path, checkpoint: Checkpoint) -> None:
    """Raise `BadInput` where a file is at `path` that is no earlier export of this model."""
    if not path.exists():
        return
    try:
        lineage = json.loads(GgufFile.open(path).field(LINEAGE_KEY, "{}"))
    except (DamagedFile, UnsupportedFormat, ValueError):
        lineage = {}
    if not _is_parent(checkpoint, lineage):
        raise BadInput(
            f"{path} is another model, or none: name a new file, or another folder, for the export."
        )


def _is_parent(checkpoint: Checkpoint, lineage: object) -> bool:
    """Whether what has this lineage was made of `checkpoint`."""
    return isinstance(lineage, dict) and parent_of(lineage).get("identity") == checkpoint.identity


def _name(checkpoint: Checkpoint) -> str:
    """The model's name; a checkpoint of a run is called as the run."""
    path = checkpoint.path.absolute()
    name = str(checkpoint.lineage.get("name") or path.stem)
    return (path.parent.name if name == path.name == "checkpoint" else name).replace("/", "--")


def _end_ids(checkpoint: Checkpoint) -> list[int]:
    """The tokens that end a text or a turn, as far as the checkpoint names them by id."""
    said = checkpoint.generation_config.get("eos_token_id", checkpoint.config.get("eos_token_id"))
    ids = said if isinstance(said, list) else [said]
    return [index for index in ids if isinstance(index, int)]
