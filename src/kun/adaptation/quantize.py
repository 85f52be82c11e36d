"""Networks whose matrices are held in 4 or 8 bits; activations stay float32 between them.

On the CPU the compiled kernels multiply in 8 bits: a row's activations are rounded in groups of 32, each with a
scale of its own, as Dettmers et al., "LLM.int8()", arXiv:2208.07339, do for whole rows. On a GPU torch's own kernel
multiplies few rows with 4 bits. Elsewhere, and without a compiler, the weights are unpacked to floats for each
product: slower, and the same up to that rounding.
"""

import re
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.adaptation import int4_tiles, native
from kun.adaptation.packing import GROUP, PANEL, Bits, Packed, pack, rounding_error, unpack, unpack_rows
from kun.blocks.autograd import Saved
from kun.errors import BadInput, DamagedFile

Precision = Literal["int4", "int8"]
BITS: dict[str, Bits] = {"int4": 4, "int8": 8}

RAISED_SHARE = 0.125
"""How much larger than in 4 bits alone a network's matrices may be, for those that lose most by them."""

SMALL_ERROR = 2e-5
"""What 8 bits lose of normally distributed weights: the squared error over their squares."""


class QuantizedWeight(nn.Module):
    """A matrix [outputs, inputs] in the layout of `packing`; what a linear layer and an embedding share."""

    codes: Tensor
    scales: Tensor

    def __init__(self, packed: Packed, outputs: int, inputs: int) -> None:
        super().__init__()
        self.out_features, self.in_features = outputs, inputs
        self.register_buffer("codes", packed.codes)
        self.register_buffer("scales", packed.scales)

    @property
    def packed(self) -> Packed:
        return Packed(self.codes, self.scales)

    @property
    def weight(self) -> Tensor:
        """The weights as floats, unpacked anew at each access."""
        return unpack(self.packed, self.out_features, self.in_features)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.packed.bits}"


class QuantizedLinear(QuantizedWeight):
    """y = x Wᵀ + b for x [..., inputs] of any floating dtype -> y [..., outputs] of the same."""

    bias: Tensor | None

    def __init__(self, packed: Packed, outputs: int, inputs: int, bias: Tensor | None = None) -> None:
        super().__init__(packed, outputs, inputs)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and not x.requires_grad and native.available():
            return native.linear(x, self.packed, self.out_features, self.bias)
        if x.device.type == "cuda" and not x.requires_grad and self._takes_tiles(x):
            product = int4_tiles.multiply(x, self._tiles)
            return product if self.bias is None else product + self.bias.to(x.dtype)
        product = cast(Tensor, _Product.apply(x, self.packed, self.out_features))
        return product if self.bias is None else product + self.bias.to(x.dtype)

    def _takes_tiles(self, x: Tensor) -> bool:
        few = x.numel() <= int4_tiles.MOST_ROWS * self.in_features
        return few and self.packed.bits == 4 and int4_tiles.fits(self.out_features, self.in_features)

    @cached_property
    def _tiles(self) -> int4_tiles.Tiles:
        return int4_tiles.tile(self.packed, self.out_features, self.in_features)


class _Shape(Saved, Protocol):
    outputs: int
    inputs: int


class _Product(torch.autograd.Function):
    """x Wᵀ whose gradient is that of x alone: the codes are kept for it, and the weights unpacked once more."""

    @staticmethod
    def forward(ctx: _Shape, x: Tensor, packed: Packed, outputs: int) -> Tensor:
        ctx.save_for_backward(*packed)
        ctx.outputs, ctx.inputs = outputs, x.shape[-1]
        return F.linear(x, unpack(packed, outputs, x.shape[-1], x.dtype))

    @staticmethod
    def backward(ctx: _Shape, *grads: Tensor) -> tuple[Tensor, None, None]:
        weight = unpack(Packed(*ctx.saved_tensors), ctx.outputs, ctx.inputs, grads[0].dtype)
        return grads[0] @ weight, None, None


class QuantizedEmbedding(QuantizedWeight):
    """Looks up rows: ids [...] -> float32 [..., inputs]."""

    def forward(self, ids: Tensor) -> Tensor:
        if ids.device.type == "cpu" and native.available():
            return native.rows(ids, self.packed, self.in_features)
        return unpack_rows(self.packed, ids, self.in_features)


N = TypeVar("N", bound=nn.Module)


Weights = Mapping[str, Callable[[], Tensor]]
"""Readers of tensors by their names in a network."""


def quantize(
    net: N, precision: Precision, keep: Collection[str] = (), weights: Weights = MappingProxyType({})
) -> N:
    """Replace the matrices of `net`, in place, by ones of 4 or 8 bits; returns `net`.

    Those that `weights` reads may be on the device meta: each is read while the one before it is packed, and
    dropped after its turn, so that the floats of two matrices at most take memory.

    Embeddings, and with int4 also the head, take 8 bits: they are what small models lose most by. So do, with
    int4, the matrices that lose most for their size (see `_raised`). Modules named in `keep` (or under such a name)
    stay as they are. Raises BadInput for another `precision`.
    """
    if precision not in BITS:
        raise BadInput(f"Weights can be quantized to int4 or int8, not {precision!r}.")
    with torch.no_grad():
        found = dict(matrices(net, keep))
        packed: dict[str, Packed] = {}
        errors: dict[str, float] = {}
        # the largest first, while there is little else in memory
        largest_first = sorted(found.items(), key=lambda each: -each[1].weight.numel())
        for (name, module), weight in _read_ahead(largest_first, weights):
            packed[name] = _pack(weight, BITS[precision] if _may_take_four_bits(name, module) else 8)
            if packed[name].bits == 4:
                errors[name] = rounding_error(weight, packed[name])
            del weight
        for name in _raised({name: packed[name] for name in found if name in errors}, errors):
            packed[name] = _pack(_weight(name, found[name], weights), 8)
        for name, module in found.items():
            _replace(net, name, _quantized(module, packed.pop(name)))
        _tie(net)
        for part in net.modules():
            if not isinstance(part, QuantizedWeight):
                for tensor in chain(part.parameters(recurse=False), part.buffers(recurse=False)):
                    if tensor.is_floating_point():
                        tensor.data = tensor.data.float()
    return net


def _read_ahead(
    modules: Sequence[tuple[str, nn.Linear | nn.Embedding]], weights: Weights
) -> Iterator[tuple[tuple[str, nn.Linear | nn.Embedding], Tensor]]:
    """The modules with their weights, each of which is read while the one before it is in use."""
    with ThreadPoolExecutor(1) as pool:
        coming: deque[Future[Tensor]] = deque()
        for place, module in enumerate(modules):
            coming += [
                pool.submit(_weight, *each, weights) for each in modules[place + len(coming) : place + 2]
            ]
            yield module, coming.popleft().result()


def _weight(name: str, module: nn.Linear | nn.Embedding, weights: Weights) -> Tensor:
    read = weights.get(f"{name}.weight")
    return module.weight if read is None else read()


def _may_take_four_bits(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and name != "lm_head"


def _raised(four: Mapping[str, Packed], errors: Mapping[str, float]) -> list[str]:
    """The matrices in 4 bits that are to take 8, by their rounding errors.

    Every token passes through each matrix of a layer once, so rounding off the same share of a small one costs about
    as much as of a large one, and is mended with fewer bytes. Those with the largest relative error a byte come
    first, while there is room: keys' and values' projections where queries share them, and none that 4 bits hold
    exactly. A token meets few of a layer's experts: what they do alike is one matrix here.
    """
    alike = defaultdict[str, list[str]](list)
    for name in four:
        alike[re.sub(r"\bexperts\.\d+", "experts", name)].append(name)
    room = RAISED_SHARE * sum(part.nbytes for each in four.values() for part in each)
    cost = {group: sum(four[name].codes.nbytes for name in names) for group, names in alike.items()}
    error = {group: sum(errors[name] for name in names) / len(names) for group, names in alike.items()}
    raised: list[str] = []
    for group in sorted(alike, key=lambda group: error[group] / cost[group], reverse=True):
        if error[group] > SMALL_ERROR and cost[group] <= room:
            room -= cost[group]
            raised += alike[group]
    return raised


def _pack(weight: Tensor, bits: Bits) -> Packed:
    return (
        native.pack(weight, bits)
        if weight.device.type == "cpu" and native.available()
        else pack(weight, bits)
    )


def quantized_state(net: nn.Module) -> dict[str, Tensor]:
    """All tensors of a quantized network, a tied head once, fit for safetensors."""
    heads = tuple(f"{head}." for head in _tied_heads(net))
    state = net.state_dict()
    return {name: tensor.contiguous() for name, tensor in state.items() if not name.startswith(heads)}


def load_quantized(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Put what `quantized_state` gave into `net`, a float network of the same config, on any device, meta too.

    Returns `net`, whose tensors are those of `state`, not copies. Raises DamagedFile where they do not fit.
    """
    for name, module in matrices(net):
        if f"{name}.codes" in state:
            packed = _checked(name, module, state)
            bias = state.get(f"{name}.bias")
            _replace(net, name, _quantized(module, packed, bias))
    _tie(net)
    heads = _tied_heads(net)
    expected = {name for name in net.state_dict() if not name.startswith(tuple(f"{h}." for h in heads))}
    if wrong := sorted(expected ^ state.keys()):
        raise DamagedFile(
            f"The quantized weights do not fit the network at {wrong[0]}; remove and make them anew."
        )
    tied = {
        f"{head}.{part}": state[f"{table}.{part}"]
        for head, table in heads.items()
        for part in ("codes", "scales")
    }
    try:
        net.load_state_dict({**state, **tied}, assign=True)
    except RuntimeError as error:
        raise DamagedFile(
            "The quantized weights have shapes that are not the network's; make them anew."
        ) from error
    return net


def _checked(name: str, module: nn.Linear | nn.Embedding, state: Mapping[str, Tensor]) -> Packed:
    outputs, inputs = module.weight.shape
    packed = Packed(state[f"{name}.codes"], state.get(f"{name}.scales", torch.empty(0)))
    panels, groups = -(-outputs // PANEL), -(-inputs // GROUP)
    fits = (
        packed.codes.shape in ((panels, groups, 256), (panels, groups, 512))
        and packed.codes.dtype == torch.uint8
        and packed.scales.shape == (panels, groups, 2, PANEL)
        and packed.scales.dtype == torch.float16
    )
    if not fits:
        raise DamagedFile(
            f"The quantized weights of {name} do not have its shape; remove and make them anew."
        )
    return packed


def matrices(net: nn.Module, keep: Collection[str] = ()) -> list[tuple[str, nn.Linear | nn.Embedding]]:
    """Linear layers, and the token embedding (other tables are small, and read a row at a time)."""
    found: Iterator[tuple[str, nn.Module]] = net.named_modules()
    largest = max((m.num_embeddings for m in net.modules() if isinstance(m, nn.Embedding)), default=0)
    return [
        (name, module)
        for name, module in found
        if (
            isinstance(module, nn.Linear)
            or (isinstance(module, nn.Embedding) and module.num_embeddings == largest)
        )
        and not any(f"{name}.".startswith(f"{kept}.") for kept in keep)
    ]


def _quantized(
    module: nn.Linear | nn.Embedding, packed: Packed, bias: Tensor | None = None
) -> QuantizedWeight:
    outputs, inputs = module.weight.shape
    if isinstance(module, nn.Embedding):
        return QuantizedEmbedding(packed, outputs, inputs)
    if bias is None and module.bias is not None:
        bias = module.bias.detach().float()
    return QuantizedLinear(packed, outputs, inputs, bias)


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, module)


def _tie(net: nn.Module) -> None:
    """A tied head becomes a layer that reads the embedding's own codes."""
    for alias, source in getattr(net, "aliases", {}).items():
        head, table = alias.removesuffix(".weight"), net.get_submodule(source.removesuffix(".weight"))
        if isinstance(table, QuantizedEmbedding):
            _replace(net, head, QuantizedLinear(table.packed, table.out_features, table.in_features))


def _tied_heads(net: nn.Module) -> dict[str, str]:
    """The modules that read the codes of another: name -> that one's name."""
    named = {
        alias.removesuffix(".weight"): source.removesuffix(".weight")
        for alias, source in getattr(net, "aliases", {}).items()
    }
    return {
        head: table
        for head, table in named.items()
        if isinstance(net.get_submodule(table), QuantizedEmbedding)
    }
