"""The sizes of GShard's translation models and of NLLB's: read, written, published."""

from collections.abc import Mapping
from dataclasses import dataclass

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.experts import SECOND_EXPERTS, SecondExpert, capacity_of
from kun.networks import config_keys as keys
from kun.networks.fields import Fields


@dataclass(frozen=True)
class GShardConfig:
    """Sizes of one network, whose encoder has `n_layers`, and its decoder `n_decoder_layers`.

    Every `sparse_step`-th layer holds experts; none does where it is 0. In training an expert takes
    `capacity_factor` times its even share of the batch, or `expert_capacity` tokens where there is no factor,
    the surest tokens first with `by_score`; gates add up to one before tokens are dropped with
    `normalize_first`, else after. `output_masking` is the share of expert outputs left out in training.
    """

    vocab_size: int = keys.whole(128112, "vocab_size")
    d_model: int = keys.whole(1024, "d_model", low=4)
    d_head: int | None = keys.whole_or_none("head_dim")
    n_heads: int = keys.heads(16, "encoder_attention_heads")
    n_decoder_heads: int = keys.heads(16, "decoder_attention_heads")
    d_ff: int = keys.whole(4096, "encoder_ffn_dim")
    d_decoder_ff: int = keys.whole(4096, "decoder_ffn_dim")
    n_layers: int = keys.layers(12, "encoder_layers")
    n_decoder_layers: int = keys.layers(12, "decoder_layers")
    sparse_step: int = keys.whole(4, "encoder_sparse_step", low=0)
    decoder_sparse_step: int = keys.whole(4, "decoder_sparse_step", low=0)
    n_experts: int = keys.whole(128, "num_experts", low=2, high=2**16)
    expert_capacity: int = keys.whole(64, "expert_capacity")
    capacity_factor: float | None = keys.number_or_none("capacity_factor", above=True)
    second_expert: SecondExpert = keys.choice("all", "second_expert_policy", SECOND_EXPERTS)  # noqa: RUF009
    normalize_first: bool = keys.flag(False, "normalize_router_prob_before_dropping")
    by_score: bool = keys.flag(False, "batch_prioritized_routing")
    output_masking: float = keys.share(0.2, "moe_token_dropout")
    router_bias: bool = keys.flag(False, "router_bias")
    max_positions: int = keys.whole(1024, "max_position_embeddings")
    activation: str = keys.choice("relu", "activation_function", ACTIVATIONS)
    tied: bool = keys.flag(True, "tie_word_embeddings")
    scale_embedding: bool = keys.flag(True, "scale_embedding")
    dropout: float = keys.share(0.1, "dropout")
    attention_dropout: float = keys.share(0.1, "attention_dropout")
    activation_dropout: float = keys.share(0.0, "activation_dropout")
    layer_dropout: float = keys.share(0.05, "encoder_layerdrop")
    decoder_layer_dropout: float = keys.share(0.05, "decoder_layerdrop")
    z_loss: float = keys.number(0.001, "router_z_loss_coef")
    balance_loss: float = keys.number(0.001, "router_aux_loss_coef")
    pad_token: int = keys.token(1, "pad_token_id")
    start_token: int = keys.token(2, "decoder_start_token_id")

    architecture = "NllbMoeForConditionalGeneration"
    model_type = "nllb-moe"

    @property
    def context_length(self) -> int:
        """Tokens that a source or a target may have."""
        return self.max_positions

    def is_sparse(self, layer: int, *, encoder: bool) -> bool:
        step = self.sparse_step if encoder else self.decoder_sparse_step
        return step > 0 and (layer + 1) % step == 0

    @property
    def d_decoder_head(self) -> int:
        return self.head_size(self.n_decoder_heads)

    def head_size(self, n_heads: int) -> int:
        return self.d_head or self.d_model // n_heads

    @property
    def experts_per_token(self) -> int:
        """The number of experts of a layer that a token goes to, where they have room."""
        return 2

    def capacity(self, n_tokens: int) -> int:
        """The number of a batch's tokens that an expert takes in training."""
        if self.capacity_factor is None:
            return self.expert_capacity
        return capacity_of(n_tokens, self.n_experts, self.capacity_factor)

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> "GShardConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("router_dtype", "float32", "float32")
        config = keys.read(cls, f)
        for side, count in (("encoder", config.n_heads), ("decoder", config.n_decoder_heads)):
            if config.d_head is None and config.d_model % count:
                raise f.wrong("d_model", f"a multiple of {side}_attention_heads, {count}")
        return config

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network, if heads are d_model / heads wide.

        GShard's are wider, and no class of the reference has such.
        """
        return keys.written(self) | {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            "moe_eval_capacity_token_fraction": 1.0,
            "router_dtype": "float32",
        }


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
