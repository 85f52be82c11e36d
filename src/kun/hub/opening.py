"""A checkpoint opened by what lies there."""

from pathlib import Path

from tokenizers import Tokenizer

from kun.hub.adapter import AdapterCheckpoint
from kun.hub.bases import open_base
from kun.hub.checkpoint import Checkpoint
from kun.hub.layout import is_adapter, is_pipeline
from kun.hub.pipeline import PipelineCheckpoint
from kun.text.tokenizer import load_tokenizer


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a folder in the Hugging Face layout, a `.gguf` file, an adapter's folder or a pipeline's.

    Sizes and headers are checked. An adapter is opened as the model that it makes of its base. Raises `DamagedFile`,
    which names the file, `UnsupportedFormat`, and for adapters what `AdapterCheckpoint.open` raises.
    """
    path = Path(path)
    if is_adapter(path):
        return AdapterCheckpoint.open(path)
    if is_pipeline(path):
        return PipelineCheckpoint.open(path)
    return open_base(path)


def open_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint, or of a folder that a tokenizer's training wrote, which holds nothing else.

    Raises what `open_checkpoint` raises.
    """
    path = Path(path)
    if (path / "tokenizer.json").is_file() and not (path / "config.json").is_file() and not is_adapter(path):
        return load_tokenizer(path)
    return open_checkpoint(path).tokenizer
