"""The LSTM: Hochreiter and Schmidhuber, 1997, as a language model: Zaremba et al., arXiv:1409.2329.

What came before attention, and the yardstick for it: a state of fixed size is carried from token to token, so that
tokens are read one after the other, and what is far back must have been kept all the way. Dropout falls between
layers, not between tokens; the embedding is the head, too (Press and Wolf, arXiv:1608.05859). No other library loads
these checkpoints, for the Hugging Face layout knows no LSTM: names and config are Kun's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from kun.blocks.cache import CacheStep
from kun.blocks.dropout import Dropout
from kun.errors import BadInput
from kun.networks import config_keys as keys
from kun.networks.decoder import Decoder, embed
from kun.networks.decoding import DecodingState, RowState
from kun.networks.family import Family
from kun.networks.fields import Fields
from kun.networks.network import check_mask, compilable

Sequences = TypeVar("Sequences", Tensor, PackedSequence)
"""Padded rows [b, t, d_model], or packed ones."""


@dataclass(frozen=True)
class LSTMConfig:
    """Sizes of one network. It knows no longest text; `context_length` is what it was trained on."""

    vocab_size: int = keys.whole(10000, "vocab_size")
    d_model: int = keys.whole(650, "d_model")
    n_layers: int = keys.layers(2, "n_layers")
    context_length: int = keys.whole(1024, "context_length")
    tied: bool = keys.flag(True, "tied")
    dropout: float = keys.number(0.5, "dropout", missing=0.0, high=1.0)

    architecture = "LSTMLMHeadModel"
    model_type = "lstm"
    # what is kept of a token is one vector for a key and one for a value
    n_kv_heads = 1

    @property
    def d_head(self) -> int:
        return self.d_model

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> "LSTMConfig":
        """Read a `config.json`; BadInput names an impossible field."""
        return keys.read(cls, Fields(values))

    def to_hf(self) -> dict[str, object]:
        """The `config.json`, in our names."""
        return {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            **keys.written(self),
        }


class LSTM(Decoder):
    """Layers one above the other, and a head, which is the embedding where `tied` (then `lm_head` is None).

    `positions` change nothing: a state knows only what came before.
    """

    config: LSTMConfig

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(
            nn.LSTM(config.d_model, config.d_model, batch_first=True) for _ in range(config.n_layers)
        )
        self.dropout = Dropout(config.dropout)
        self.lm_head = self.untied_head()
        self.lm_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self._initialize()

    def _initialize(self) -> None:
        """Uniform by the width, as torch has it, and forget gates that are open (Jozefowicz et al., 2015)."""
        if self.embed.weight.is_meta:
            return
        nn.init.normal_(self.embed.weight, std=self.config.d_model**-0.5)
        size = self.config.d_model
        for name, parameter in self.layers.named_parameters():
            if name.endswith("bias_ih_l0"):
                nn.init.ones_(parameter.data[size : 2 * size])

    @compilable
    def states(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
        cache: CacheStep | None = None,
    ) -> Tensor:
        x = embed(self.embed, self.config.vocab_size, input_ids, inputs_embeds)
        if cache is not None:
            return self._step(x, cache)
        return self._read(x, check_mask(attention_mask, x.shape[:2], documents=True))

    def _read(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Final states [b, t, d_model] of rows, in which each document begins with an empty state."""
        if mask is None:
            return self._through(x)
        begins = F.pad(mask.long(), (1, 0), value=-1).diff(dim=-1) != 0
        begins[:, 0] = True
        document = begins.flatten().cumsum(0) - 1
        starts = begins.flatten().nonzero()[:, 0]
        lengths = torch.diff(starts, append=starts.new_tensor([begins.numel()]))
        place = torch.arange(begins.numel(), device=x.device) - starts[document]
        rows = x.new_zeros(len(starts), int(lengths.max()), x.shape[-1])
        rows = rows.index_put((document, place), x.flatten(0, 1))
        packed = pack_padded_sequence(rows, lengths.cpu(), batch_first=True, enforce_sorted=False)
        read, _ = pad_packed_sequence(self._through(packed), batch_first=True)
        return read[document, place].view_as(x)

    def _through(self, x: Sequences) -> Sequences:
        """Through all layers, dropping out before each and behind the last: a tensor, or a packed sequence."""
        for layer in self.layers:
            x, _ = layer(self._dropped(x))
        return self._dropped(x)

    def _dropped(self, x: Sequences) -> Sequences:
        return x._replace(data=self.dropout(x.data)) if isinstance(x, PackedSequence) else self.dropout(x)

    def _step(self, x: Tensor, cache: CacheStep) -> Tensor:
        """Final states [1, total, d_model] of packed new tokens, each row after what is kept of it."""
        if not isinstance(cache, LSTMStep):
            raise BadInput("A step of an LSTM knows its states: take it from the state of new_state.")
        if x.shape[:2] != (1, cache.total):
            raise BadInput(f"The step has {cache.total} tokens, the input shape {list(x.shape[:2])}.")
        counts = torch.diff(cache.row_starts).tolist()
        for number, layer in enumerate(self.layers):
            hidden, cell = cache.recall(number, x.dtype)
            rows = nn.utils.rnn.pad_sequence(list(x[0].split(counts)), batch_first=True)
            packed = pack_padded_sequence(rows, torch.tensor(counts), batch_first=True, enforce_sorted=False)
            read, (_, cells) = layer(packed, (hidden, cell))
            read, _ = pad_packed_sequence(read, batch_first=True)
            x = torch.cat([row[:count] for row, count in zip(read, counts, strict=True)])[None]
            cache.remember(number, x, cells[0])
        return x

    def head(self, states: Tensor) -> Tensor:
        table = self.embed.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(states, table, self.lm_bias)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> "LSTMState":
        """What it carries from step to step: the two states of each row's last token, in the pages of that token."""
        return LSTMState(super().new_state(n_pages, page_size, dtype, device).cache)


class LSTMState(DecodingState):
    """Pages in which a token's place holds its hidden state for a key, and its cell state for a value.

    Cell states are there for the last token of each step alone, so that no page serves another row.
    """

    def start(self, prompt: Sequence[int]) -> RowState:
        return RowState(list(prompt), root=None)

    def step(
        self, rows: Sequence[RowState], tables: list[list[int]], before: list[int], counts: list[int]
    ) -> "LSTMStep":
        return LSTMStep(self.cache, tables, before, counts)


class LSTMStep(CacheStep):
    """A step that begins where each row's last one ended."""

    def recall(self, layer: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The hidden and the cell state of each row's last token, [1, rows, d_model] each; zeros before the first."""
        size = self.cache.page_size
        last = (self.before.long() - 1).clamp(min=0)
        pages = self.tables.long().gather(1, (last // size)[:, None])[:, 0]
        begun = (self.before > 0)[:, None]
        hidden, cell = (
            torch.where(begun, store[layer, pages, 0, last % size].to(dtype), 0.0)[None]
            for store in (self.cache.keys, self.cache.values)
        )
        return hidden, cell

    def remember(self, layer: int, hidden: Tensor, cells: Tensor) -> None:
        """Keep the new tokens' hidden states [1, total, d_model], and each row's last cell state [rows, d_model]."""
        spread = torch.zeros_like(hidden)
        spread[0, self.row_starts[1:].long() - 1] = cells
        self._write(layer, hidden[:, :, None], spread[:, :, None])


PRESETS: dict[str, LSTMConfig] = {
    "zaremba-medium": LSTMConfig(tied=False),
    "zaremba-large": LSTMConfig(d_model=1500, dropout=0.65, tied=False),
}
"""Published sizes, by name; only the head's bias was not there."""

FAMILY = Family(
    name="lstm",
    model_types=("lstm",),
    kind="decoder",
    config=LSTMConfig,
    network=LSTM,
    presets=PRESETS,
    objectives=("next_token",),
    paper="Zaremba et al., arXiv:1409.2329",
)
