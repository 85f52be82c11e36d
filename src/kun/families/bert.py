"""BERT: Devlin et al., arXiv:1810.04805, as an encoder of text (multilingual E5, arXiv:2402.05672, is one).

What differs from GPT-2: every token sees every other, the norm comes after each part (x = norm(x + part(x)))
and once after the embeddings, and a table of two token types marks the first and second sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.attention import attend, positions_of
from kun.errors import BadInput
from kun.families import Family
from kun.families.decoder import embed
from kun.families.fields import Fields
from kun.families.network import (
    EncoderOutput,
    Names,
    State,
    check_ids,
    check_mask,
    check_positions,
    initialize,
)


@dataclass(frozen=True)
class BertConfig:
    """Sizes of one BERT-type network; `dropout` acts on states and embeddings, in training alone."""

    vocab_size: int = 30522
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    max_positions: int = 512
    token_types: int = 2
    norm_eps: float = 1e-12
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1

    architecture = "BertModel"
    model_type = "bert"

    @property
    def n_kv_heads(self) -> int:
        return self.n_heads

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def context_length(self) -> int:
        """Tokens that a text may have: the rows of the position table."""
        return self.max_positions

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> "BertConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        f.only("position_embedding_type", "absolute", "absolute")
        f.only("is_decoder", False, False)
        d_model, n_heads = f.integer("hidden_size", 768), f.integer("num_attention_heads", 12, high=2**14)
        if d_model % n_heads:
            raise f.wrong("hidden_size", f"a multiple of num_attention_heads, {n_heads}")
        return cls(
            vocab_size=f.integer("vocab_size", 30522),
            d_model=d_model,
            n_layers=f.integer("num_hidden_layers", 12, high=2**12),
            n_heads=n_heads,
            d_ff=f.integer("intermediate_size", 3072),
            max_positions=f.integer("max_position_embeddings", 512),
            token_types=f.integer("type_vocab_size", 2),
            norm_eps=f.number("layer_norm_eps", 1e-12, high=1.0),
            activation=f.only("hidden_act", "gelu", *ACTIVATIONS),
            dropout=f.number("hidden_dropout_prob", 0.1, high=1.0),
            attention_dropout=f.number("attention_probs_dropout_prob", 0.1, high=1.0),
        )

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads back to the same network."""
        return {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "vocab_size": self.vocab_size,
            "hidden_size": self.d_model,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "intermediate_size": self.d_ff,
            "max_position_embeddings": self.max_positions,
            "type_vocab_size": self.token_types,
            "layer_norm_eps": self.norm_eps,
            "hidden_act": self.activation,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
        }


@dataclass
class Sight:
    """Who sees whom: `mask` bool [b, 1, t, t] over padded rows, or the `bounds` of rows packed into one."""

    mask: Tensor | None = None
    bounds: Sequence[int] | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        if self.bounds is None:
            return attend(q, k, v, self.mask, dropout=dropout)
        rows = [
            attend(q[:, start:end], k[:, start:end], v[:, start:end], dropout=dropout)
            for start, end in pairwise(self.bounds)
        ]
        return torch.cat(rows, dim=1)


class Embeddings(nn.Module):
    """Word, position and token type added up, then the norm."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.max_positions, config.d_model)
        self.types = nn.Embedding(config.token_types, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, words: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        return self.dropout(self.norm(words + self.types(types) + self.positions(positions)))


class Attention(nn.Module):
    """Self-attention in which every token sees every other."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.d_head, self.dropout = config.d_head, config.attention_dropout
        self.q, self.k, self.v, self.o = (nn.Linear(config.d_model, config.d_model) for _ in range(4))

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        return self.o(sight.attend(q, k, v, self.dropout if self.training else 0.0).flatten(-2))


class FeedForward(nn.Module):
    """down(gelu(up(x)))."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config)
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        x = self.attention_norm(self.dropout(self.attention(x, sight)) + x)
        return self.mlp_norm(self.dropout(self.mlp(x)) + x)


class Bert(nn.Module):
    """A BERT-type encoder; `pooler` is None where the weights came without one."""

    optional = ("pooler",)

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.pooler: nn.Linear | None = nn.Linear(config.d_model, config.d_model)
        initialize(self)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> EncoderOutput:
        """States of padded rows, `input_ids`, `attention_mask`, `token_type_ids` [b, t], or of packed ones.

        With `lengths`, `input_ids` [1, total] are rows of those many tokens one after the other, and
        `last_hidden_state` [1, total, d_model] is packed likewise. Raises BadInput for an id or token type
        that the tables lack and for a position beyond them.
        """
        if lengths is not None:
            x, sight = self.embedded_rows(input_ids, token_type_ids, lengths, inputs_embeds)
            starts = None
        else:
            words = embed(self.embeddings.words, self.config.vocab_size, input_ids, inputs_embeds)
            mask = check_mask(attention_mask, words.shape[:2])
            x = self._embedded(words, positions_of(mask, words.shape[1], words.device), token_type_ids)
            sight, starts = Sight(_seen(mask)), None if mask is None else mask.long().argmax(dim=1)
        for layer in self.layers:
            x = layer(x, sight)
        return EncoderOutput(x, self.pooled(x, sight, starts))

    def embedded_rows(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None,
        lengths: Sequence[int],
        inputs_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Sight]:
        """What packed rows bring to the first layer: their states [1, total, d_model], and who sees whom."""
        words = embed(self.embeddings.words, self.config.vocab_size, input_ids, inputs_embeds)
        bounds = [0, *accumulate(lengths)]
        if not lengths or min(lengths) < 1 or words.shape[:2] != (1, bounds[-1]):
            raise BadInput(
                f"Packed rows of {list(lengths)} tokens do not fit the shape {list(words.shape[:2])}."
            )
        positions = torch.cat([torch.arange(length, device=words.device) for length in lengths])
        return self._embedded(words, positions[None], token_type_ids), Sight(bounds=bounds)

    def _embedded(self, words: Tensor, positions: Tensor, types: Tensor | None) -> Tensor:
        check_positions(positions, self.config.max_positions)
        types = torch.zeros_like(positions) if types is None else types
        check_ids(types, self.config.token_types)
        embedded: Tensor = self.embeddings(words, positions, types)
        return embedded

    def pooled(self, x: Tensor, sight: Sight, starts: Tensor | None) -> Tensor | None:
        """tanh of a projection of each row's first real token: [rows, d_model]."""
        if self.pooler is None:
            return None
        if sight.bounds is not None:
            first = x[0, list(sight.bounds[:-1])]
        elif starts is None:
            first = x[:, 0]
        else:
            first = x[torch.arange(len(x), device=x.device), starts]
        return torch.tanh(self.pooler(first))

    @staticmethod
    def from_hf_names(state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours.

        The heads of pre-training (`cls.`) do another job than encoding and are left behind, as is the
        stored range of positions; files converted from TensorFlow call a norm's weights gamma and beta.
        """
        ours: State = {}
        for full, tensor in state.items():
            name = full.removeprefix("bert.")
            if name.startswith("cls.") or name in BUFFERS:
                continue
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
                "LayerNorm.beta", "LayerNorm.bias"
            )
            ours[NAMES.ours(name)] = tensor
        return ours

    @staticmethod
    def to_hf_names(state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's."""
        return {NAMES.theirs(name): tensor for name, tensor in state.items()}


def _seen(mask: Tensor | None) -> Tensor | None:
    """bool [b, 1, t, t]: all see real tokens, and padding sees itself, so that no softmax is empty."""
    if mask is None:
        return None
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask[:, None, None, :] | itself


BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")

NAMES = Names(
    (
        ("embeddings.words", "embeddings.word_embeddings"),
        ("embeddings.positions", "embeddings.position_embeddings"),
        ("embeddings.types", "embeddings.token_type_embeddings"),
        ("embeddings.norm", "embeddings.LayerNorm"),
        ("attention_norm", "attention.output.LayerNorm"),
        ("attention.q", "attention.self.query"),
        ("attention.k", "attention.self.key"),
        ("attention.v", "attention.self.value"),
        ("attention.o", "attention.output.dense"),
        ("mlp.up", "intermediate.dense"),
        ("mlp.down", "output.dense"),
        ("mlp_norm", "output.LayerNorm"),
        ("layers", "encoder.layer"),
        ("pooler", "pooler.dense"),
    )
)

PRESETS: dict[str, BertConfig] = {
    "bert-base-uncased": BertConfig(),
    "bert-large-uncased": BertConfig(d_model=1024, n_layers=24, n_heads=16, d_ff=4096),
    "bert-base-chinese": BertConfig(vocab_size=21128),
    "all-minilm-l6-v2": BertConfig(d_model=384, n_layers=6, d_ff=1536),
    "multilingual-e5-small": BertConfig(vocab_size=250037, d_model=384, d_ff=1536),
}
"""Published sizes, by name."""

FAMILY = Family("bert", BertConfig, Bert, "encoder", ("bert",))
