"""The record of a family's GGUF files: sizes by llama.cpp's keys, and what differs from its library's map of names.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["pairs", "thirds", "transposed", "from_first"]
"""How a file has a tensor otherwise than the reference: each head's rotated rows in neighbouring pairs; all queries,
then all keys and values, not head by head; [out, in] for [in, out]; without the positions before a text's first."""


@dataclass(frozen=True)
class Size:
    """A number by the architecture's `key`, rounded to the shortest decimal of the same float32 where it is `real`.

    `usual` is what a file without it means: a number, or that of another key, or the quotient of two; None where the
    file has to have it.
    """

    key: str
    usual: float | str | tuple[str, str] | None = None
    real: bool = False


@dataclass(frozen=True)
class Rows:
    """The number of rows of a tensor, `usual` where the file lacks it."""

    tensor: str
    usual: int


@dataclass(frozen=True)
class Present:
    """Whether the file has a tensor."""

    tensor: str


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions are scaled: several keys, or a tensor of factors."""


FIELDS = {
    "vocab_size": "vocab_size",
    "context_length": "context_length",
    "embedding_length": "d_model",
    "block_count": "n_layers",
    "feed_forward_length": "d_ff",
    "attention.head_count": "n_heads",
    "attention.head_count_kv": "n_kv_heads",
    "attention.layer_norm_epsilon": "norm_eps",
    "attention.key_length": "d_head",
    "attention.value_length": "d_head",
    "attention.layer_norm_rms_epsilon": "norm_eps",
    "rope.dimension_count": "d_head",
    "rope.freq_base": "rotary.theta",
}
"""The keys of an architecture in the order of files, with the field of our config that each comes from."""

Source = Size | Rows | Present | RopeScaling | str | bool | None
"""What a key of config.json comes from; a constant is itself."""


@dataclass(frozen=True)
class GgufLayout:
    """The GGUF files of one `model_type`.

    `architecture` is llama.cpp's name, `reference` the reference's class. `config` has the source of each key of
    `config.json`, in its order, after the size of the vocabulary; `written` are keys that the file has besides, and
    `fields` those of our config that keys come from, where they differ from `FIELDS`. `names` are the reference's
    names that the library's map lacks. `orders` are by llama.cpp's name of a tensor, without its layer; `left_out` are
    beginnings of our names that files lack. `activations` are those that llama.cpp computes, by name and, as
    `activation`, in words; none where any config's will do.
    """

    architecture: str
    reference: str
    config: Mapping[str, Source]
    written: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    orders: Mapping[str, Order] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()
    activation: str = ""
