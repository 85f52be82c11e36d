"""GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.

What differs from LLaMA: positions are a learned table added to the embedding, norms subtract the mean and
have biases, as has every projection; the feed-forward has one hidden layer with GELU. From the first GPT:
the norm comes before each part, and once more at the end. Hugging Face stores the weights transposed (its
`Conv1D`), with query, key and value in one; the name map undoes both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.cache import CacheStep
from kun.families import Family
from kun.families.decoder import Context, embed
from kun.families.fields import Fields
from kun.families.network import DecoderOutput, Names, State, initialize
from kun.families.state import DecodingState


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of one GPT-2-type network; `dropout` acts on residuals and embeddings, in training alone."""

    vocab_size: int = 50257
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    max_positions: int = 1024
    norm_eps: float = 1e-5
    activation: str = "gelu_new"
    tied: bool = True
    dropout: float = 0.1
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1

    architecture = "GPT2LMHeadModel"
    model_type = "gpt2"

    @property
    def n_kv_heads(self) -> int:
        return self.n_heads

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def context_length(self) -> int:
        """Tokens that a sequence may have: the rows of the position table."""
        return self.max_positions

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "GPTConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("scale_attn_weights", True, True)
        f.only("scale_attn_by_inverse_layer_idx", False, False)
        f.only("add_cross_attention", False, False)
        d_model, n_heads = f.integer("n_embd", 768), f.integer("n_head", 12, high=2**14)
        if d_model % n_heads:
            raise f.wrong("n_embd", f"a multiple of n_head, {n_heads}")
        return cls(
            vocab_size=f.integer("vocab_size", 50257),
            d_model=d_model,
            n_layers=f.integer("n_layer", 12, high=2**12),
            n_heads=n_heads,
            d_ff=f.integer("n_inner", 4 * d_model),
            max_positions=f.integer("n_positions", 1024),
            norm_eps=f.number("layer_norm_epsilon", 1e-5, high=1.0),
            activation=f.only("activation_function", "gelu_new", *ACTIVATIONS),
            tied=f.flag("tie_word_embeddings", True),
            dropout=f.number("resid_pdrop", 0.1, high=1.0),
            embedding_dropout=f.number("embd_pdrop", 0.1, high=1.0),
            attention_dropout=f.number("attn_pdrop", 0.1, high=1.0),
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        return {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "vocab_size": self.vocab_size,
            "n_embd": self.d_model,
            "n_layer": self.n_layers,
            "n_head": self.n_heads,
            "n_inner": self.d_ff,
            "n_positions": self.max_positions,
            "layer_norm_epsilon": self.norm_eps,
            "activation_function": self.activation,
            "tie_word_embeddings": self.tied,
            "resid_pdrop": self.dropout,
            "embd_pdrop": self.embedding_dropout,
            "attn_pdrop": self.attention_dropout,
        }


class Attention(nn.Module):
    """Causal self-attention with as many keys as queries."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head, self.dropout = layer, config.d_head, config.attention_dropout
        self.q, self.k, self.v, self.o = (nn.Linear(config.d_model, config.d_model) for _ in range(4))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        dropout = self.dropout if self.training else 0.0
        return context.attend(self.layer, q, k, v, dropout=dropout).flatten(-2)


class FeedForward(nn.Module):
    """down(gelu(up(x)))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.is_last = layer == config.n_layers - 1
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        mixed = self.attention(self.attention_norm(x), context)
        if self.is_last:
            x, mixed = context.narrow(x, mixed)
        x = x + self.dropout(self.attention.o(mixed))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class GPT(nn.Module):
    """A GPT-2-type decoder with its head, which is the embedding where `tied` (then `lm_head` is None)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.max_positions, config.d_model)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.lm_head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.aliases = {"lm_head.weight": "embed.weight"} if config.tied else {}
        initialize(self)
        # What ends in the residual stream starts smaller by the root of how many terms add up there.
        shrunk = 0.02 / (2 * config.n_layers) ** 0.5
        for name, weight in self.named_parameters():
            if name.endswith(("attention.o.weight", "mlp.down.weight")) and not weight.is_meta:
                nn.init.normal_(weight, std=shrunk)

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
        and for a position beyond the table.
        """
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        limit = self.config.max_positions
        context = Context.of(x, attention_mask, positions, cache, logits_at, longest=limit)
        x = self.dropout(x + self.positions(context.positions))
        for layer in self.layers:
            x = layer(x, context)
        return DecoderOutput(self.head(self.norm(x)))

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocabulary] of final states [..., d_model]."""
        return F.linear(x, self.embed.weight) if self.lm_head is None else self.lm_head(x)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> DecodingState:
        """What it carries from step to step: keys and values in `n_pages` pages of `page_size` tokens."""
        return DecodingState.of(self.config, n_pages, page_size, dtype, device)

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names and layout to ours; the causal masks that older files store are dropped."""
        ours: State = {}
        for full, tensor in state.items():
            name = full.removeprefix("transformer.")
            if name.endswith((".attn.bias", ".attn.masked_bias")):
                continue
            if "c_attn" in name:
                for part, piece in zip("qkv", _transposed(tensor).chunk(3), strict=False):
                    ours[NAMES.ours(name.replace("c_attn", part))] = piece.contiguous()
            else:
                ours[NAMES.ours(name)] = _transposed(tensor) if "c_" in name else tensor
        return ours

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names and layout to Hugging Face's."""
        theirs: State = {}
        for name, tensor in state.items():
            if name.startswith("lm_head."):
                theirs[name] = tensor
            elif ".attention.q." in name:
                parts = [state[name.replace(".q.", f".{part}.")] for part in "qkv"]
                full = NAMES.theirs(name).replace(".q.", ".c_attn.")
                theirs["transformer." + full] = _transposed(torch.cat(parts))
            elif ".attention.k." not in name and ".attention.v." not in name:
                full = NAMES.theirs(name)
                theirs["transformer." + full] = _transposed(tensor) if "c_" in full else tensor
        return theirs


def _transposed(tensor: Tensor) -> Tensor:
    """A matrix with its sides swapped; a bias as it is."""
    return tensor.t().contiguous() if tensor.dim() == 2 else tensor


NAMES = Names(
    (
        ("embed", "wte"),
        ("positions", "wpe"),
        ("layers", "h"),
        ("norm", "ln_f"),
        ("attention_norm", "ln_1"),
        ("mlp_norm", "ln_2"),
        ("attention.q", "attn.q"),
        ("attention.k", "attn.k"),
        ("attention.v", "attn.v"),
        ("attention.o", "attn.c_proj"),
        ("mlp.up", "mlp.c_fc"),
        ("mlp.down", "mlp.c_proj"),
    )
)

PRESETS: dict[str, GPTConfig] = {
    "gpt2": GPTConfig(),
    "gpt2-medium": GPTConfig(d_model=1024, n_layers=24, n_heads=16, d_ff=4096),
    "gpt2-large": GPTConfig(d_model=1280, n_layers=36, n_heads=20, d_ff=5120),
    "gpt2-xl": GPTConfig(d_model=1600, n_layers=48, n_heads=25, d_ff=6400),
}
"""Published sizes, by name."""

FAMILY = Family("gpt2", GPTConfig, GPT, "decoder", ("gpt2",))
