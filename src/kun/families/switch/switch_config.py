"""The sizes of Switch Transformers: read, written, published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.experts import capacity_of
from kun.networks.fields import Fields

GATED = "gated-gelu"
"""T5's name of a feed-forward network gated by GELU in its tanh approximation."""

CONTEXT = 2048
"""Tokens of a cached sequence. As in T5 the network knows no end, but the scores of a longer source take gigabytes."""


@dataclass(frozen=True)
class SwitchConfig:
    """Sizes of one network, whose encoder has `n_layers`, and its decoder `n_decoder_layers`.

    `n_sparse_*` say how many of them are to hold experts: every second layer where it is half of them. In
    training an expert takes `capacity_factor` times its even share of a row, or `expert_capacity` tokens of
    it where there is no factor. `dropout` and `jitter` act in training alone.
    """

    vocab_size: int = 32128
    d_model: int = 768
    d_head: int = 64
    d_ff: int = 2048
    n_heads: int = 12
    n_layers: int = 12
    n_decoder_layers: int = 12
    n_sparse_layers: int = 3
    n_sparse_decoder_layers: int = 3
    n_experts: int = 8
    expert_capacity: int = 64
    capacity_factor: float | None = None
    jitter: float = 0.01
    router_bias: bool = False
    buckets: int = 32
    max_distance: int = 128
    norm_eps: float = 1e-6
    activation: str = "relu"
    gated: bool = False
    tied: bool = True
    dropout: float = 0.1
    z_loss: float = 0.001
    balance_loss: float = 0.001
    pad_token: int = 0
    start_token: int = 0

    architecture = "SwitchTransformersForConditionalGeneration"
    model_type = "switch_transformers"
    context_length = CONTEXT

    def is_sparse(self, layer: int, *, encoder: bool) -> bool:
        """Whether a layer holds experts; with none asked for, the reference still puts them into the second."""
        if encoder:
            n_layers, n_sparse = self.n_layers, self.n_sparse_layers
        else:
            n_layers, n_sparse = self.n_decoder_layers, self.n_sparse_decoder_layers
        step = n_layers // n_sparse if n_sparse else n_layers
        return step == 1 or layer % step == 1

    @property
    def experts_per_token(self) -> int:
        """To how many experts of a layer a token goes, where they have room."""
        return 1

    def capacity(self, length: int) -> int:
        """How many of a row's `length` tokens an expert takes in training."""
        if self.capacity_factor is None:
            return self.expert_capacity
        return capacity_of(length, self.n_experts, self.capacity_factor)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "SwitchConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("is_decoder", False, False)
        f.only("router_dtype", "float32", "float32")
        activation = f.only("dense_act_fn", "relu", *ACTIVATIONS, GATED)
        n_layers = f.integer("num_layers", 12, high=2**12)
        n_decoder_layers = f.integer("num_decoder_layers", n_layers, high=2**12)
        vocab_size = f.integer("vocab_size", 32128)
        pad = f.integer("pad_token_id", 0, low=0, high=vocab_size - 1)
        buckets = f.integer("relative_attention_num_buckets", 32)
        if buckets % 4:
            raise f.wrong("relative_attention_num_buckets", "a multiple of 4")
        return cls(
            vocab_size=vocab_size,
            d_model=f.integer("d_model", 768),
            d_head=f.integer("d_kv", 64),
            d_ff=f.integer("d_ff", 2048),
            n_heads=f.integer("num_heads", 12, high=2**14),
            n_layers=n_layers,
            n_decoder_layers=n_decoder_layers,
            n_sparse_layers=f.integer("num_sparse_encoder_layers", 3, low=0, high=n_layers),
            n_sparse_decoder_layers=f.integer("num_sparse_decoder_layers", 3, low=0, high=n_decoder_layers),
            n_experts=f.integer("num_experts", 8, high=2**16),
            expert_capacity=f.integer("expert_capacity", 64),
            capacity_factor=f.number("capacity_factor", above=True) if "capacity_factor" in f else None,
            jitter=f.number("router_jitter_noise", 0.01, high=1.0),
            router_bias=f.flag("router_bias", False),
            buckets=buckets,
            max_distance=f.integer("relative_attention_max_distance", 128, low=buckets // 2 + 1),
            norm_eps=f.number("layer_norm_epsilon", 1e-6, high=1.0),
            activation="gelu_new" if activation == GATED else activation,
            gated=activation == GATED,
            tied=f.flag("tie_word_embeddings", True),
            dropout=f.number("dropout_rate", 0.1, high=1.0),
            z_loss=f.number("router_z_loss_coef", 0.001),
            balance_loss=f.number("router_aux_loss_coef", 0.001),
            pad_token=pad,
            start_token=f.integer("decoder_start_token_id", pad, low=0, high=vocab_size - 1),
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network, if it is not `gated`.

        Its class has no gated experts, though a published checkpoint does (`google/switch-xxl-128`).
        """
        hf: dict[str, Any] = {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            "vocab_size": self.vocab_size,
            "d_model": self.d_model,
            "d_kv": self.d_head,
            "d_ff": self.d_ff,
            "num_heads": self.n_heads,
            "num_layers": self.n_layers,
            "num_decoder_layers": self.n_decoder_layers,
            "num_sparse_encoder_layers": self.n_sparse_layers,
            "num_sparse_decoder_layers": self.n_sparse_decoder_layers,
            "num_experts": self.n_experts,
            "expert_capacity": self.expert_capacity,
            "router_jitter_noise": self.jitter,
            "router_bias": self.router_bias,
            "router_dtype": "float32",
            "relative_attention_num_buckets": self.buckets,
            "relative_attention_max_distance": self.max_distance,
            "layer_norm_epsilon": self.norm_eps,
            "dense_act_fn": GATED if self.gated else self.activation,
            "tie_word_embeddings": self.tied,
            "dropout_rate": self.dropout,
            "router_z_loss_coef": self.z_loss,
            "router_aux_loss_coef": self.balance_loss,
            "pad_token_id": self.pad_token,
            "decoder_start_token_id": self.start_token,
        }
        return hf if self.capacity_factor is None else hf | {"capacity_factor": self.capacity_factor}


def _base(n_experts: int, **other: Any) -> SwitchConfig:
    """Every second feed-forward network is a mixture; the paper trains with a capacity factor of 1.25."""
    layers = other.pop("layers", 12)
    sizes: dict[str, Any] = {"d_ff": 3072, "n_sparse_layers": layers // 2, "capacity_factor": 1.25}
    sizes |= {"n_layers": layers, "n_decoder_layers": layers, "n_sparse_decoder_layers": layers // 2}
    return SwitchConfig(n_experts=n_experts, **(sizes | other))


PRESETS: dict[str, SwitchConfig] = {
    **{f"switch-base-{count}": _base(count) for count in (8, 16, 32, 64, 128, 256)},
    "switch-large-128": _base(128, layers=24, d_model=1024, d_ff=4096, n_heads=16),
    "switch-xxl-128": _base(
        128, layers=24, d_model=4096, d_ff=10240, n_heads=64, activation="gelu_new", gated=True, tied=False
    ),
    "switch-c-2048": _base(
        2048, layers=15, d_model=2080, d_ff=6144, n_heads=32, n_sparse_layers=15, n_sparse_decoder_layers=15
    ),
}
"""Published sizes, by name: Table 9 of the paper where its counts follow from its sizes, else as released.

It gives Base 2048 and Large 2816 gated units in the feed-forward network, and XXL 64 experts. Base counts the
same with the 3072 plain units of the release (768 · 3 · 2048 = 768 · 2 · 3072); Large comes to the stated 26
billion with the 4096 plain units of the release only (27.1 with 2816 gated ones), XXL to the stated 395 billion
with the 128 experts of the release only (200 with 64).
"""
