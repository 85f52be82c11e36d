"""What a model takes on the disk besides its folder."""

from pathlib import Path

from kun.errors import KunError
from kun.hub.cache import cached_bytes
from kun.hub.layout import is_pipeline
from kun.hub.opening import open_checkpoint
from kun.hub.packed import PackedCheckpoint


def cache_of(folder: Path) -> int:
    """Bytes under KUN_HOME/cache that belong to the model in a folder; 0 for one that cannot be opened."""
    if is_pipeline(folder):
        return 0
    try:
        checkpoint = open_checkpoint(folder)
        keys = [f"-{checkpoint.identity[:32]}-"]
        if isinstance(checkpoint, PackedCheckpoint):
            keys.append(checkpoint.tokenizer_key)
    except KunError:
        return 0
    return cached_bytes(*keys)
