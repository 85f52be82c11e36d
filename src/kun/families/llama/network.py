"""The LLaMA network, and its weights' names in Hugging Face's files."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import swiglu
from kun.blocks.cache import CacheStep
from kun.blocks.norm import RMSNorm
from kun.blocks.positions import Rotary, rotate
from kun.families.llama.config import LlamaConfig
from kun.networks.decoder import Context, embed
from kun.networks.decoding import DecodingState
from kun.networks.network import DecoderOutput, Names, State, initialize
from kun.networks.rope_fields import as_halves, as_neighbours


class Attention(nn.Module):
    """Causal self-attention: n_heads queries share n_kv_heads keys and values, turned by their positions."""

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

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        if self.normed:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, *turn), rotate(k, *turn)
        return context.attend(self.layer, q, k, v, window=self.window).flatten(-2)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(swiglu(self.gate(x), self.up(x)))


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.is_last = layer == config.n_layers - 1
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], context: Context) -> Tensor:
        mixed = self.attention(self.attention_norm(x), turn, context)
        if self.is_last:
            x, mixed = context.narrow(x, mixed)
        x = x + self.attention.o(mixed)
        return x + self.mlp(self.mlp_norm(x))


class Llama(nn.Module):
    """A LLaMA-type decoder with its head, which is the embedding where `tied` (then `lm_head` is None)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.aliases = {"lm_head.weight": "embed.weight"} if config.tied else {}
        self.rotary = Rotary(config.rotary, config.d_head)
        initialize(self)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
        logits_at: Tensor | None = None,
    ) -> DecoderOutput:
        """Logits for padded rows, `input_ids` and `attention_mask` [b, t], or for one step over a cache.

        With `cache`, `input_ids` [1, total] are the new tokens of all rows, packed. `logits_at` [m] picks
        the tokens (places in t) whose logits are wanted. Raises BadInput for an id outside the vocabulary
        and for a position beyond the context.
        """
        config = self.config
        x = embed(self.embed, config.vocab_size, input_ids, inputs_embeds)
        longest = config.longest if cache is None else config.context_length
        windows = {config.window_of(layer) for layer in range(config.n_layers)}
        context = Context.of(x, attention_mask, positions, cache, logits_at, longest=longest, windows=windows)
        turn = self.rotary(context.positions, x.dtype)
        for layer in self.layers:
            x = layer(x, turn, context)
        return DecoderOutput(self.head(self.norm(x)))

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]."""
        return F.linear(x, self.embed.weight) if self.lm_head is None else self.lm_head(x)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> DecodingState:
        """What it carries from step to step: keys and values in `n_pages` pages of `page_size` tokens."""
        return DecodingState.of(self.config, n_pages, page_size, dtype, device)

    def from_hf_names(self, state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours; buffers that follow from the config are dropped."""
        ours: State = {}
        for full, tensor in state.items():
            name = NAMES.ours(full.removeprefix("model."))
            if not full.endswith("rotary_emb.inv_freq"):
                ours[name] = as_halves(tensor, self.config.d_head) if self._is_turned(name) else tensor
        return ours

    def to_hf_names(self, state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        theirs: State = {}
        for name, tensor in state.items():
            full = name if name.startswith("lm_head.") else "model." + NAMES.theirs(name)
            theirs[full] = as_neighbours(tensor, self.config.d_head) if self._is_turned(name) else tensor
        return theirs

    def _is_turned(self, name: str) -> bool:
        """Whether the file has this tensor's rows in neighbours."""
        return self.config.turns_neighbours and (".attention.q." in name or ".attention.k." in name)


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
