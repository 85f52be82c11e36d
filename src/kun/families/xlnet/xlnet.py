"""XLNet: Yang et al., arXiv:1906.08237: a language model over every order of the words.

What differs from BERT: nothing is masked in the text. Words are predicted one after the other in an order
that is drawn anew each time (`perm_mask`: who comes later is not seen), so that each learns from both sides.
A word must not see itself when it is predicted, yet others must see it: so two streams run side by side with
the same weights. The content stream reads words; the query stream starts from one learned vector, knows only
its place, and predicts the word there. Distances take the place of positions, and the states of one segment
serve the next as memory (both from Transformer-XL, arXiv:1901.02860).
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.dropout import Dropout
from kun.blocks.feed_forward import FeedForward
from kun.errors import BadInput
from kun.families.xlnet.attention import Attention, RelativeContext, mask_of, sinusoids
from kun.families.xlnet.completion import CompletionState, CompletionStep
from kun.families.xlnet.config import PRESETS, XLNetConfig
from kun.networks.decoder import embed
from kun.networks.decoding import DecodingState
from kun.networks.family import Family
from kun.networks.names import NameMap, Names, State
from kun.networks.network import LanguageNetwork, check_mask, compilable, initialize

Memory = Sequence[Tensor | None]
"""For each layer the states that it read before, [remembered, b, d_model]."""


class XLNetOutput(NamedTuple):
    """`logits` [b, t or m, vocabulary]; `mems`, the memory after this segment, None where it isn't wanted."""

    logits: Tensor
    mems: tuple[Tensor, ...] | None


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x)), for both streams."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, config.activation, dropout=config.dropout)
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, content: Tensor, queries: Tensor | None, memory: Tensor | None, context: RelativeContext
    ) -> tuple[Tensor, Tensor | None]:
        mixed, answers = self.attention(content, queries, memory, context)
        content = self.after(content, mixed)
        return content, None if queries is None else self.after(queries, answers)

    def complete(self, x: Tensor, step: CompletionStep, number: int) -> Tensor:
        """One step of completion, for the packed words and the query behind each row."""
        return self.after(x, self.attention.o(step.attend_to_words(number, self.attention, x)))

    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The layer's states of x, to which its attention gives `mixed`."""
        h = self.attention_norm(x + self.dropout(mixed))
        return self.mlp_norm(h + self.dropout(self.mlp(h)))


class XLNet(LanguageNetwork):
    """An XLNet with its head, which is the embedding where `tied` (then `lm_head` is None), and a bias."""

    config: XLNetConfig
    bare_tensors = ("attention.*",)
    """Layers that are no layers in the reference, but tensors cut into heads: nothing there can be next to them."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.config, self.names = config, XLNetNames(config)
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.query = nn.Parameter(torch.empty(1, 1, config.d_model))
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.lm_head = None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.lm_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.aliases = {"lm_head.weight": "embed.weight"} if config.tied else {}
        initialize(self)
        for name, parameter in self.named_parameters():
            if name == "query" or (".attention." in name and "weight" not in name):
                nn.init.normal_(parameter, std=0.02)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Memory | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        use_mems: bool | None = None,
        cache: CompletionStep | None = None,
        logits_at: Tensor | None = None,
    ) -> XLNetOutput:
        """Logits for padded rows, or for one step of completion over a cache.

        `input_ids`, `attention_mask`, `token_type_ids` [b, t]; `perm_mask` [b, t, t], 1 where i does not see
        j; `target_mapping` [b, m, t], 1 where the m-th prediction is for the token at t. Without it the
        content stream alone runs, and predicts words that it sees. With `cache`, `input_ids` [1, total] are
        the tokens of all rows, packed, and the logits [1, rows, vocabulary] what follows each row;
        `logits_at` picks rows by places of theirs, and else the predictions that are wanted. Raises BadInput
        for an id outside the vocabulary and for a mask, mapping or memory of the wrong shape.
        """
        if use_mems is None:
            use_mems = self.config.remembers_in_training if self.training else self.config.remembers
        kept: list[Tensor] | None = [] if use_mems and cache is None else None
        states = self.states(
            input_ids,
            attention_mask,
            mems,
            perm_mask,
            target_mapping,
            token_type_ids,
            inputs_embeds=inputs_embeds,
            kept=kept,
            cache=cache,
        )
        if logits_at is not None:
            states = states[:, logits_at if cache is None else cache.rows_of(logits_at)]
        return XLNetOutput(self.head(states), None if kept is None else tuple(kept))

    @compilable
    def states(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Memory | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        kept: list[Tensor] | None = None,
        cache: CompletionStep | None = None,
    ) -> Tensor:
        """The last hidden states that the head reads: [b, t or m, d_model], or over a cache [1, rows, d_model].

        The memory after this segment is put into `kept`. Raises what `forward` raises.
        """
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        if cache is not None:
            return self._complete(x, cache)
        context = self._context(x, attention_mask, mems, perm_mask, target_mapping, token_type_ids)
        x, queries = self.dropout(x), None
        if target_mapping is not None:
            queries = self.dropout(self.query.expand(len(x), target_mapping.shape[1], -1))
        for layer, memory in zip(self.layers, mems or repeat(None), strict=False):
            if kept is not None:
                kept.append(self._remember(x, memory))
            x, queries = layer(x, queries, None if memory is None else memory.transpose(0, 1), context)
        return self.dropout(x if queries is None else queries)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        return embed(self.embed, self.config.vocab_size, ids, None)

    def asking_next(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Arguments of `forward` that ask what follows each of the words [1, t]: a row for each place.

        Its words see each other, and those behind it are hidden; the query is one place farther on.
        """
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        ids = F.pad(input_ids, (0, 1)).expand(len(place), -1)
        key = torch.arange(ids.shape[1], device=ids.device)
        hidden = (key > place[:, None])[:, None].expand(-1, len(key), -1)
        asked = (key == place[:, None] + 1)[:, None]
        return {"input_ids": ids, "perm_mask": hidden.float(), "target_mapping": asked.float()}

    def head(self, states: Tensor) -> Tensor:
        if self.lm_head is None:
            return F.linear(states, self.embed.weight, self.lm_bias)
        return self.lm_head(states) + self.lm_bias

    def _complete(self, x: Tensor, step: CompletionStep) -> Tensor:
        """The states of the queries behind the rows: [1, rows, d_model]."""
        x = step.with_queries(x, self.query)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            x = layer.complete(x, step, number)
        return x[:, step.queries]

    def _remember(self, x: Tensor, memory: Tensor | None) -> Tensor:
        """The memory of a layer after it has read x [b, t, d_model]: [remembered, b, d_model], no gradient."""
        config = self.config
        new = x.transpose(0, 1)[: config.reuse]
        kept = new if memory is None else torch.cat((memory, new))
        return kept[-config.memory if config.memory else 0 :].detach()

    def _context(
        self,
        x: Tensor,
        attention_mask: Tensor | None,
        mems: Memory | None,
        perm_mask: Tensor | None,
        target_mapping: Tensor | None,
        types: Tensor | None,
    ) -> RelativeContext:
        rows, length = x.shape[:2]
        before = self._check_memory(mems, rows)
        hidden = self._hidden(x, check_mask(attention_mask, x.shape[:2]), perm_mask, before)
        mask = content_mask = None
        if hidden is not None:
            itself = torch.eye(length, dtype=torch.bool, device=x.device)
            mask, content_mask = (
                mask_of(some, x.dtype) for some in (hidden, hidden & ~F.pad(itself, (before, 0)))
            )
        if target_mapping is not None:
            if target_mapping.dim() != 3 or target_mapping.shape[::2] != (rows, length):
                raise BadInput(
                    f"target_mapping has shape {list(target_mapping.shape)}, not [{rows}, m, {length}]."
                )
            target_mapping = target_mapping.to(x.dtype)
        different = None
        if types is not None:
            if types.shape != x.shape[:2]:
                raise BadInput(f"token_type_ids has shape {list(types.shape)}, the input {[rows, length]}.")
            different = types[:, :, None] != F.pad(types, (before, 0))[:, None]
        distances = torch.arange(before + length, -length, -1, device=x.device)
        places = self.dropout(self.places(distances, x.dtype))
        return RelativeContext(places, mask, content_mask, different, target_mapping)

    def places(self, distances: Tensor, dtype: torch.dtype) -> Tensor:
        """Sinusoids [n, d_model] for distances [n] in tokens, those beyond the clamp taken for it."""
        clamp = self.config.clamp
        return sinusoids(
            distances if clamp is None else distances.clamp(-clamp, clamp), self.config.d_model
        ).to(dtype)

    def _check_memory(self, mems: Memory | None, rows: int) -> int:
        """The number of states that each layer remembers."""
        if mems is None:
            return 0
        config, given = self.config, [memory for memory in mems if memory is not None]
        wanted = (len(given[0]) if given else 0, rows, config.d_model)
        if len(mems) != config.n_layers or (
            given and [tuple(m.shape) for m in given] != [wanted] * len(mems)
        ):
            raise BadInput(
                f"mems must be {config.n_layers} tensors of shape [remembered, {rows}, {config.d_model}], all alike."
            )
        return wanted[0]

    def _hidden(self, x: Tensor, mask: Tensor | None, perm_mask: Tensor | None, before: int) -> Tensor | None:
        """bool [b or 1, t, before + t], true for keys that a query does not see; None where it sees all."""
        rows, length = x.shape[:2]
        hidden = None
        if perm_mask is not None:
            if perm_mask.shape != (rows, length, length):
                raise BadInput(f"perm_mask has shape {list(perm_mask.shape)}, not {[rows, length, length]}.")
            hidden = perm_mask > 0
        if mask is not None:
            hidden = ~mask[:, None] if hidden is None else hidden | ~mask[:, None]
        if hidden is not None:
            hidden = F.pad(hidden.expand(-1, length, -1), (before, 0))
        if self.config.attention == "bi":
            return hidden
        query = torch.arange(length, device=x.device)[:, None]
        key = torch.arange(before + length, device=x.device)
        later = (key > query + before) | (key < query if self.config.same_length else False)
        return later[None] if hidden is None else hidden | later

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> DecodingState:
        """The state that it carries from step to step: keys and values of what it remembers, and those of distances."""
        return CompletionState(self, n_pages, page_size, dtype, device)


NAMES = Names(
    (
        ("embed", "word_embedding"),
        ("query", "mask_emb"),
        ("lm_bias", "lm_loss.bias"),
        ("lm_head", "lm_loss"),
        ("attention_norm", "rel_attn.layer_norm"),
        ("attention.content_bias", "rel_attn.r_w_bias"),
        ("attention.distance_bias", "rel_attn.r_r_bias"),
        ("attention.segment_bias", "rel_attn.r_s_bias"),
        ("attention.segments", "rel_attn.seg_embed"),
        ("attention", "rel_attn"),
        ("mlp.up", "ff.layer_1"),
        ("mlp.down", "ff.layer_2"),
        ("mlp_norm", "ff.layer_norm"),
        ("layers", "layer"),
    )
)

_HEADS_APART = ("q", "k", "v", "o", "r")


class XLNetNames(NameMap):
    """A map by parts of names; the reference's projections are [d_model, heads, d_head]."""

    def __init__(self, config: XLNetConfig) -> None:
        self.heads = config.n_heads, config.d_head

    def ours(self, state: Mapping[str, Tensor]) -> State:
        ours: State = {}
        for full, tensor in state.items():
            name = NAMES.ours(full.removeprefix("transformer."))
            if _is_apart(name):
                flat = tensor.flatten(1)
                ours[f"{name}.weight"] = flat if name.endswith(".o") else flat.t().contiguous()
            else:
                ours[name] = tensor
        return ours

    def reference(self, state: Mapping[str, Tensor]) -> State:
        reference: State = {}
        for name, tensor in state.items():
            layer = name.removesuffix(".weight")
            if _is_apart(layer):
                wide = (tensor if layer.endswith(".o") else tensor.t()).unflatten(1, self.heads).contiguous()
                reference[f"transformer.{NAMES.reference(layer)}"] = wide
            else:
                full = NAMES.reference(name)
                reference[full if full.startswith("lm_loss.") else f"transformer.{full}"] = tensor
        return reference


def _is_apart(name: str) -> bool:
    """True for a projection of a layer's attention."""
    owner, _, part = name.rpartition(".")
    return owner.endswith(".attention") and part in _HEADS_APART


FAMILY = Family(
    name="xlnet",
    model_types=("xlnet",),
    kind="decoder",
    config=XLNetConfig,
    network=XLNet,
    presets=PRESETS,
    objectives=("permutation",),
    paper="Yang et al., arXiv:1906.08237",
)
