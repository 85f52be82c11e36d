"""The base of encoder-decoders: one embedding, an encoder that reads a source, and a decoder that writes."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.cache import CacheStep, PagedCache
from kun.blocks.experts import Routing
from kun.errors import BadInput
from kun.networks.attention_mask import AttentionMask
from kun.networks.decoder import Context, embed
from kun.networks.multi_head import MultiHeadAttention
from kun.networks.network import LanguageNetwork, TextConfig, check_mask, compilable
from kun.networks.source import Kept, PaddedSource, Source, SourceState, kept, source_of

Routers = tuple[Tensor, ...]
"""The float32 logits of each sparse layer's router."""


class Seq2SeqOutput(NamedTuple):
    """`logits` of the decoder's tokens as DecoderOutput's; the encoder's states [b, s, d_model], None over a cache.

    The rest is what the routers did, where a network has some and it was asked for. The losses are not yet multiplied
    by their coefficients.
    """

    logits: Tensor
    encoder_last_hidden_state: Tensor | None
    encoder_router_logits: Routers | None = None
    decoder_router_logits: Routers | None = None
    encoder_z_loss: Tensor | None = None
    encoder_aux_loss: Tensor | None = None
    decoder_z_loss: Tensor | None = None
    decoder_aux_loss: Tensor | None = None


class EncoderDecoderConfig(TextConfig, Protocol):
    """The sizes that an encoder-decoder's parts are made by; `n_layers` are the encoder's."""

    @property
    def n_decoder_layers(self) -> int: ...

    @property
    def n_decoder_heads(self) -> int: ...

    @property
    def d_decoder_head(self) -> int:
        """Width of a head of the decoder's attention."""

    @property
    def tied(self) -> bool:
        """True where the head repeats the embedding."""

    @property
    def start_token(self) -> int:
        """The token that the decoder begins with."""


class EncoderDecoder(LanguageNetwork):
    """An encoder and a decoder with one embedding, which is the head, too, where `tied`.

    A family adds the layers of both, of which each of the decoder's has its cross-attention as `cross`, and
    defines in `encoded` and `decoded` how embedded tokens go through them.
    """

    config: EncoderDecoderConfig
    lm_head: nn.Linear | None
    longest: int | None = None
    """Tokens that a target may have, None where there is no end."""

    def __init__(self, config: EncoderDecoderConfig, padding: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model, padding)
        self.aliases = {"lm_head.weight": "embed.weight"} if config.tied else {}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        encoder_last_hidden_state: Tensor | None = None,
        output_router_logits: bool = False,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
        logits_at: Tensor | None = None,
    ) -> Seq2SeqOutput:
        """Logits of padded rows of `decoder_input_ids` [b, t] after sources [b, s], or for a step over a cache.

        The source is `input_ids`, `inputs_embeds`, or the encoder's states of an earlier call. With `cache`,
        `input_ids` [1, total] are the decoder's new tokens of all rows, packed. `logits_at` [m] picks the
        tokens (places in t) whose logits are wanted. With `output_router_logits` come those of the routers, where
        there are experts, and their losses. Raises BadInput for an id outside the vocabulary and for a position beyond
        the longest, where there is an end.
        """
        reading, writing = Routing(), Routing()
        if cache is None and encoder_last_hidden_state is None:
            encoder_last_hidden_state = self.encode(input_ids, attention_mask, inputs_embeds, reading)
        states = self.states(
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            encoder_last_hidden_state=encoder_last_hidden_state,
            positions=positions,
            cache=cache,
            routing=(reading, writing),
        )
        logits = self.head(states if logits_at is None else states[:, logits_at])
        output = Seq2SeqOutput(logits, encoder_last_hidden_state)
        return self.routed(output, reading, writing) if output_router_logits else output

    def routed(self, output: Seq2SeqOutput, reading: Routing, writing: Routing) -> Seq2SeqOutput:
        """The output with what the experts of both stacks noted; BadInput where there are none."""
        raise BadInput(f"{self.config.architecture} has no experts: leave output_router_logits out.")

    @compilable
    def states(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        encoder_last_hidden_state: Tensor | None = None,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
        routing: tuple[Routing, Routing] | None = None,
    ) -> Tensor:
        """The decoder's last hidden states [b, t, d_model] of what `forward` is called with; raises what it raises.

        Experts, where there are some, note in `routing` what they do, the encoder's in the first of the two.
        """
        source = source_of(cache)
        if source is None:
            read = encoder_last_hidden_state
            if read is None:
                reading = None if routing is None else routing[0]
                read = self.encode(input_ids, attention_mask, inputs_embeds, reading)
            source = PaddedSource(read, check_mask(attention_mask, read.shape[:2]))
            input_ids, inputs_embeds = decoder_input_ids, decoder_inputs_embeds
        x = self.embedded(input_ids, inputs_embeds)
        if positions is None and cache is None:
            positions = self.positions(input_ids, decoder_attention_mask)
        context = Context.of(x, decoder_attention_mask, positions, cache, longest=self.longest)
        context.routing = Routing() if routing is None else routing[1]
        context.routing.real = check_mask(decoder_attention_mask, x.shape[:2])
        return self.decoded(self.begin(x, context), context, source)

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        routing: Routing | None = None,
    ) -> Tensor:
        """The encoder's states [b, s, d_model] of padded sources [b, s]; its experts note in `routing` what they do."""
        x = self.embedded(input_ids, inputs_embeds)
        real = check_mask(attention_mask, x.shape[:2])
        mask = AttentionMask.padded(x, real, self.positions(input_ids, attention_mask))
        mask.routing = Routing() if routing is None else routing
        mask.routing.real = real
        return self.encoded(x, mask)

    def embedded(self, ids: Tensor | None, embeds: Tensor | None) -> Tensor:
        """Token states [b, t, d_model] from ids, or given as they are; BadInput unless one of them is there."""
        return embed(self.embed, self.config.vocab_size, ids, embeds)

    def positions(self, ids: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
        """The tokens' positions [b or 1, t] of padded rows; None where real tokens are counted, as they usually are."""
        return None

    def encoded(self, x: Tensor, mask: AttentionMask) -> Tensor:
        """The encoder's states of embedded tokens x [b, s, d_model]."""
        raise NotImplementedError

    def begin(self, x: Tensor, context: Context) -> Tensor:
        """The decoder's embedded tokens [b, t, d_model] as its first layer reads them."""
        return x

    def decoded(self, x: Tensor, context: Context, source: Source) -> Tensor:
        """The decoder's states of what `begin` gave, x [b, t, d_model]."""
        raise NotImplementedError

    def head(self, states: Tensor) -> Tensor:
        return F.linear(states, self.embed.weight) if self.lm_head is None else self.lm_head(states)

    def untied_head(self) -> nn.Linear | None:
        """A new head, None where the embedding is the head."""
        config = self.config
        return None if config.tied else nn.Linear(config.d_model, config.vocab_size, bias=False)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        return self.embed(ids)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> SourceState:
        """The state carried from step to step: the decoder's keys and values in pages, and each row's source."""
        c = self.config
        sizes = c.n_decoder_layers, c.n_decoder_heads, c.d_decoder_head
        cache = PagedCache(*sizes, n_pages, page_size, dtype, device)
        return SourceState(cache, c.start_token, c.context_length, self.read)

    def read(self, ids: Tensor, lengths: Sequence[int]) -> list[Kept]:
        """The keys and values that the decoder's layers keep of each source packed in ids [1, total]."""
        x = self.embedded(ids, None)
        states = self.encoded(x, AttentionMask.packed(lengths, x.device))
        return kept(states, lengths, [cross.keys_values for cross in self._cross_attentions()])

    def _cross_attentions(self) -> list[MultiHeadAttention]:
        """Those of the decoder's layers, in their order."""
        named = self.named_modules()
        return [m for name, m in named if isinstance(m, MultiHeadAttention) and name.endswith(".cross")]
