"""What a `config.json` of an XLNet says, and the published sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kun.blocks.activations import ACTIVATIONS
from kun.networks.fields import Fields

LONGEST = 4096
"""Tokens of a text that is completed. Places are relative, so that the network itself knows no end; but a text
is read at once, and its scores, of every token with every other, must fit in memory."""


@dataclass(frozen=True)
class XLNetConfig:
    """Sizes and switches of one XLNet.

    `attention` is "bi" for XLNet, "uni" for Transformer-XL, whose tokens see none behind them, and with
    `same_length` each as many as the others. Distances beyond `clamp` tokens count as that many. Of the states
    that are kept, the memory, the last `memory` stay (all where None); in training those of the first `reuse`
    tokens of a segment alone. `remembers` and `remembers_in_training` say whether memory is given out.
    """

    vocab_size: int = 32000
    d_model: int = 1024
    n_layers: int = 24
    n_heads: int = 16
    d_ff: int = 4096
    norm_eps: float = 1e-12
    activation: str = "gelu"
    attention: Literal["bi", "uni"] = "bi"
    same_length: bool = False
    clamp: int | None = None
    memory: int | None = None
    reuse: int | None = None
    remembers: bool = True
    remembers_in_training: bool = False
    tied: bool = True
    dropout: float = 0.1

    architecture = "XLNetLMHeadModel"
    model_type = "xlnet"

    @property
    def n_kv_heads(self) -> int:
        return self.n_heads

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def context_length(self) -> int:
        return LONGEST

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "XLNetConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("architectures", [cls.architecture], [cls.architecture])
        f.only("untie_r", True, True)
        f.only("bi_data", False, False)
        d_model, n_heads = f.integer("d_model", 1024), f.integer("n_head", 16, high=2**14)
        if d_model % n_heads or d_model % 2:
            raise f.wrong("d_model", f"even, and a multiple of n_head, {n_heads}")
        f.integer("d_head", d_model // n_heads, low=d_model // n_heads, high=d_model // n_heads)
        clamp = f.integer("clamp_len", -1, low=-1)
        return cls(
            vocab_size=f.integer("vocab_size", 32000),
            d_model=d_model,
            n_layers=f.integer("n_layer", 24, high=2**12),
            n_heads=n_heads,
            d_ff=f.integer("d_inner", 4096),
            norm_eps=f.number("layer_norm_eps", 1e-12, high=1.0),
            activation=f.only("ff_activation", "gelu", *ACTIVATIONS),
            attention=f.only("attn_type", "bi", "bi", "uni"),
            same_length=f.flag("same_length", False),
            clamp=clamp if clamp > 0 else None,
            memory=_length(f, "mem_len", 512),
            reuse=_length(f, "reuse_len", None),
            remembers=f.flag("use_mems_eval", True),
            remembers_in_training=f.flag("use_mems_train", False),
            tied=f.flag("tie_word_embeddings", True),
            dropout=f.number("dropout", 0.1, high=1.0),
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        return {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "vocab_size": self.vocab_size,
            "d_model": self.d_model,
            "n_layer": self.n_layers,
            "n_head": self.n_heads,
            "d_head": self.d_head,
            "d_inner": self.d_ff,
            "layer_norm_eps": self.norm_eps,
            "ff_activation": self.activation,
            "attn_type": self.attention,
            "same_length": self.same_length,
            "clamp_len": self.clamp or -1,
            "mem_len": self.memory,
            "reuse_len": self.reuse,
            "use_mems_eval": self.remembers,
            "use_mems_train": self.remembers_in_training,
            "tie_word_embeddings": self.tied,
            "dropout": self.dropout,
        }


def _length(f: Fields, name: str, default: int | None) -> int | None:
    """A number of tokens; None where the config says null, or 0, which both mean no limit."""
    if f.values.get(name, default) is None:
        return None
    return f.integer(name, default, low=0) or None


PRESETS: dict[str, XLNetConfig] = {
    "xlnet-base-cased": XLNetConfig(d_model=768, n_layers=12, n_heads=12, d_ff=3072),
    "xlnet-large-cased": XLNetConfig(),
}
"""Published sizes, by name."""
