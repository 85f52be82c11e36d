"""Low-rank adaptation: Hu et al., "LoRA", arXiv:2106.09685.

A frozen matrix W gets a pair of thin ones beside it, y = x Wᵀ + (α / r) x Aᵀ Bᵀ, of which only A [r, inputs] and
B [outputs, r] train. B starts at zero, so that training starts from the network as it is. The pair is a child of
its layer, called `lora`: every other name in the network stays what it was. The matrix may be quantized
(Dettmers et al., "QLoRA", arXiv:2305.14314).
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.adaptation.quantize import QuantizedLinear
from kun.blocks.dropout import Dropout
from kun.errors import BadInput

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
"""The matrices of attention and feed-forward, as every family calls them."""

Matrix = nn.Linear | QuantizedLinear


@dataclass(frozen=True)
class LoraConfig:
    """Which layers get a pair of which `rank`, and how much it counts: `alpha` / rank, 2 where it is None.

    `targets` are patterns of layer names or of their ends, as "q", "attention.*", "layers.0.mlp.up"; `whole` such
    patterns of parts that train entirely, as the head of a new task. `dropout` is on the pair's input.

    Raises `BadInput` for a value out of its range.
    """

    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = PROJECTIONS
    dropout: float = 0.0
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _patterns("targets", self.targets))
        object.__setattr__(self, "whole", _patterns("whole", self.whole))
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or not 1 <= self.rank <= 4096:
            raise BadInput(f"rank is {self.rank!r}; it must be a whole number from 1 to 4096.")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise BadInput(f"alpha is {self.alpha!r}; it must be above zero.")
        if not 0 <= self.dropout < 1:
            raise BadInput(f"dropout is {self.dropout!r}; it must be at least 0 and below 1.")
        if not self.targets:
            raise BadInput("targets is empty: name the layers that get an adapter, or leave it out.")

    @property
    def scale(self) -> float:
        return 2.0 if self.alpha is None else self.alpha / self.rank


class Pair(NamedTuple):
    """What an adapter holds for one layer: `a` [rank, inputs], `b` [outputs, rank], and how much they count."""

    a: Tensor
    b: Tensor
    scale: float


class LowRank(nn.Module):
    """The pair beside a layer, in float32; it adds to the layer's output y what it makes of its input x."""

    def __init__(self, pair: Pair, dropout: float = 0.0) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(pair.a.float()), nn.Parameter(pair.b.float())
        self.scale = pair.scale
        self.dropout = Dropout(dropout)
        self.is_on = True

    @property
    def pair(self) -> Pair:
        return Pair(self.a.detach(), self.b.detach(), self.scale)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [..., inputs], y [..., outputs] -> y and the pair's share of it, or y alone while the pair is off."""
        if not self.is_on:
            return y
        low = F.linear(self.dropout(x), self.a.to(x.dtype)) * self.scale
        return y + F.linear(low, self.b.to(x.dtype))

    def extra_repr(self) -> str:
        return f"{self.a.shape[1]}, {self.b.shape[0]}, rank={len(self.a)}, scale={self.scale:g}"


def add_lora(net: nn.Module, config: LoraConfig) -> nn.Module:
    """Put a pair beside each layer that `config` names, and freeze all else but its `whole` parts; returns `net`.

    Raises `BadInput` where a pattern fits no layer, with the nearest names, and where `net` has pairs already.
    """
    if lora_pairs(net):
        raise BadInput("The network has an adapter already: merge it first, or go on training that one.")
    layers = targeted(net, config.targets)
    whole = _whole(net, config.whole, layers)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    for layer in layers.values():
        _put(layer, LowRank(_fresh(layer, config), config.dropout))
    for part in whole:
        part.requires_grad_(True)
    return net


def attach(net: nn.Module, pairs: Mapping[str, Pair], dropout: float = 0.0) -> nn.Module:
    """Put pairs that were trained before beside the layers of these names, and freeze all else; returns `net`.

    Raises `BadInput` for a layer that is not there or has another shape.
    """
    layers = dict(matrices(net))
    for name, pair in pairs.items():
        check_pair(name, layers.get(name), pair)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    for name, pair in pairs.items():
        _put(layers[name], LowRank(pair, dropout))
    return net


def lora_pairs(net: nn.Module) -> dict[str, LowRank]:
    """The pairs in `net`, by the names of their layers."""
    found = ((name, getattr(module, "lora", None)) for name, module in net.named_modules())
    return {name: pair for name, pair in found if isinstance(pair, LowRank)}


def stacked(first: Mapping[str, Pair], then: Mapping[str, Pair]) -> dict[str, Pair]:
    """Two adapters as one, of which the second was trained on what the first makes of a network; ranks add up.

    W + s₁ B₁ A₁ + s₂ B₂ A₂ = W + [s₁ B₁, s₂ B₂] [A₁; A₂].
    """
    both = {**first, **then}
    for name in first.keys() & then.keys():
        parts = (first[name], then[name])
        a = torch.cat([part.a.float().cpu() for part in parts])
        b = torch.cat([part.scale * part.b.float().cpu() for part in parts], dim=1)
        both[name] = Pair(a, b, 1.0)
    return both


@contextmanager
def without_lora(net: nn.Module) -> Iterator[None]:
    """Within it the pairs of `net` are off: it computes what the network computes that they were put into."""
    pairs = lora_pairs(net).values()
    for pair in pairs:
        pair.is_on = False
    try:
        yield
    finally:
        for pair in pairs:
            pair.is_on = True


def share_frozen(net: nn.Module, other: nn.Module) -> int:
    """Let `net` use the weights of `other` that neither trains, where its own of that name are equal; bytes saved."""
    theirs = {name: weight for name, weight in other.named_parameters() if not weight.requires_grad}
    saved = 0
    for name, weight in list(net.named_parameters()):
        twin = theirs.get(name)
        if weight.requires_grad or twin is None or twin is weight:
            continue
        is_alike = all(getattr(twin, of) == getattr(weight, of) for of in ("dtype", "device", "shape"))
        if is_alike and torch.equal(twin, weight):
            module, _, last = name.rpartition(".")
            setattr(net.get_submodule(module), last, twin)
            saved += weight.nbytes
    return saved


def merge(net: nn.Module) -> nn.Module:
    """Add each pair to its matrix, which then stands alone; returns `net`.

    The sum is taken in float32 and rounded to the matrix's dtype: of a bfloat16 matrix a small pair may change
    nothing. Raises `BadInput` for a quantized one.
    """
    pairs = lora_pairs(net)
    layers = {name: net.get_submodule(name) for name in pairs}
    quantized = next((name for name, layer in layers.items() if isinstance(layer, QuantizedLinear)), None)
    if quantized is not None:
        raise BadInput(
            f"{quantized} is quantized, and merging would round it anew: load the base in float32."
        )
    for name, pair in pairs.items():
        weight = layers[name].weight
        assert isinstance(weight, Tensor)
        merged = weight.detach().float() + (pair.b.detach() @ pair.a.detach()) * pair.scale
        # not in place: the weights may be mapped from a file, or shared
        layers[name].weight = nn.Parameter(merged.to(weight.dtype), requires_grad=weight.requires_grad)
        _take_away(layers[name])
    return net


def base_state(net: nn.Module) -> dict[str, Tensor]:
    """The state of `net` without its pairs, in the names that it has without them."""
    inside = tuple(f"{name}.lora." for name in lora_pairs(net))
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(inside)}


def matrices(net: nn.Module) -> Iterator[tuple[str, Matrix]]:
    """The layers that may have a pair. A tied head is the embedding, and gets none."""
    tied = {alias.removesuffix(".weight") for alias in getattr(net, "aliases", {})}
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | QuantizedLinear) and name not in tied and adaptable(net, name):
            yield name, module


def adaptable(net: nn.Module, name: str) -> bool:
    """Whether the reference has a layer where `net` has `name`; a bare tensor can have no pair beside it."""
    return not any(_fits(name, pattern) for pattern in getattr(net, "bare_tensors", ()))


def targeted(net: nn.Module, patterns: Iterable[str]) -> dict[str, Matrix]:
    """The layers of `net` that one of the patterns fits. Raises `BadInput` where one of them fits none."""
    layers, patterns = dict(matrices(net)), tuple(patterns)
    for pattern in () if patterns == PROJECTIONS else patterns:
        if not any(_fits(name, pattern) for name in layers):
            raise BadInput(f"No layer fits the target {pattern!r}; {_nearest(pattern, layers)}")
    found = {name: layer for name, layer in layers.items() if any(_fits(name, p) for p in patterns)}
    if not found:
        raise BadInput(f"No layer fits the targets {', '.join(patterns)}; {_nearest(patterns[0], layers)}")
    return found


def check_pair(name: str, layer: nn.Module | None, pair: Pair) -> None:
    """Raise `BadInput` where there is no such layer, or the pair has not its shape."""
    if layer is None:
        raise BadInput(f"The adapter has a pair for {name}, which is no layer of this network.")
    shape = (
        list(layer.weight.shape) if isinstance(layer, nn.Linear) else [layer.out_features, layer.in_features]
    )
    if [len(pair.b), pair.a.shape[-1]] != shape or pair.b.shape[-1] != len(pair.a):
        found = f"{list(pair.b.shape)} and {list(pair.a.shape)}"
        raise BadInput(f"The adapter's pair for {name} has the shapes {found}; the layer has {shape}.")


def _fits(name: str, pattern: str) -> bool:
    """Whether the pattern is that of a whole name, or of its end from a dot on."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _nearest(pattern: str, layers: Collection[str]) -> str:
    ends = sorted({name.rpartition(".")[2] for name in layers})
    near = get_close_matches(pattern.rpartition(".")[2], ends, n=3, cutoff=0.4)
    return f"did you mean {', '.join(near)}?" if near else f"the layers here are {', '.join(ends)}."


def _whole(net: nn.Module, patterns: Iterable[str], layers: Mapping[str, nn.Module]) -> list[nn.Module]:
    found: list[nn.Module] = []
    for pattern in patterns:
        parts = {name: part for name, part in net.named_modules() if name and _fits(name, pattern)}
        if not parts:
            near = get_close_matches(pattern, [name for name, _ in net.named_children()], n=3, cutoff=0.4)
            hint = f"did you mean {', '.join(near)}?" if near else "name a part of the network, such as head."
            raise BadInput(f"No part fits {pattern!r} of whole; {hint}")
        twice = next((name for name in layers for part in parts if f"{name}.".startswith(f"{part}.")), None)
        if twice is not None:
            raise BadInput(f"{twice} is in targets and in whole: a layer trains by its pair, or entirely.")
        found += parts.values()
    return found


def _fresh(layer: Matrix, config: LoraConfig) -> Pair:
    """A as a linear layer of its size starts, B zero."""
    device = next((t.device for t in (*layer.parameters(recurse=False), *layer.buffers())), None)
    a = torch.empty(config.rank, layer.in_features, device=device)
    nn.init.kaiming_uniform_(a, a=math.sqrt(5))
    return Pair(a, torch.zeros(layer.out_features, config.rank, device=device), config.scale)


def _put(layer: nn.Module, pair: LowRank) -> None:
    layer.add_module("lora", pair)
    layer.register_forward_hook(_beside)


def _take_away(layer: nn.Module) -> None:
    # found by what it is, since a handle would stay with the original when the network is copied
    for key in [key for key, hook in layer._forward_hooks.items() if hook is _beside]:
        del layer._forward_hooks[key]
    del layer.lora


def _beside(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    added: Tensor = layer.lora(inputs[0], output)  # type: ignore[operator]
    return added


def _patterns(field: str, given: str | Iterable[object]) -> tuple[str, ...]:
    each = (given,) if isinstance(given, str) else tuple(given)
    patterns = tuple(pattern for pattern in each if isinstance(pattern, str) and pattern)
    if len(patterns) < len(each):
        raise BadInput(f"{field} must be patterns of names, such as 'q' or 'layers.0.*'.")
    return patterns
