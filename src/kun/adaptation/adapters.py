"""Several adapters beside one network, chosen per row: Chen et al., "Punica", arXiv:2310.18547.

The rows of a step share the base's products; the tokens of each adapter then go through its pairs together. A
step without adapters costs what it costs without this, and a row's states are the same whatever others want.
"""

import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kun.adaptation.float_step import FloatStep
from kun.adaptation.fuse import FusedLlama
from kun.adaptation.lora import Pair, check_pair, matrices
from kun.blocks.cache import CacheStep
from kun.errors import BadInput
from kun.networks.network import DecoderOutput

Low = tuple[Tensor, Tensor]
"""A [rank, inputs] and B [outputs, rank], which has the scale in it."""


class Group(NamedTuple):
    """The tokens of one pass (places among all, None for all of them) that have the pairs `low` beside each layer."""

    low: Mapping[str, Low]
    places: Tensor | None


class Adapted(nn.Module):
    """A network of any family, or a fused one, as `net`, with adapters by name; a step's `adapters` choose.

    Adding may happen in any thread, while another runs steps.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._layers = dict(matrices(_inner(net)))
        # what the states will be in, most likely: then no step converts the pairs
        self._dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
        self._adapters: dict[str, dict[str, Low]] = {}
        self._hooked: set[str] = set()
        # of the pass that runs in this thread
        self._choice: ContextVar[_Choice | None] = ContextVar("choice", default=None)

    def __contains__(self, name: str) -> bool:
        return name in self._adapters

    def add(self, name: str, pairs: Mapping[str, Pair]) -> None:
        """Keep the pairs, by the names of the layers, under a name. Raises `BadInput` where they do not fit."""
        for layer, pair in pairs.items():
            check_pair(layer, self._layers.get(layer), pair)
        low = {layer: self._low(layer, pair) for layer, pair in pairs.items()}
        for layer in low.keys() - self._hooked:
            # a network may outlive those that run it, and must not keep them
            handle = self._layers[layer].register_forward_hook(partial(_hook, weakref.ref(self), layer))
            weakref.finalize(self, handle.remove)
            self._hooked.add(layer)
        if isinstance(self.net, FusedLlama):
            self.net.add_adapter(name, low)
        self._adapters[name] = low

    def _low(self, layer: str, pair: Pair) -> Low:
        device = next((t.device for t in self._layers[layer].state_dict().values()), torch.device("cpu"))
        a, b = pair.a.detach().float(), pair.b.detach().float() * pair.scale
        return a.to(device, self._dtype).contiguous(), b.to(device, self._dtype).contiguous()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        cache: CacheStep | None = None,
        logits_at: Tensor | None = None,
        **named: Tensor | None,
    ) -> DecoderOutput:
        """As the network's; the rows of a step over a `cache` have the adapters that it names beside them."""
        if cache is None or not any(cache.adapters or ()):
            return self.net(input_ids, attention_mask, cache=cache, logits_at=logits_at, **named)
        chosen = _Choice(self._adapters, cache, logits_at)
        order = logits_at
        if logits_at is not None and len(logits_at) == cache.total and not isinstance(self.net, FusedLlama):
            logits_at = None  # all are run, so that there is one number of tokens in all layers
        token = self._choice.set(chosen)
        try:
            out = self.net(input_ids, cache=cache, logits_at=logits_at, **named)
        finally:
            self._choice.reset(token)
        return out if logits_at is order else out._replace(logits=out.logits[:, order])

    def beside(self, name: str, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The layer's output with the share of each group's pair."""
        choice = self._choice.get()
        if choice is None:
            return output
        x, y = inputs[0].flatten(0, -2), output.flatten(0, -2)
        for low, places in choice.groups(len(x)):
            if name not in low:
                continue
            a, b = (each.to(x.dtype) for each in low[name])
            if places is None:
                y = y + F.linear(F.linear(x, a), b)
            else:
                y = y.index_add(0, places, F.linear(F.linear(x[places], a), b))
        return y.view_as(output)


def _hook(
    runs: weakref.ref[Adapted], name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    """What stands beside a layer, by its name, is added as long as there is who runs it."""
    adapted = runs()
    return output if adapted is None else adapted.beside(name, inputs, output)


class _Choice:
    """Whose the tokens are that a layer runs: all of a step, or in the last layers those of `wanted` logits alone."""

    def __init__(
        self, adapters: Mapping[str, Mapping[str, Low]], step: CacheStep, wanted: Tensor | None
    ) -> None:
        names = step.adapters or ()
        unknown = next((name for name in names if name is not None and name not in adapters), None)
        if unknown is not None:
            raise BadInput(f"A row wants the adapter {unknown!r}, which is not beside this network.")
        self._adapters, self._step, self._wanted = adapters, step, wanted
        self._groups: dict[int, list[Group]] = {}

    def groups(self, count: int) -> list[Group]:
        """The groups among so many tokens."""
        if count not in self._groups:
            self._groups[count] = self._grouped(count)
        return self._groups[count]

    def _grouped(self, count: int) -> list[Group]:
        step, rows = self._step, self._step.adapters or ()
        names = list(dict.fromkeys(name for name in rows if name is not None))
        numbers = torch.tensor([-1 if name is None else names.index(name) for name in rows])
        of_token = numbers.repeat_interleave(torch.tensor(step.counts)).to(step.slots.device)
        if count != step.total:
            assert self._wanted is not None
            assert count == len(self._wanted)
            of_token = of_token[self._wanted]
        groups = []
        for number, name in enumerate(names):
            mine = of_token == number
            if bool(mine.any()):
                places = None if bool(mine.all()) else mine.nonzero().flatten()
                groups.append(Group(self._adapters[name], places))
        return groups


def _inner(net: nn.Module) -> nn.Module:
    return net.net if isinstance(net, FusedLlama | FloatStep) else net
