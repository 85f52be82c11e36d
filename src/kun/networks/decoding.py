"""What a network carries from one step of decoding to the next, and how a row begins: all that the engine knows.

A decoder alone carries the keys and values of its tokens. Others carry more (an encoder-decoder its source),
read their prompt otherwise (a prefix language model sees all of it at once) or can keep nothing (XLNet);
they say so here, and whoever runs the rows asks no further.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from kun.blocks.cache import CacheStep, PagedCache


class AttentionSizes(Protocol):
    """What the pages of a decoder's cache are made by."""

    @property
    def n_layers(self) -> int: ...

    @property
    def n_kv_heads(self) -> int: ...

    @property
    def d_head(self) -> int: ...


@dataclass(eq=False)
class RowState:
    """How a row begins, and what a family keeps for it beside the cache; rows with one prompt share one.

    `tokens` are what the decoder reads first. The first `prefix` of them see each other, so that they are
    read in one step. Pages may serve every row whose tokens begin alike and whose `root` is the same; None
    where they serve no other. `keeps` is false where a new token changes the states of all before it: then
    each step reads the whole row. Where it changes those of a few, a step reads the last `rereads` again. `unread`
    are tokens of a source that the row's first step reads besides; as much as the keys and values of `beside` tokens
    take is kept outside of the pages. `adapter` is what the row wants beside the network's own weights; its pages
    then hold what no other's do, which `root` says.
    """

    tokens: list[int]
    prefix: int = 0
    root: bytes | None = b""
    keeps: bool = True
    rereads: int = 0
    unread: int = 0
    beside: int = 0
    adapter: str | None = None


class DecodingState:
    """What a network carries for the rows of a batch; this is a decoder's, keys and values in pages.

    It belongs to whoever runs the network; `start` may be called from any thread. With `rows_apart` the layers run
    the tokens of a step's rows and nothing else, so that rows may have adapters of their own.
    """

    rows_apart = True

    def __init__(self, cache: PagedCache) -> None:
        self.cache = cache

    @classmethod
    def of(
        cls,
        config: AttentionSizes,
        n_pages: int,
        page_size: int = 32,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> "DecodingState":
        """For a network with the `n_layers`, `n_kv_heads` and `d_head` of `config`."""
        sizes = config.n_layers, config.n_kv_heads, config.d_head
        return cls(PagedCache(*sizes, n_pages, page_size, dtype, device))

    def start(self, prompt: Sequence[int]) -> RowState:
        """What a row with this prompt begins with; nothing is computed yet. Raises BadInput, ContextOverflow."""
        return RowState(list(prompt))

    def step(
        self, rows: Sequence[RowState], tables: list[list[int]], before: list[int], counts: list[int]
    ) -> CacheStep:
        """Get ready to run `counts[r]` new tokens of each row r after its first `before[r]`; see PagedCache."""
        return self.cache.step(tables, before, counts, [row.prefix for row in rows])
