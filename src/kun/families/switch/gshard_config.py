"""The sizes of GShard's translation models and of NLLB's: read, written, published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.experts import SECOND_EXPERTS, SecondExpert, capacity_of
from kun.networks.fields import Fields


@dataclass(frozen=True)
class GShardConfig:
    """Sizes of one network, whose encoder has `n_layers`, and its decoder `n_decoder_layers`.

    Every `sparse_step`-th layer holds experts; none does where it is 0. In training an expert takes
    `capacity_factor` times its even share of the batch, or `expert_capacity` tokens where there is no factor,
    the surest tokens first with `by_score`; gates add up to one before tokens are dropped with
    `normalize_first`, else after. `output_masking` is the share of expert outputs left out in training.
    """

    vocab_size: int = 128112
    d_model: int = 1024
    d_head: int | None = None
    n_heads: int = 16
    n_decoder_heads: int = 16
    d_ff: int = 4096
    d_decoder_ff: int = 4096
    n_layers: int = 12
    n_decoder_layers: int = 12
    sparse_step: int = 4
    decoder_sparse_step: int = 4
    n_experts: int = 128
    expert_capacity: int = 64
    capacity_factor: float | None = None
    second_expert: SecondExpert = "all"
    normalize_first: bool = False
    by_score: bool = False
    output_masking: float = 0.2
    router_bias: bool = False
    max_positions: int = 1024
    activation: str = "relu"
    tied: bool = True
    scale_embedding: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layer_dropout: float = 0.05
    decoder_layer_dropout: float = 0.05
    z_loss: float = 0.001
    balance_loss: float = 0.001
    pad_token: int = 1
    start_token: int = 2

    architecture = "NllbMoeForConditionalGeneration"
    model_type = "nllb-moe"

    @property
    def context_length(self) -> int:
        """Tokens that a source or a target may have."""
        return self.max_positions

    def is_sparse(self, layer: int, *, encoder: bool) -> bool:
        step = self.sparse_step if encoder else self.decoder_sparse_step
        return step > 0 and (layer + 1) % step == 0

    def head_size(self, n_heads: int) -> int:
        return self.d_head or self.d_model // n_heads

    @property
    def experts_per_token(self) -> int:
        """To how many experts of a layer a token goes, where they have room."""
        return 2

    def capacity(self, n_tokens: int) -> int:
        """How many of a batch's tokens an expert takes in training."""
        if self.capacity_factor is None:
            return self.expert_capacity
        return capacity_of(n_tokens, self.n_experts, self.capacity_factor)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "GShardConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("router_dtype", "float32", "float32")
        d_model, vocab_size = f.integer("d_model", 1024, low=4), f.integer("vocab_size", 128112)
        heads = {}
        for side in ("encoder", "decoder"):
            heads[side] = f.integer(f"{side}_attention_heads", 16, high=2**14)
            if "head_dim" not in f and d_model % heads[side]:
                raise f.wrong("d_model", f"a multiple of {side}_attention_heads, {heads[side]}")
        return cls(
            vocab_size=vocab_size,
            d_model=d_model,
            d_head=f.integer("head_dim") if "head_dim" in f else None,
            n_heads=heads["encoder"],
            n_decoder_heads=heads["decoder"],
            d_ff=f.integer("encoder_ffn_dim", 4096),
            d_decoder_ff=f.integer("decoder_ffn_dim", 4096),
            n_layers=f.integer("encoder_layers", 12, high=2**12),
            n_decoder_layers=f.integer("decoder_layers", 12, high=2**12),
            sparse_step=f.integer("encoder_sparse_step", 4, low=0),
            decoder_sparse_step=f.integer("decoder_sparse_step", 4, low=0),
            n_experts=f.integer("num_experts", 128, low=2, high=2**16),
            expert_capacity=f.integer("expert_capacity", 64),
            capacity_factor=f.number("capacity_factor", above=True) if "capacity_factor" in f else None,
            second_expert=f.only("second_expert_policy", "all", *SECOND_EXPERTS),
            normalize_first=f.flag("normalize_router_prob_before_dropping", False),
            by_score=f.flag("batch_prioritized_routing", False),
            output_masking=f.number("moe_token_dropout", 0.2, high=1.0),
            router_bias=f.flag("router_bias", False),
            max_positions=f.integer("max_position_embeddings", 1024),
            activation=f.only("activation_function", "relu", *ACTIVATIONS),
            tied=f.flag("tie_word_embeddings", True),
            scale_embedding=f.flag("scale_embedding", True),
            dropout=f.number("dropout", 0.1, high=1.0),
            attention_dropout=f.number("attention_dropout", 0.1, high=1.0),
            activation_dropout=f.number("activation_dropout", 0.0, high=1.0),
            layer_dropout=f.number("encoder_layerdrop", 0.05, high=1.0),
            decoder_layer_dropout=f.number("decoder_layerdrop", 0.05, high=1.0),
            z_loss=f.number("router_z_loss_coef", 0.001),
            balance_loss=f.number("router_aux_loss_coef", 0.001),
            pad_token=f.integer("pad_token_id", 1, low=0, high=vocab_size - 1),
            start_token=f.integer("decoder_start_token_id", 2, low=0, high=vocab_size - 1),
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network, if heads are d_model / heads wide.

        GShard's are wider, and no class of the reference has such.
        """
        hf: dict[str, Any] = {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            "vocab_size": self.vocab_size,
            "d_model": self.d_model,
            "encoder_attention_heads": self.n_heads,
            "decoder_attention_heads": self.n_decoder_heads,
            "encoder_ffn_dim": self.d_ff,
            "decoder_ffn_dim": self.d_decoder_ff,
            "encoder_layers": self.n_layers,
            "decoder_layers": self.n_decoder_layers,
            "encoder_sparse_step": self.sparse_step,
            "decoder_sparse_step": self.decoder_sparse_step,
            "num_experts": self.n_experts,
            "expert_capacity": self.expert_capacity,
            "second_expert_policy": self.second_expert,
            "normalize_router_prob_before_dropping": self.normalize_first,
            "batch_prioritized_routing": self.by_score,
            "moe_eval_capacity_token_fraction": 1.0,
            "moe_token_dropout": self.output_masking,
            "router_bias": self.router_bias,
            "router_dtype": "float32",
            "max_position_embeddings": self.max_positions,
            "activation_function": self.activation,
            "tie_word_embeddings": self.tied,
            "scale_embedding": self.scale_embedding,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "encoder_layerdrop": self.layer_dropout,
            "decoder_layerdrop": self.decoder_layer_dropout,
            "router_z_loss_coef": self.z_loss,
            "router_aux_loss_coef": self.balance_loss,
            "pad_token_id": self.pad_token,
            "decoder_start_token_id": self.start_token,
        }
        own = {"head_dim": self.d_head, "capacity_factor": self.capacity_factor}
        return hf | {name: value for name, value in own.items() if value is not None}


def _gshard(n_experts: int, layers: int) -> GShardConfig:
    """Table 1 of the paper; it counts encoder and decoder layers together, and capacity as 2N / E."""
    return GShardConfig(
        vocab_size=64000,
        d_head=128,
        d_ff=8192,
        d_decoder_ff=8192,
        n_layers=layers // 2,
        n_decoder_layers=layers // 2,
        sparse_step=2,
        decoder_sparse_step=2,
        n_experts=n_experts,
        capacity_factor=2.0,
        second_expert="random",
        normalize_first=True,
        output_masking=0.0,
        layer_dropout=0.0,
        decoder_layer_dropout=0.0,
    )


PRESETS: dict[str, GShardConfig] = {
    **{
        f"gshard-{size}": _gshard(n_experts, layers)
        for size, n_experts, layers in (
            ("12.5b", 128, 12),
            ("37b", 128, 36),
            ("50b", 512, 12),
            ("150b", 512, 36),
            ("200b", 2048, 12),
            ("600b", 2048, 36),
            ("1t", 2048, 60),
        )
    },
    "nllb-moe-54b": GShardConfig(
        vocab_size=256206, d_model=2048, d_ff=8192, d_decoder_ff=8192, n_layers=24, n_decoder_layers=24
    ),
}
"""Published sizes, by name: GShard's, and NLLB's (arXiv:2207.04672), which is built alike.

The stated weights of GShard are rounded down by 3 to 6 parts in a hundred: 600 billion are 36,864 experts (18 of 36
layers, 2048 each; the table's 36,684 swaps digits) of 2 · 1024 · 8192 weights, 618.5 billion, and little else.
"""
