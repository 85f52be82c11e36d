"""Pairs of an adapter between our layers and those of the reference, whose names, order and cuts may be others.

A family says in `names.reference` where each row of each of its matrices goes. Asked for matrices whose rows bear
numbers, it tells the whole map: which rows of which of our layers make up a layer of the reference (one, or three
in GPT-2's `c_attn`), in which order (LLaMA's files may have rotary pairs as neighbours), and by what they are
multiplied. The rows of B follow that map; A is the same in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kun.adaptation.lora import Pair, adaptable, matrices
from kun.adaptation.quantize import QuantizedWeight
from kun.errors import BadInput
from kun.networks.network import Network


@dataclass(frozen=True)
class Part:
    """Rows of one of our layers within a layer of theirs: our row `ours[i]` is their row `theirs[i]` / `scale[i]`."""

    layer: str
    ours: Tensor
    theirs: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Layout:
    """`modules`: for each layer of the reference (its name) the parts that make it up.

    `names` are those of all the reference's tensors, `turned` the layers whose weights it stores [inputs, outputs].
    """

    modules: dict[str, list[Part]]
    names: frozenset[str]
    turned: frozenset[str]

    @classmethod
    def of(cls, net: Network) -> "Layout":
        """The layout of a network of any family, float or quantized."""
        layers = dict(matrices(net))
        starts, count = {}, 0
        for name, layer in layers.items():
            starts[name], count = count, count + layer.out_features
        numbers = {n: torch.arange(s, s + layers[n].out_features) for n, s in starts.items()}
        # a column each; numbered from one, so that zero is nobody's
        rows = {f"{n}.weight": (ids + 1).double()[:, None] for n, ids in numbers.items()}
        ones = {name: torch.ones_like(column) for name, column in rows.items()}
        rest = _rest(net, layers)
        numbered, scales = net.names.reference(rest | rows), net.names.reference(rest | ones)
        owner = torch.repeat_interleave(
            torch.arange(len(layers)), torch.tensor([layer.out_features for layer in layers.values()])
        )
        modules, turned = {}, set()
        for full, tensor in numbered.items():
            if full.endswith(".weight") and tensor.dtype == torch.float64 and tensor.dim() == 2:
                scale = scales[full].flatten()
                ids = (tensor.flatten() / scale).round().long() - 1
                module = full.removesuffix(".weight")
                modules[module] = _parts(ids, scale, owner, list(starts.items()))
                if len(tensor) == 1 < tensor.shape[1]:
                    turned.add(module)
        return cls(modules, frozenset(numbered), frozenset(turned))

    def theirs(self, pairs: Mapping[str, Pair]) -> dict[str, Pair]:
        """Our pairs as the reference's. Where a layer of theirs joins several of ours, ranks add up.

        Pairs of joined layers that share their A need no more than its rank.
        """
        return {
            module: _joined(parts, pairs)
            for module, parts in self.modules.items()
            if any(part.layer in pairs for part in parts)
        }

    def ours(self, pairs: Mapping[str, Pair]) -> dict[str, Pair]:
        """The reference's pairs as ours. Raises `BadInput` for a layer that this network has not."""
        found: dict[str, Pair] = {}
        for name, (a, b, scale) in pairs.items():
            parts = self.modules.get(name) or self.modules.get(self._alike(name))
            if parts is None:
                raise BadInput(f"The adapter has a pair for {name}, which is no layer of this model.")
            if len(b) != sum(len(part.theirs) for part in parts):
                raise BadInput(
                    f"The adapter's pair for {name} has {len(b)} rows, more or less than the layer."
                )
            for part in parts:
                rows = torch.empty(len(part.ours), b.shape[1])
                rows[part.ours] = b[part.theirs].float() / part.scale[:, None].float()
                if bool(rows.any()) or len(parts) == 1:
                    found[part.layer] = Pair(a.float(), rows, scale)
        return found

    def _alike(self, name: str) -> str:
        """The same layer, named with or without the prefix that a head beside it brings."""
        return next((m for m in self.modules if m.endswith(f".{name}") or name.endswith(f".{m}")), "")


def _rest(net: Network, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The other tensors of a network's float state, which a map of names may look at."""
    quantized = {name: module for name, module in net.named_modules() if isinstance(module, QuantizedWeight)}
    mine = tuple(f"{name}." for name in (*layers, *quantized))
    rest = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(mine)}
    for name, layer in (quantized | dict(layers)).items():
        bias = getattr(layer, "bias", None)
        if isinstance(bias, Tensor):
            rest[f"{name}.bias"] = bias
        tied = f"{name}.weight" in net.aliases
        if name not in layers and not tied and adaptable(net, name):
            rest[f"{name}.weight"] = torch.zeros(1, 1)
        elif not adaptable(net, name):
            rest[f"{name}.weight"] = layer.weight
    return rest


def _parts(ids: Tensor, scale: Tensor, owner: Tensor, starts: list[tuple[str, int]]) -> list[Part]:
    owners = owner[ids]
    parts = []
    for which in owners.unique().tolist():
        name, start = starts[which]
        theirs = (owners == which).nonzero().flatten()
        parts.append(Part(name, ids[theirs] - start, theirs, scale[theirs]))
    return parts


def _joined(parts: list[Part], pairs: Mapping[str, Pair]) -> Pair:
    mine = [(part, pairs[part.layer]) for part in parts if part.layer in pairs]
    first = mine[0][1]
    shared = all(pair.a.shape == first.a.shape and torch.equal(pair.a, first.a) for _, pair in mine)
    rank = len(first.a) if shared else sum(len(pair.a) for _, pair in mine)
    b = torch.zeros(sum(len(part.theirs) for part in parts), rank)
    start = 0
    for part, pair in mine:
        columns = slice(start, start + len(pair.a))
        # one scale for all: what another's is more or less goes into its B
        scale = part.scale[:, None].float() * (pair.scale / first.scale)
        b[part.theirs, columns] = pair.b.cpu().float()[part.ours] * scale
        start += 0 if shared else len(pair.a)
    a = first.a if shared else torch.cat([pair.a for _, pair in mine])
    return Pair(a.cpu().float().contiguous(), b, first.scale)
