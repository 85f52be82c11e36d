"""The names of an encoder-decoder's tensors: each stack's parts may have names of their own in the reference."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from kun.networks.names import NameMap, Names, State


@dataclass(frozen=True)
class StackNames(NameMap):
    """A map of the parts of `encoder` and `decoder`, and of those `shared` by both, under a `prefix`.

    The head has no prefix. Tensors whose names end with one of `left_out` are not read.
    """

    shared: Names
    encoder: Names
    decoder: Names
    prefix: str = ""
    left_out: tuple[str, ...] = ()

    def ours(self, state: Mapping[str, Tensor]) -> State:
        return {self.our_name(name): x for name, x in state.items() if not name.endswith(self.left_out)}

    def reference(self, state: Mapping[str, Tensor]) -> State:
        return {self.reference_name(name): tensor for name, tensor in state.items()}

    def our_name(self, name: str) -> str:
        name = name.removeprefix(self.prefix)
        return self._part(name).ours(name)

    def reference_name(self, name: str) -> str:
        full = self._part(name).reference(name)
        return full if full.startswith("lm_head.") else self.prefix + full

    def _part(self, name: str) -> Names:
        stacks = {"encoder": self.encoder, "decoder": self.decoder}
        return stacks.get(name.split(".", 1)[0], self.shared)
