"""The GPT network: two orders of the same layer, and what is around the layers."""

from torch import Tensor, nn

from kun.blocks.dropout import Dropout
from kun.blocks.feed_forward import FeedForward
from kun.families.gpt.config import PRESETS, GPTConfig
from kun.families.gpt.names import names_of
from kun.networks.decoder import Context, Decoder
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.gguf_layout import GgufLayout, Size
from kun.networks.network import initialize


class Attention(nn.Module):
    """Causal self-attention with as many keys as queries, over all tokens or a band of the last ones."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head, self.dropout = layer, config.d_head, config.attention_dropout
        self.window = config.window_of(layer)
        size, bias = config.d_model, config.attention_bias
        self.q, self.k, self.v = (nn.Linear(size, size, bias=bias) for _ in range(3))
        self.o = nn.Linear(size, size)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        dropout = self.dropout if self.training else 0.0
        mixed = context.attend(self.layer, q, k, v, window=self.window, dropout=dropout)
        return self.o(mixed.flatten(-2))


class Layer(nn.Module):
    """The parts of a layer, which GPT-1 and its successors put together in different order."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, config.activation)
        self.dropout = Dropout(config.dropout)


class PostNormLayer(Layer):
    """GPT-1: h = norm(x + attention(x)), then norm(h + feed-forward(h))."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        h = self.attention_norm(x + self.dropout(self.attention(x, context)))
        return self.mlp_norm(h + self.dropout(self.mlp(h)))


class PreNormLayer(Layer):
    """From GPT-2 on: h = x + attention(norm(x)), then h + feed-forward(norm(h))."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        h = x + self.dropout(self.attention(self.attention_norm(x), context))
        return h + self.dropout(self.mlp(self.mlp_norm(h)))


class GPT(Decoder):
    """A GPT with its head, which is the embedding where `tied` (then `lm_head` is None)."""

    config: GPTConfig

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.positions = nn.Embedding(config.max_positions, config.d_model)
        self.dropout = Dropout(config.embedding_dropout)
        layer = PreNormLayer if config.norm_first else PostNormLayer
        self.layers = nn.ModuleList(layer(config, i) for i in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps) if config.norm_first else nn.Identity()
        self.lm_head = self.untied_head()
        self.names = names_of(config)
        initialize(self)
        if not config.norm_first:
            return
        # What ends in the residual stream starts smaller by the root of how many terms add up there.
        shrunk = 0.02 / (2 * config.n_layers) ** 0.5
        for name, weight in self.named_parameters():
            if name.endswith(("attention.o.weight", "mlp.down.weight")) and not weight.is_meta:
                nn.init.normal_(weight, std=shrunk)

    def windows(self) -> set[int | None]:
        return {self.config.window_of(layer) for layer in range(self.config.n_layers)}

    def begin(self, x: Tensor, context: Context) -> tuple[Tensor, tuple[object, ...]]:
        return self.dropout(x + self.positions(context.positions)), ()


_GGUF = GgufLayout(
    "gpt2",
    "GPT2LMHeadModel",
    {
        "n_positions": Size("context_length"),
        "n_embd": Size("embedding_length"),
        "n_layer": Size("block_count"),
        "n_head": Size("attention.head_count"),
        "n_inner": Size("feed_forward_length"),
        "layer_norm_epsilon": Size("attention.layer_norm_epsilon", real=True),
        "activation_function": "gelu_new",
    },
    ("attention.head_count_kv",),
    orders=dict.fromkeys(("attn_qkv", "attn_output", "ffn_up", "ffn_down"), "transposed"),
    activations=("gelu_new", "gelu_pytorch_tanh"),
    activation="the tanh form of GELU",
)

FAMILY = Family(
    name="gpt",
    model_types=("openai-gpt", "gpt2", "gpt_neo"),
    kind="decoder",
    config=GPTConfig,
    network=GPT,
    presets=PRESETS,
    objectives=("next_token", "classify", "regress"),
    paper="Brown et al., arXiv:2005.14165",
    aliases={"gpt": "gpt2", "gpt1": "openai-gpt", "gpt3": "gpt_neo"},
    heads=heads_of(
        {"openai-gpt": "OpenAIGPT", "gpt2": "GPT2", "gpt_neo": "GPTNeo"}, ("SequenceClassification",)
    ),
    sharding=Sharding(before=("positions", "dropout")),
    gguf={"gpt2": _GGUF},
)
