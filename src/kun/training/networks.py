"""The networks of a training task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import nn

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Networks(Generic[Net]):
    """The network that is `trained` (of several a module that holds them), and the `frozen` ones that help it."""

    trained: Net
    frozen: Mapping[str, nn.Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for net in self.frozen.values():
            net.eval().requires_grad_(False)
