"""The sizes of Switch Transformers: read, written, published."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.experts import capacity_of
from kun.families.t5 import StackConfig
from kun.networks import config_keys as keys
from kun.networks.fields import Fields

GATED = "gated-gelu"
"""T5's name of a feed-forward network gated by GELU in its tanh approximation."""


@dataclass(frozen=True)
class SwitchConfig(StackConfig):
    """Sizes of one network, whose encoder has `n_layers`, and its decoder `n_decoder_layers`.

    `n_sparse_*` say how many of them are to hold experts: every second layer where it is half of them. In
    training an expert takes `capacity_factor` times its even share of a row, or `expert_capacity` tokens of
    it where there is no factor. `dropout` and `jitter` act in training alone.
    """

    d_model: int = keys.whole(768, "d_model")
    n_heads: int = keys.heads(12, "num_heads")
    n_layers: int = keys.layers(12, "num_layers")
    n_decoder_layers: int = keys.layers(12, "num_decoder_layers")
    n_sparse_layers: int = keys.whole(3, "num_sparse_encoder_layers", low=0, high=2**12)
    n_sparse_decoder_layers: int = keys.whole(3, "num_sparse_decoder_layers", low=0, high=2**12)
    n_experts: int = keys.whole(8, "num_experts", high=2**16)
    expert_capacity: int = keys.whole(64, "expert_capacity")
    capacity_factor: float | None = keys.number_or_none("capacity_factor", above=True)
    jitter: float = keys.share(0.01, "router_jitter_noise")
    router_bias: bool = keys.flag(False, "router_bias")
    z_loss: float = keys.number(0.001, "router_z_loss_coef")
    balance_loss: float = keys.number(0.001, "router_aux_loss_coef")
    pad_token: int = keys.token(0, "pad_token_id")

    architecture = "SwitchTransformersForConditionalGeneration"
    model_type = "switch_transformers"

    def is_sparse(self, layer: int, *, encoder: bool) -> bool:
        """True for a layer with experts; with none asked for, the reference still puts them into the second."""
        if encoder:
            n_layers, n_sparse = self.n_layers, self.n_sparse_layers
        else:
            n_layers, n_sparse = self.n_decoder_layers, self.n_sparse_decoder_layers
        step = n_layers // n_sparse if n_sparse else n_layers
        return step == 1 or layer % step == 1

    @property
    def experts_per_token(self) -> int:
        """The number of experts of a layer that a token goes to, where they have room."""
        return 1

    def capacity(self, length: int) -> int:
        """The number of a row's `length` tokens that an expert takes in training."""
        if self.capacity_factor is None:
            return self.expert_capacity
        return capacity_of(length, self.n_experts, self.capacity_factor)

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> Self:
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("is_decoder", False, False)
        f.only("router_dtype", "float32", "float32")
        activation = f.only("dense_act_fn", "relu", *ACTIVATIONS, GATED)
        config = cls.sizes(f)
        for side, sparse, n_layers in (
            ("encoder", config.n_sparse_layers, config.n_layers),
            ("decoder", config.n_sparse_decoder_layers, config.n_decoder_layers),
        ):
            if sparse > n_layers:
                raise f.wrong(f"num_sparse_{side}_layers", f"a whole number from 0 to {n_layers}")
        start = config.start_token if "decoder_start_token_id" in f else config.pad_token
        gated = activation == GATED
        return replace(config, activation="gelu_new" if gated else activation, gated=gated, start_token=start)

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network, if it is not `gated`.

        Its class has no gated experts, though a published checkpoint does (`google/switch-xxl-128`).
        """
        return keys.written(self) | {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            "router_dtype": "float32",
            "dense_act_fn": GATED if self.gated else self.activation,
        }


def _sizes(
    n_experts: int, layers: int = 12, d_model: int = 768, d_ff: int = 3072, n_heads: int = 12
) -> SwitchConfig:
    """Every second feed-forward network is a mixture; the paper trains with a capacity factor of 1.25."""
    return SwitchConfig(
        n_experts=n_experts,
        d_model=d_model,
        d_ff=d_ff,
        n_heads=n_heads,
        n_layers=layers,
        n_decoder_layers=layers,
        n_sparse_layers=layers // 2,
        n_sparse_decoder_layers=layers // 2,
        capacity_factor=1.25,
    )


PRESETS: dict[str, SwitchConfig] = {
    **{f"switch-base-{count}": _sizes(count) for count in (8, 16, 32, 64, 128, 256)},
    "switch-large-128": _sizes(128, 24, 1024, 4096, 16),
    "switch-xxl-128": replace(
        _sizes(128, 24, 4096, 10240, 64), activation="gelu_new", gated=True, tied=False
    ),
    "switch-c-2048": replace(
        _sizes(2048, 15, 2080, 6144, 32), n_sparse_layers=15, n_sparse_decoder_layers=15
    ),
}
"""Published sizes, by name: Table 9 of the paper where its counts follow from its sizes, else as released.

It gives Base 2048 and Large 2816 gated units in the feed-forward network, and XXL 64 experts. Base counts the
same with the 3072 plain units of the release (768 · 3 · 2048 = 768 · 2 · 3072); Large comes to the stated 26
billion with the 4096 plain units of the release only (27.1 with 2816 gated ones), XXL to the stated 395 billion
with the 128 experts of the release only (200 with 64).
"""
