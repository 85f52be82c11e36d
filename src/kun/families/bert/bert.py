"""BERT: Devlin et al., arXiv:1810.04805: the encoder (multilingual E5, arXiv:2402.05672, is one).

What differs from GPT-2: every token sees every other, the norm comes after each part (x = norm(x + part(x)))
and once after the embeddings, and a table of two token types marks the first and second sentence. It is
trained to name masked words, and what it is used for is a matter of the head on top (`heads.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kun.blocks.activations import ACTIVATIONS
from kun.blocks.attention import attend, positions_of, same_document
from kun.blocks.dropout import Dropout
from kun.errors import BadInput
from kun.families.bert.config import BertConfig
from kun.families.bert.heads import HEADS, Encoded, Head
from kun.families.bert.names import NAMES, from_hf_names, to_hf_names
from kun.networks.decoder import embed
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.names import Names, State
from kun.networks.network import EncoderOutput, check_ids, check_mask, check_positions, initialize


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
        self.words = nn.Embedding(config.vocab_size, config.d_model, config.pad_id)
        self.positions = nn.Embedding(config.max_positions, config.d_model)
        self.types = nn.Embedding(config.token_types, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.dropout = Dropout(config.dropout)

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
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        x = self.attention_norm(self.dropout(self.attention(x, sight)) + x)
        return self.mlp_norm(self.dropout(self.mlp(x)) + x)


class Bert(nn.Module):
    """A BERT-type encoder, with the `head` that its config names (else None).

    The `pooler` is there for the heads that read it; an encoder alone has none where its weights came without.
    """

    prefix: ClassVar[str] = "bert"
    names: ClassVar[Names] = NAMES
    heads: ClassVar[Mapping[str, type[Head]]] = HEADS
    left_behind = ("head", "pooler")

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = self.new_embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.head = self.heads[config.head](config) if config.head else None
        pools = self.head is None or self.head.pools
        self.pooler = nn.Linear(config.d_model, config.d_model) if pools else None
        self.optional = ("pooler",) if self.head is None else ()
        tied = config.tied and hasattr(self.head, "words")
        self.aliases = {"head.words.decoder.weight": "embeddings.words.weight"} if tied else {}
        initialize(self)

    def new_embeddings(self, config: BertConfig) -> Embeddings:
        return Embeddings(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        lengths: Sequence[int] | None = None,
        logits_at: Tensor | None = None,
    ) -> Any:
        """What the head says, or states, of padded rows or packed ones.

        Padded: `input_ids`, `attention_mask`, `token_type_ids` [b, t]. With `lengths`, `input_ids` [1, total]
        are rows of those many tokens one after the other, and states are packed likewise. `logits_at` [m]
        picks the places in t that are wanted. Raises BadInput for an id or token type that the tables lack
        and for a position beyond them.
        """
        words = self.words(input_ids, inputs_embeds)
        return self.read(words, input_ids, attention_mask, token_type_ids, lengths, logits_at)

    def read(
        self,
        words: Tensor,
        ids: Tensor | None,
        attention_mask: Tensor | None,
        types: Tensor | None,
        lengths: Sequence[int] | None,
        wanted: Tensor | None,
    ) -> Any:
        """`forward` for embedded words [b, t, d_model], whose `ids` may be unknown."""
        starts = None
        if lengths is not None:
            x, sight = self._packed(words, ids, types, lengths)
        else:
            mask = check_mask(attention_mask, words.shape[:2], documents=True)
            x = self._embedded(words, self.positions(ids, mask, words), types)
            sight, starts = Sight(_seen(mask)), None if mask is None else mask.bool().long().argmax(dim=1)
        for layer in self.layers:
            x = layer(x, sight)
        pooled = self.pooled(x, sight, starts)
        first = _first(x, sight, starts)
        x = x if wanted is None else x[:, wanted]
        if self.head is None:
            return EncoderOutput(x, pooled)
        return self.head(Encoded(x, first, pooled, self.embeddings.words))

    def words(self, ids: Tensor | None, embeds: Tensor | None) -> Tensor:
        """The words' own vectors [b, t, d_model]: looked up, or given as they are."""
        return embed(self.embeddings.words, self.config.vocab_size, ids, embeds)

    def positions(self, ids: Tensor | None, mask: Tensor | None, words: Tensor) -> Tensor:
        """The row of the position table for each token [b or 1, t]: real tokens count from 0."""
        return positions_of(mask, words.shape[1], words.device)

    def embedded_rows(
        self, input_ids: Tensor, token_type_ids: Tensor | None, lengths: Sequence[int]
    ) -> tuple[Tensor, Sight]:
        """What packed rows bring to the first layer: their states [1, total, d_model], and who sees whom."""
        return self._packed(self.words(input_ids, None), input_ids, token_type_ids, lengths)

    def _packed(
        self, words: Tensor, ids: Tensor | None, types: Tensor | None, lengths: Sequence[int]
    ) -> tuple[Tensor, Sight]:
        bounds = [0, *accumulate(lengths)]
        if not lengths or min(lengths) < 1 or words.shape[:2] != (1, bounds[-1]):
            raise BadInput(
                f"Packed rows of {list(lengths)} tokens do not fit the shape {list(words.shape[:2])}."
            )
        positions = [
            self.positions(None if ids is None else ids[:, start:end], None, words[:, start:end])
            for start, end in pairwise(bounds)
        ]
        return self._embedded(words, torch.cat(positions, dim=1), types), Sight(bounds=bounds)

    def _embedded(self, words: Tensor, positions: Tensor, types: Tensor | None) -> Tensor:
        first = self.config.first_position
        check_positions((positions - first).clamp(min=0), self.config.context_length)
        types = torch.zeros_like(positions) if types is None else types
        check_ids(types, self.config.token_types)
        embedded: Tensor = self.embeddings(words, positions, types)
        return embedded

    def pooled(self, x: Tensor, sight: Sight, starts: Tensor | None) -> Tensor | None:
        """tanh of a projection of each row's first real token: [rows, d_model]."""
        return None if self.pooler is None else torch.tanh(self.pooler(_first(x, sight, starts)))

    def drop_head(self) -> None:
        """Become the encoder alone, as the config says from now on."""
        self.head, self.aliases, self.config = None, {}, replace(self.config, head=None)

    @classmethod
    def from_hf_names(cls, state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names to ours, those of every head included."""
        return from_hf_names(state, cls.prefix, cls.names)

    @classmethod
    def to_hf_names(cls, state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's: with the family's prefix where there is a head beside the encoder."""
        return to_hf_names(state, cls.prefix, cls.names)


def _seen(mask: Tensor | None) -> Tensor | None:
    """bool [b, 1, t, t]: all see the real tokens of their document, and padding sees itself: no softmax is empty."""
    if mask is None:
        return None
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return same_document(mask) | itself


def _first(x: Tensor, sight: Sight, starts: Tensor | None) -> Tensor:
    """The state of each row's first real token: [rows, d_model]."""
    if sight.bounds is not None:
        return x[0, list(sight.bounds[:-1])]
    return x[:, 0] if starts is None else x[torch.arange(len(x), device=x.device), starts]


PRESETS: dict[str, BertConfig] = {
    "bert-base-uncased": BertConfig(),
    "bert-large-uncased": BertConfig(d_model=1024, n_layers=24, n_heads=16, d_ff=4096),
    "bert-base-chinese": BertConfig(vocab_size=21128),
    "all-minilm-l6-v2": BertConfig(d_model=384, n_layers=6, d_ff=1536),
    "multilingual-e5-small": BertConfig(vocab_size=250037, d_model=384, d_ff=1536),
}
"""Published sizes, by name."""

FAMILY = Family(
    name="bert",
    model_types=("bert",),
    kind="encoder",
    config=BertConfig,
    network=Bert,
    presets=PRESETS,
    objectives=("masked", "classify", "regress", "answer_span"),
    paper="Devlin et al., arXiv:1810.04805",
    heads=heads_of({"bert": "Bert"}, BertConfig.heads),
    sharding=Sharding(),
)
