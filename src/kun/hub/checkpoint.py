"""A checkpoint: one folder (or .gguf file) with weights, tokenizer, chat template and lineage."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.errors import BadInput, DamagedFile
from kun.hub.files import Progress, check_digest, inside, silent
from kun.hub.layout import LINEAGE, read_json
from kun.hub.weights import Weights

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import nn

    from kun.text.chat import ChatTemplate

_SAMPLES = 64
_SAMPLE_BYTES = 2**16


def check_sizes(folder: Path, lineage: dict[str, Any]) -> None:
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
