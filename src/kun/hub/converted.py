"""The identity that a packed model has once its weights are safetensors and its tokenizer is a tokenizer.json.

Knowledge bases and adapters name their model by its identity. A model that was converted when it was pulled, as
versions of before did, and one that stayed packed hold the same numbers, so they have the same identity: it is computed
from the bytes that the converted files would have, none of which is written.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from kun.hub.checkpoint import sample, sampled
from kun.hub.lazy import LazyTensor
from kun.hub.weights import header_of, shards_of


def converted_identity(config: Path, tokenizer: Tokenizer, tensors: Mapping[str, LazyTensor]) -> str:
    """`Checkpoint.identity` of the folder that would hold this config.json, tokenizer and these tensors."""
    digest = hashlib.sha256()
    _add(config, digest)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "tokenizer.json"
        tokenizer.save(str(text))
        _add(text, digest)
    for name, shard in shards_of(dict(tensors)).items():
        header = header_of(shard)
        size = len(header) + sum(tensor.bytes for tensor in shard.values())
        digest.update(f"{name}\0{size}\0".encode())
        for part in _parts(header, shard, sampled(size)):
            digest.update(part.data)
    return digest.hexdigest()


def _add(path: Path, digest: "hashlib._Hash") -> None:
    digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    sample(path, digest)


def _parts(
    header: bytes, shard: Mapping[str, LazyTensor], wanted: list[tuple[int, int]]
) -> Iterator[np.ndarray]:
    """The bytes from start to end of the file that would be written, for each of `wanted` in order.

    Of the tensors only those are read that have a part in it, one at a time.
    """
    at, left = 0, list(wanted)
    sources: list[tuple[int, Callable[[], np.ndarray]]] = [
        (len(header), lambda: np.frombuffer(header, np.uint8))
    ]
    sources += [(tensor.bytes, tensor.read) for tensor in shard.values()]
    for size, read in sources:
        data: np.ndarray | None = None
        while left and left[0][0] < at + size:
            start, stop = left.pop(0)
            data = np.ascontiguousarray(read()).reshape(-1).view(np.uint8) if data is None else data
            yield data[start - at : stop - at]
            if stop > at + size:
                left.insert(0, (at + size, stop))
        at += size
