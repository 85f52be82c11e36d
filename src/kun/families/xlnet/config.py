"""The config of an XLNet, and the published sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from kun.blocks.activations import ACTIVATIONS
from kun.networks import config_keys as keys
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

    vocab_size: int = keys.whole(32000, "vocab_size")
    d_model: int = keys.whole(1024, "d_model")
    n_layers: int = keys.layers(24, "n_layer")
    n_heads: int = keys.heads(16, "n_head")
    d_ff: int = keys.whole(4096, "d_inner")
    norm_eps: float = keys.share(1e-12, "layer_norm_eps")
    activation: str = keys.choice("gelu", "ff_activation", ACTIVATIONS)
    attention: Literal["bi", "uni"] = keys.choice("bi", "attn_type", ("bi", "uni"))
    same_length: bool = keys.flag(False, "same_length")
    clamp: int | None = None
    memory: int | None = keys.limit("mem_len", missing=512)
    reuse: int | None = keys.limit("reuse_len")
    remembers: bool = keys.flag(True, "use_mems_eval")
    remembers_in_training: bool = keys.flag(False, "use_mems_train")
    tied: bool = keys.flag(True, "tie_word_embeddings")
    dropout: float = keys.share(0.1, "dropout")

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
    def from_hf(cls, values: Mapping[str, object]) -> "XLNetConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("architectures", [cls.architecture], [cls.architecture])
        f.only("untie_r", True, True)
        f.only("bi_data", False, False)
        config = keys.read(cls, f)
        d_head, odd = divmod(config.d_model, config.n_heads)
        if odd or config.d_model % 2:
            raise f.wrong("d_model", f"even, and a multiple of n_head, {config.n_heads}")
        f.integer("d_head", d_head, low=d_head, high=d_head)
        clamp = f.integer("clamp_len", -1, low=-1)
        return replace(config, clamp=clamp if clamp > 0 else None)

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        return keys.written(self) | {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "d_head": self.d_head,
            "clamp_len": self.clamp or -1,
        }


PRESETS: dict[str, XLNetConfig] = {
    "xlnet-base-cased": XLNetConfig(d_model=768, n_layers=12, n_heads=12, d_ff=3072),
    "xlnet-large-cased": XLNetConfig(),
}
"""Published sizes, by name."""
