"""Six encodings of position as tables of numbers; what each can tell is computed, not claimed.

Index: 1, 2, 3. Sinusoids: Vaswani et al., arXiv:1706.03762. Learned: a table of the network's own (GPT-1 to 3, BERT).
Rotary: Su et al., arXiv:2104.09864. Relative: the buckets of T5, arXiv:1910.10683.
ALiBi: Press et al., arXiv:2108.12409.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.blocks.positions import alibi_slopes, sinusoids
from kun.blocks.relative import relative_bucket
from kun.blocks.rotary import RotaryConfig, frequencies, rotate
from kun.errors import BadInput

PositionKind = Literal["index", "sinusoidal", "learned", "rotary", "relative", "alibi"]
KINDS: tuple[PositionKind, ...] = get_args(PositionKind)
MOST_PLACES, MOST_WIDTH = 512, 1024


@dataclass(frozen=True)
class Places:
    """A table [rows, columns] to be drawn, what its axes are, and what was computed of it.

    `facts` are named numbers: `nearest`, the least distance between two places (above 0: every place differs);
    `shift`, the largest error when all places are shifted by one linear map that depends on the offset alone
    (0: the offset is recoverable), and `offset`, by how much the score of two tokens changes when both move (0: only
    their distance counts).
    """

    kind: PositionKind
    table: Tensor
    rows: str
    columns: str
    facts: dict[str, float]


def places(kind: str, n: int = 64, width: int = 64, net: nn.Module | None = None) -> Places:
    """The table of `kind` for `n` places and vectors of `width`; `learned` takes it from `net`.

    Raises `BadInput` for another kind, an impossible size, or a network without such a table.
    """
    if kind not in KINDS:
        raise BadInput(f"There are no positions {kind[:60]!r}; there are {', '.join(KINDS)}.")
    if not 2 <= n <= MOST_PLACES or not 4 <= width <= MOST_WIDTH or width % 2:
        raise BadInput(
            f"{n} places of width {width} cannot be shown: 2 to {MOST_PLACES}, and an even width of 4 to {MOST_WIDTH}."
        )
    match kind:
        case "index":
            return _index(n)
        case "sinusoidal":
            return _sinusoidal(n, width)
        case "learned":
            return _learned(n, net)
        case "rotary":
            return _rotary(n, width)
        case "relative":
            return _relative(n)
        case _:
            return _alibi(n)


def _index(n: int) -> Places:
    table = torch.arange(1.0, n + 1)[:, None]
    return Places("index", table, "place", "number", {"nearest": _nearest(table)})


def _sinusoidal(n: int, width: int) -> Places:
    table = sinusoids(torch.arange(n), width)
    facts = {"nearest": _nearest(table), "shift": _shift_error(table, offset=max(1, n // 4))}
    return Places("sinusoidal", table, "place", "dimension", facts)


def _learned(n: int, net: nn.Module | None) -> Places:
    table = _table_of(net)
    if table is None:
        raise BadInput("This network learns no table of positions: GPT-2 and BERT do; name one with --model.")
    table = table[:n].detach().float()
    return Places("learned", table, "place", "dimension", {"nearest": _nearest(table)})


def _table_of(net: nn.Module | None) -> Tensor | None:
    for path in ("positions", "embeddings.positions"):
        module = net
        for part in path.split("."):
            module = getattr(module, part, None)
        if isinstance(weight := getattr(module, "weight", None), Tensor):
            return weight
    return None


def _rotary(n: int, width: int) -> Places:
    """The cosine of the angle by which each pair of dimensions is rotated at each place."""
    angles = torch.arange(n)[:, None].float() * frequencies(RotaryConfig(), width)
    both = torch.cat((angles, angles), dim=-1)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(width, generator=generator).expand(1, n, 1, width) for _ in range(2))
    cos, sin = both.cos()[None], both.sin()[None]
    scores = (rotate(q, cos, sin)[0, :, 0] @ rotate(k, cos, sin)[0, :, 0].T) / width**0.5
    facts = {"nearest": _nearest(torch.cat((angles.cos(), angles.sin()), -1)), "offset": _by_offset(scores)}
    return Places("rotary", angles.cos(), "place", "pair of dimensions", facts)


def _relative(n: int) -> Places:
    """T5's bucket for each distance between a query's place and a key's."""
    place = torch.arange(n)
    distance = place[None] - place[:, None]
    table = relative_bucket(distance, buckets=32, max_distance=128, both_ways=True).float()
    return Places("relative", table, "query", "key", {"offset": _by_offset(table)})


def _alibi(n: int, n_heads: int = 8) -> Places:
    """The first head's addition to a score: its slope times how far back the key is."""
    place = torch.arange(n, dtype=torch.float32)
    table = (alibi_slopes(n_heads)[0] * (place[None] - place[:, None])).tril()
    return Places("alibi", table, "query", "key", {"offset": _by_offset(table)})


def _nearest(table: Tensor) -> float:
    """The least distance between two rows."""
    return float(F.pdist(table.double()).min())


def _shift_error(table: Tensor, offset: int) -> float:
    """The largest error of one rotation of each sine (first half) and its cosine by `offset` places.

    That rotation depends on the offset alone, so how far apart two places are can be read off their vectors.
    """
    sine, cosine = table.double().chunk(2, dim=1)
    angle = offset * frequencies(RotaryConfig(), table.shape[1]).double()
    shifted_sine = sine * angle.cos() + cosine * angle.sin()
    shifted_cosine = cosine * angle.cos() - sine * angle.sin()
    missed = (
        (shifted_sine[:-offset] - sine[offset:]).abs(),
        (shifted_cosine[:-offset] - cosine[offset:]).abs(),
    )
    return float(torch.stack(missed).max())


def _by_offset(scores: Tensor) -> float:
    """The largest difference between two scores of the same distance between query and key."""
    n = len(scores)
    spread = [torch.diagonal(scores, offset) for offset in range(-n + 1, n)]
    return max(float(line.max() - line.min()) for line in spread)
