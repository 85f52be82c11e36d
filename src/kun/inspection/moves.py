"""How far attention moves one word towards each other: head by head, and through the whole stack.

A head adds its part of the output projection to a word's state, so that the state turns: the cosine with each other
word's state before and after tells towards which. What a layer's norm does after that is part of the stack alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kun.errors import UnsupportedFormat
from kun.inspection.attention import Look, Steps, places_of


@dataclass(frozen=True)
class Move:
    """The layer and head, from 0, where a word moves most towards `towards`: its `weight` there, and the cosines of the
    two states `before` what the head adds and `after` it."""

    towards: str
    layer: int
    head: int
    weight: float
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class StackMove:
    """The cosine of a word's state with that of `towards`, below the first layer and above the last."""

    towards: str
    before: float
    after: float


def moves(look: Look, place: int) -> list[Move]:
    """For each token that is looked at, the head that moves the token at `place` most towards it; its own is left out.

    Raises `UnsupportedFormat` for an attention whose output is projected in a way that is not known.
    """
    gains, before = _gains(look, place)
    best = []
    for number, token in enumerate(look.looked_at):
        if look.source is None and number == place:
            continue
        layer, head = divmod(int(gains[:, :, number].argmax()), look.n_heads)
        start = float(before[layer, number])
        weight = float(look.weights[layer, head, place, number])
        best.append(Move(token, layer, head, weight, start, start + float(gains[layer, head, number])))
    return best


def furthest(look: Look, place: int, layer: int | None = None, head: int | None = None) -> tuple[int, int]:
    """The layer and head that move the token at `place` most towards any other; where one is given, it is kept.

    Raises what `moves` raises.
    """
    gains = _gains(look, place)[0]
    if look.source is None and gains.shape[-1] > 1:
        gains = torch.cat((gains[..., :place], gains[..., place + 1 :]), dim=-1)
    largest = gains.max(-1).values
    for axis, kept in ((0, layer), (1, head)):
        if kept is not None:
            others = torch.arange(largest.shape[axis]) != kept
            largest = largest.masked_fill(others[:, None] if axis == 0 else others[None], -torch.inf)
    return divmod(int(largest.argmax()), look.n_heads)


def stack_moves(look: Look, place: int) -> list[StackMove]:
    """The token at `place` and each that is looked at, below all layers and above them."""
    first, last = look.seen.before[0][0], look.seen.after[-1][0]
    pairs = [
        (F.cosine_similarity(states[place][None], states if look.source is None else look.source).tolist())
        for states in (first, last)
    ]
    return [
        StackMove(token, before, after)
        for number, (token, before, after) in enumerate(zip(look.looked_at, *pairs, strict=True))
        if look.source is not None or number != place
    ]


def _gains(look: Look, place: int) -> tuple[Tensor, Tensor]:
    """Gains in cosine [layers, heads, s] by what each head adds, and the cosines before [layers, s]."""
    gains, starts = [], []
    for layer, (mixed, weight) in enumerate(zip(look.seen.mixed, look.seen.projections, strict=True)):
        if weight is None:
            raise UnsupportedFormat(f"{look.model} projects what its heads find in a way of its own.")
        by_head = mixed[0, place].float().view(look.n_heads, -1)
        added = torch.einsum("hd,ohd->ho", by_head, weight.float().view(len(weight), look.n_heads, -1))
        before = look.seen.before[layer][0].float()
        others = before if look.source is None else look.source.float()
        start = F.cosine_similarity(before[place][None], others)
        moved = F.cosine_similarity((before[place] + added)[:, None], others[None], dim=-1)
        gains.append(moved - start)
        starts.append(start)
    return torch.stack(gains), torch.stack(starts)


def steps_of(
    seen: Sequence[Look], word: str, layer: int | None = None, head: int | None = None
) -> list[tuple[Look, Steps]]:
    """The three steps for the first token that is shown as `word`, in each look that has one.

    Where no layer or head is given, they are those that move the word most towards another. Raises `BadInput` for a
    model that shows no such token, and for a layer or head that is not there; what `moves` raises.
    """
    found = []
    for look, place in places_of(seen, word):
        look.pick(layer, head)  # names what is not there
        if layer is None or head is None:
            layers, heads = furthest(look, place, layer, head)
        else:
            layers, heads = layer, head
        found.append((look, look.steps(place, layers, heads)))
    return found
