"""The LLaMA network, and its weights' names in Hugging Face's files."""

from torch import Tensor, nn

from kun.blocks.feed_forward import FeedForward
from kun.blocks.norm import RMSNorm
from kun.blocks.rotary import Rotary, rotate
from kun.families.llama.config import PRESETS, LlamaConfig
from kun.families.llama.gguf import LAYOUTS
from kun.networks.decoder import Context, Decoder
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.names import Names, PartNames
from kun.networks.network import initialize
from kun.networks.rope_fields import interleaved, rotate_half


class Attention(nn.Module):
    """Causal self-attention: n_heads queries share n_kv_heads keys and values, rotated by their positions."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head, self.window = layer, config.d_head, config.window_of(layer)
        self.normed = config.query_key_norm
        wide, narrow = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q = nn.Linear(config.d_model, wide, bias=config.attention_bias)
        self.k = nn.Linear(config.d_model, narrow, bias=config.attention_bias)
        self.v = nn.Linear(config.d_model, narrow, bias=config.attention_bias)
        self.o = nn.Linear(wide, config.d_model, bias=config.output_bias)
        if config.query_key_norm:
            self.q_norm, self.k_norm = (RMSNorm(config.d_head, config.norm_eps) for _ in range(2))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        if self.normed:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        return self.o(context.attend(self.layer, q, k, v, window=self.window).flatten(-2))


class Layer(nn.Module):
    """h = x + attention(norm(x)), then h + feed-forward(norm(h))."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, "silu", gated=True, bias=config.mlp_bias)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], context: Context) -> Tensor:
        h = x + self.attention(self.attention_norm(x), rotary, context)
        return h + self.mlp(self.mlp_norm(h))


class Llama(Decoder):
    """A LLaMA-type decoder with its head, which is the embedding where `tied` (then `lm_head` is None)."""

    config: LlamaConfig
    norm: RMSNorm

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = self.untied_head()
        self.rotary = Rotary(config.rotary, config.d_head)
        self.names = LlamaNames(config)
        initialize(self)

    def longest(self, cached: bool) -> int:
        return self.config.context_length if cached else self.config.longest

    def windows(self) -> set[int | None]:
        return {self.config.window_of(layer) for layer in range(self.config.n_layers)}

    def begin(self, x: Tensor, context: Context) -> tuple[Tensor, tuple[object, ...]]:
        return x, (self.rotary(context.positions, x.dtype),)


class LlamaNames(PartNames):
    """Hugging Face's names; ERNIE 4.5 has the rows of queries and keys in neighbours."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(NAMES, "model.", left_out=("rotary_emb.inv_freq",))
        self.config = config

    def adapted(self, name: str, tensor: Tensor) -> Tensor:
        return rotate_half(tensor, self.config.d_head) if self._in_neighbours(name) else tensor

    def restored(self, name: str, tensor: Tensor) -> Tensor:
        return interleaved(tensor, self.config.d_head) if self._in_neighbours(name) else tensor

    def _in_neighbours(self, name: str) -> bool:
        """True where the file has this tensor's rotated rows in neighbours."""
        return self.config.interleaves and (".attention.q." in name or ".attention.k." in name)


NAMES = Names(
    (
        ("embed", "embed_tokens"),
        ("attention_norm", "input_layernorm"),
        ("mlp_norm", "post_attention_layernorm"),
        ("attention.q", "self_attn.q_proj"),
        ("attention.k", "self_attn.k_proj"),
        ("attention.v", "self_attn.v_proj"),
        ("attention.o", "self_attn.o_proj"),
        ("attention.q_norm", "self_attn.q_norm"),
        ("attention.k_norm", "self_attn.k_norm"),
        ("mlp.gate", "mlp.gate_proj"),
        ("mlp.up", "mlp.up_proj"),
        ("mlp.down", "mlp.down_proj"),
    )
)

FAMILY = Family(
    name="llama",
    model_types=("llama", "mistral", "qwen2", "qwen3", "ernie4_5"),
    kind="decoder",
    config=LlamaConfig,
    network=Llama,
    presets=PRESETS,
    objectives=("next_token", "classify", "regress"),
    paper="Touvron et al., arXiv:2302.13971",
    heads=heads_of(
        {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"},
        ("SequenceClassification",),
    ),
    sharding=Sharding(before=()),
    gguf=LAYOUTS,
)
