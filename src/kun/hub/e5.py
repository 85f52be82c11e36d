"""The 4-bit file of multilingual-e5-small as a BERT checkpoint in the Hugging Face layout.

Layout of the file (little-endian): `E5S1`, the sizes, a Unigram vocabulary with its character map, a directory, and the
tensors: matrices in 4-bit blocks of 32 (float16 scale, low nibbles first half, high nibbles second, minus 8),
the rest float32.
"""

import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from kun.errors import DamagedFile
from kun.hub.gguf.model import round_float
from kun.hub.lazy import LazyTensor

_BLOCK = 32
_BLOCK_BYTES = 2 + _BLOCK // 2
_FLOATS, _NIBBLES = 0, 1
_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
#: NFKC would make "~" of this one, but the model has a piece for it: it waits as a noncharacter meanwhile
_WAVE, _HELD = "\uff5e", "\ufdd0"


@dataclass(frozen=True)
class _Sizes:
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float
    block: int


class E5File:
    """The parts of a whole file: `config`, `tokenizer`, `tensors`. Raises `DamagedFile`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data: np.ndarray = np.empty(0, np.uint8)
        if path.stat().st_size:
            self._data = np.memmap(path, np.uint8, "r")
        self._at = 0
        self.rows: dict[str, np.ndarray] = {}
        try:
            self._parse()
        except (struct.error, ValueError, OverflowError) as error:
            raise DamagedFile(f"{path} is truncated or damaged ({error}): pull it again.") from error

    def _parse(self) -> None:
        if bytes(self._data[:4]) != b"E5S1":
            raise DamagedFile(f"{self._path} is no E5S1 file: pull it again.")
        self._at = 4
        (version,) = self._unpack("<I")
        self.sizes = _Sizes(*self._unpack("<7ifi"))
        if version != 1 or self.sizes.block != _BLOCK or min(self._unpacked_sizes()) < 1:
            raise DamagedFile(
                f"{self._path} has version {version} and senseless sizes {self.sizes}: pull it again."
            )
        self._tokenizer_at = self._at
        self._skip_tokenizer()
        self.tensors = self._read_directory()

    def _unpacked_sizes(self) -> tuple[int, ...]:
        sizes = self.sizes
        return (
            sizes.hidden,
            sizes.layers,
            sizes.heads,
            sizes.feed_forward,
            sizes.vocabulary,
            sizes.positions,
        )

    @property
    def config(self) -> dict[str, Any]:
        """config.json of the original: a BERT whose positions count from 0."""
        sizes = self.sizes
        return {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": sizes.vocabulary,
            "hidden_size": sizes.hidden,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "intermediate_size": sizes.feed_forward,
            "max_position_embeddings": sizes.positions,
            "type_vocab_size": sizes.token_types,
            "layer_norm_eps": round_float(sizes.epsilon),
            "hidden_act": "gelu",
            "pad_token_id": 0,
            "torch_dtype": "float32",
        }

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._data.data, self._at)
        self._at += struct.calcsize(layout)
        return values

    def _array(self, layout: str, count: int) -> np.ndarray:
        size = count * np.dtype(layout).itemsize
        if count < 0 or size > self._data.size - self._at:
            raise ValueError(f"{count} numbers at byte {self._at} do not fit into the file")
        self._at += size
        return self._data[self._at - size : self._at].view(layout)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which takes 240 MB. Raises `DamagedFile`."""
        self._at = self._tokenizer_at
        try:
            return self._read_tokenizer()
        except (struct.error, ValueError, OverflowError) as error:
            raise DamagedFile(f"{self._path} is truncated or damaged ({error}): pull it again.") from error

    def _skip_tokenizer(self) -> None:
        count, *_, size = self._unpack("<5iQ")
        for layout, numbers in (("<u4", count + 1), ("<f4", count), ("u1", size)):
            self._array(layout, numbers)
        self._read_character_map()

    def _read_tokenizer(self) -> Tokenizer:
        count, bos, eos, pad, unknown, size = self._unpack("<5iQ")
        offsets = self._array("<u4", count + 1)
        scores = self._array("<f4", count)
        blob = self._array("u1", size).tobytes()
        pieces = [blob[a:b].decode() for a, b in pairwise(offsets.tolist())]
        if not all(0 <= index < count for index in (bos, eos, pad, unknown)):
            raise ValueError("the special tokens are outside the vocabulary")
        tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unk_id=unknown))
        tokenizer.normalizer = _normalizer(self._read_character_map())
        # words apart, each with its own ▁: what runs of spaces to one and Metaspace give, and no spaces at the ends
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", prepend_scheme="always")]
        )
        tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme="always")
        first, last = pieces[bos], pieces[eos]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {last} {last} $B {last}",
            special_tokens=[(first, bos), (last, eos)],
        )
        special = dict.fromkeys([first, pieces[pad], last, pieces[unknown]])
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
        if pieces[-1] == "<mask>":
            tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
        return tokenizer

    def _read_character_map(self) -> dict[str, str]:
        count, size = self._unpack("<iI")
        end = self._at + size
        mapping = {}
        for _ in range(count):
            character, length = self._unpack("<IB")
            mapping[chr(character)] = "".join(map(chr, self._unpack(f"<{length}I")))
        if self._at != end:
            raise ValueError("the character map does not end where it says")
        return mapping

    def _read_directory(self) -> dict[str, LazyTensor]:
        tensors = {}
        (count,) = self._unpack("<i")
        for _ in range(count):
            (length,) = self._unpack("<H")
            name = self._array("u1", length).tobytes().decode()
            kind, elements, start, size = self._unpack("<BIQQ")
            tensors[self._hf_name(name)] = self._tensor(name, kind, elements, start, size)
        return tensors

    def _hf_name(self, name: str) -> str:
        if name in _NAMES:
            return _NAMES[name]
        layer, _, rest = name.partition(".")
        part, _, end = rest.partition(".")
        if part not in _LAYER_NAMES or end not in ("w", "b") or not layer[1:].isdecimal():
            raise ValueError(f"it holds the tensor {name!r}, which the model does not have")
        return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{'weight' if end == 'w' else 'bias'}"

    def _shape(self, name: str, elements: int) -> tuple[int, ...]:
        rows = {
            "emb.word": self.sizes.vocabulary,
            "emb.pos": self.sizes.positions,
            "emb.type": self.sizes.token_types,
        }.get(name)
        part = name.rpartition(".")[0].rpartition(".")[2]
        if rows is None and name.endswith(".w") and not part.endswith("ln"):
            rows = self.sizes.feed_forward if part == "fi" else self.sizes.hidden
        if rows is None:
            return (elements,)
        if elements % rows:
            raise ValueError(f"{name} has {elements} numbers for {rows} rows")
        return (rows, elements // rows)

    def _tensor(self, name: str, kind: int, elements: int, start: int, size: int) -> LazyTensor:
        expected = elements // _BLOCK * _BLOCK_BYTES if kind == _NIBBLES else 4 * elements
        if kind not in (_FLOATS, _NIBBLES) or size != expected or start + size > self._data.size:
            raise ValueError(f"{name} of the kind {kind} with {size} bytes at byte {start} cannot be")
        shape = self._shape(name, elements)
        raw = self._data[start : start + size]
        if kind == _FLOATS:
            return LazyTensor(shape, lambda: np.array(raw).view("<f4").reshape(shape))
        if name == "emb.word":
            self.rows = {_NAMES[name]: raw.reshape(shape[0], -1)}
        return LazyTensor(shape, lambda: _from_blocks(raw).reshape(shape))


def _from_blocks(raw: np.ndarray) -> np.ndarray:
    from kun.adaptation.block_rows import from_blocks

    return from_blocks(raw)


def _normalizer(mapping: dict[str, str]) -> Any:
    """NFKC, which also joins what is written as letter and accent, corrected where the file's map differs from it."""
    from unicodedata import normalize

    different = {source: to for source, to in mapping.items() if normalize("NFKC", source) != to}
    steps: list[Any] = [normalizers.Replace(_WAVE, _HELD)]
    for target in sorted(set(different.values())):
        sources = "".join(f"\\x{{{ord(source):x}}}" for source, to in different.items() if to == target)
        steps.append(normalizers.Replace(Regex(f"[{sources}]"), target))
    steps += [
        normalizers.NFKC(),
        normalizers.Replace(_HELD, _WAVE),
        normalizers.Replace(Regex(" {2,}"), " "),
    ]
    return normalizers.Sequence(steps)
