"""BERT: Devlin et al., arXiv:1810.04805: the encoder (multilingual E5, arXiv:2402.05672, is one).

What differs from GPT-2: every token sees every other, the norm comes after each part (x = norm(x + part(x)))
and once after the embeddings, and a table of two token types marks the first and second sentence. It is
trained to name masked words, and what it is used for is a matter of the head on top (`heads.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from kun.blocks.attention import positions_of, same_document
from kun.blocks.dropout import Dropout
from kun.blocks.feed_forward import FeedForward
from kun.errors import BadInput
from kun.families.bert.config import BertConfig
from kun.families.bert.gguf import BERT
from kun.families.bert.heads import HEADS, Encoded, Head, HeadOutput
from kun.families.bert.names import NAMES, BertNames
from kun.networks.attention_mask import AttentionMask
from kun.networks.decoder import embed
from kun.networks.family import Family, Sharding, heads_of
from kun.networks.names import NameMap
from kun.networks.network import (
    EncoderOutput,
    TextNetwork,
    check_ids,
    check_mask,
    check_positions,
    compilable,
    initialize,
)


class Embeddings(nn.Module):
    """Word, position and token type added up, and the task where there is a table of tasks (ERNIE); then the norm."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.d_model, config.pad_id)
        self.positions = nn.Embedding(config.max_positions, config.d_model)
        self.types = nn.Embedding(config.token_types, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.tasks = nn.Embedding(config.tasks, config.d_model) if config.tasks else None

    def forward(
        self, words: Tensor, positions: Tensor, types: Tensor | None = None, tasks: Tensor | None = None
    ) -> Tensor:
        """[b, t, d_model] of words [b, t, d_model]; BadInput for a type or a task that the table lacks."""
        types = torch.zeros_like(positions) if types is None else types
        check_ids(types, self.types.num_embeddings)
        if self.tasks is not None:
            tasks = words.new_zeros(words.shape[:2], dtype=torch.long) if tasks is None else tasks
            check_ids(tasks, self.tasks.num_embeddings)
            words = words + self.tasks(tasks)
        elif tasks is not None:
            raise BadInput("This network has no table of tasks: leave task_type_ids out.")
        return self.dropout(self.norm(words + self.types(types) + self.positions(positions)))


class Attention(nn.Module):
    """Self-attention in which every token sees every other."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.d_head, self.dropout = config.d_head, config.attention_dropout
        self.q, self.k, self.v, self.o = (nn.Linear(config.d_model, config.d_model) for _ in range(4))

    def forward(self, x: Tensor, mask: AttentionMask) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        return self.o(mask.attend(q, k, v, dropout=self.dropout if self.training else 0.0).flatten(-2))


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, config.activation)
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: AttentionMask) -> Tensor:
        h = self.attention_norm(self.dropout(self.attention(x, mask)) + x)
        return self.mlp_norm(self.dropout(self.mlp(h)) + h)


class Bert(TextNetwork):
    """A BERT-type encoder, with the `head` that its config names (else None).

    The `pooler` is there for the heads that read it; an encoder alone has none where its weights came without.
    """

    config: BertConfig
    names: NameMap = BertNames("bert", NAMES)
    heads: ClassVar[Mapping[str, type[Head]]] = HEADS
    left_behind = ("head", "pooler")

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.head = self.heads[config.head](config) if config.head else None
        pools = self.head is None or self.head.pools
        self.pooler = nn.Linear(config.d_model, config.d_model) if pools else None
        self.optional = ("pooler",) if self.head is None else ()
        tied = config.tied and hasattr(self.head, "words")
        self.aliases = {"head.words.decoder.weight": "embeddings.words.weight"} if tied else {}
        initialize(self)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        task_type_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        lengths: Sequence[int] | None = None,
        logits_at: Tensor | None = None,
    ) -> EncoderOutput | HeadOutput:
        """The head's output, or states, of padded rows or packed ones.

        Padded: `input_ids`, `attention_mask`, `token_type_ids`, `task_type_ids` (ERNIE's) [b, t]. With `lengths`,
        `input_ids` [1, total] are rows of those many tokens one after the other, and states are packed likewise.
        `logits_at` [m] picks the places in t that are wanted. Raises BadInput for an id, token type or task that
        the tables lack and for a position beyond them.
        """
        given = input_ids, attention_mask, token_type_ids, task_type_ids
        states = self.states(*given, inputs_embeds=inputs_embeds, lengths=lengths)
        return self.headed(states, attention_mask, lengths, logits_at)

    @compilable
    def states(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        task_type_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """The last hidden states [b, t, d_model] of what `forward` is called with; raises what it raises."""
        words = embed(self.embeddings.words, self.config.vocab_size, input_ids, inputs_embeds)
        places, mask = self.placed(words, input_ids, attention_mask, lengths)
        x = self.embeddings(words, places, token_type_ids, task_type_ids)
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def headed(
        self,
        states: Tensor,
        attention_mask: Tensor | None = None,
        lengths: Sequence[int] | None = None,
        wanted: Tensor | None = None,
    ) -> EncoderOutput | HeadOutput:
        """The head's output of last hidden states [b, t, d_model] at the `wanted` places; without a head, states."""
        first = first_tokens(states, attention_mask, lengths)
        pooled, chosen = self.pooled(first), states if wanted is None else states[:, wanted]
        if self.head is None:
            return EncoderOutput(chosen, pooled)
        if not self.config.reads_first:
            first = summaries(states, attention_mask, lengths, mean=self.config.pooling == "mean")
        output: HeadOutput = self.head(Encoded(chosen, first, pooled, self.embeddings.words))
        return output

    def pooled(self, first: Tensor) -> Tensor | None:
        """tanh of a projection of each row's first real token [rows, d_model]; None without a pooler."""
        return None if self.pooler is None else torch.tanh(self.pooler(first))

    def embed_tokens(self, ids: Tensor) -> Tensor:
        return embed(self.embeddings.words, self.config.vocab_size, ids, None)

    def positions(self, ids: Tensor | None, mask: Tensor | None, words: Tensor) -> Tensor:
        """The row of the position table for each token [b or 1, t]: real tokens count from 0."""
        return positions_of(mask, words.shape[1], words.device)

    def placed(
        self,
        words: Tensor,
        ids: Tensor | None,
        attention_mask: Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> tuple[Tensor, AttentionMask]:
        """The positions of words [b, t, d_model], whose `ids` may be unknown, and who of them attends to whom."""
        if lengths is None:
            mask = check_mask(attention_mask, words.shape[:2], documents=True)
            positions = self.positions(ids, mask, words)
            seen = AttentionMask(positions, _seen(mask))
        else:
            bounds = [0, *accumulate(lengths)]
            if not lengths or min(lengths) < 1 or words.shape[:2] != (1, bounds[-1]):
                raise BadInput(
                    f"Packed rows of {list(lengths)} tokens do not fit the shape {list(words.shape[:2])}."
                )
            rows = [
                self.positions(None if ids is None else ids[:, start:end], None, words[:, start:end])
                for start, end in pairwise(bounds)
            ]
            positions = torch.cat(rows, dim=1)
            seen = AttentionMask(positions, bounds=bounds)
        first = self.config.first_position
        check_positions((positions - first).clamp(min=0), self.config.context_length)
        return positions, seen

    def drop_head(self) -> None:
        """Become the encoder alone, as the config states from now on."""
        self.head, self.aliases, self.config = None, {}, replace(self.config, head=None)


def first_tokens(states: Tensor, attention_mask: Tensor | None, lengths: Sequence[int] | None) -> Tensor:
    """The states [rows, d_model] of each row's first real token, of padded rows [b, t, d_model] or packed ones."""
    if lengths is not None:
        return states[0, [0, *accumulate(lengths)][:-1]]
    if attention_mask is None:
        return states[:, 0]
    starts = attention_mask.bool().long().argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), starts]


def summaries(
    states: Tensor, attention_mask: Tensor | None, lengths: Sequence[int] | None, *, mean: bool
) -> Tensor:
    """The mean, else the maximum, [rows, d_model] of each row's real tokens, of padded rows [b, t, d_model] or packed.

    The mean is Sentence-BERT's pooling: Reimers and Gurevych, arXiv:1908.10084.
    """
    if lengths is not None:
        rows = states[0].split(list(lengths))
        return torch.stack([row.mean(dim=0) if mean else row.amax(dim=0) for row in rows])
    if attention_mask is None:
        return states.mean(dim=1) if mean else states.amax(dim=1)
    real = attention_mask.bool()[..., None]
    if not mean:
        return states.masked_fill(~real, -torch.inf).amax(dim=1)
    return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def _seen(mask: Tensor | None) -> Tensor | None:
    """bool [b, 1, t, t]: all see the real tokens of their document, and padding sees itself: no softmax is empty."""
    if mask is None:
        return None
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return same_document(mask) | itself


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
    gguf={"bert": BERT},
)
