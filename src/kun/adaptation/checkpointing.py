"""Activation checkpointing: states within a layer are computed again for the backward pass, instead of kept.

Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174.
"""

from collections.abc import Callable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layers(net: nn.Module) -> int:
    """Make every layer of every stack in `net` keep only what goes into it; returns how many there are."""
    layers = layers_of(net)
    for layer in layers:
        layer.forward = partial(_again, layer.forward, layer)
    return len(layers)


def layers_of(net: nn.Module) -> list[nn.Module]:
    """The layers of every stack in `net`, and experts, which stand in a list too."""
    return [
        layer
        for stack in net.modules()
        if isinstance(stack, nn.ModuleList) and len({type(child) for child in stack}) <= 2
        for layer in stack
        if any(True for _ in layer.children())
    ]


def _again(forward: Callable[..., object], layer: nn.Module, *inputs: object, **named: object) -> object:
    if not layer.training:
        return forward(*inputs, **named)
    made: object = checkpoint(partial(forward, **named), *inputs, use_reentrant=False)
    return made
