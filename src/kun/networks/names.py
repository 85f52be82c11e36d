"""Maps between our names of a network's tensors and those of the reference's files, layout included."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
"""Tensors of a network by name."""


class NameMap(ABC):
    """A two-way map of a whole state dict."""

    @abstractmethod
    def ours(self, state: Mapping[str, Tensor]) -> State:
        """The reference's names and layout to ours. Raises DamagedFile where a fused tensor cannot be taken apart."""

    @abstractmethod
    def reference(self, state: Mapping[str, Tensor]) -> State:
        """Our names and layout to the reference's."""

    def holder(self, name: str) -> str:
        """The name of the reference's tensor that holds ours."""
        return next(iter(self.reference({name: torch.empty(0)})))


class SameNames(NameMap):
    """The map of a network whose files have our own names."""

    def ours(self, state: Mapping[str, Tensor]) -> State:
        return dict(state)

    def reference(self, state: Mapping[str, Tensor]) -> State:
        return dict(state)


@dataclass(frozen=True)
class Names:
    """A two-way map of one tensor's name: `pairs` of (ours, the reference's), replaced where they are whole parts."""

    pairs: tuple[tuple[str, str], ...]

    def ours(self, name: str) -> str:
        return _replace(name, [(reference, ours) for ours, reference in self.pairs])

    def reference(self, name: str) -> str:
        return _replace(name, self.pairs)


def _replace(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    dotted = f".{name}."
    for old, new in pairs:
        if f".{old}." in dotted:
            dotted = dotted.replace(f".{old}.", f".{new}.", 1)
    return dotted[1:-1]


@dataclass(frozen=True)
class Fused:
    """Several of our tensors that the reference keeps in one: our `name` of the whole and of its `parts`.

    `split` gets the whole's name in the file and its tensor.
    """

    name: str
    parts: tuple[str, ...]
    split: Callable[[str, Tensor], Sequence[Tensor]]
    join: Callable[[Sequence[Tensor]], Tensor]


class PartNames(NameMap):
    """A map by parts of names, under a `prefix` that all tensors have but those whose names begin with one of `bare`.

    `left_out` are ends of names that are not read: buffers that follow from the config. `fused` tensors are taken
    apart, and `adapted` and `restored` change the layout of a tensor by its name of ours.
    """

    def __init__(
        self,
        names: Names,
        prefix: str = "",
        *,
        bare: tuple[str, ...] = ("lm_head.",),
        left_out: tuple[str, ...] = (),
        fused: Sequence[Fused] = (),
    ) -> None:
        self.names, self.prefix, self.bare = names, prefix, bare
        self.left_out, self.fused = left_out, fused

    def adapted(self, name: str, tensor: Tensor) -> Tensor:
        """The reference's tensor in our layout."""
        return tensor

    def restored(self, name: str, tensor: Tensor) -> Tensor:
        """Our tensor in the reference's layout."""
        return tensor

    def ours(self, state: Mapping[str, Tensor]) -> State:
        return {
            name: self.adapted(name, piece)
            for full, tensor in state.items()
            if not full.endswith(self.left_out)
            for name, piece in self._pieces(full, tensor)
        }

    def reference(self, state: Mapping[str, Tensor]) -> State:
        made: State = {}
        for name, tensor in state.items():
            fused, part = self._holder(name)
            if fused is None:
                made[self.holder(name)] = self.restored(name, tensor)
            elif part == fused.parts[0]:  # the others go with it
                parts = [name.replace(part, other, 1) for other in fused.parts]
                whole = fused.join([self.restored(each, state[each]) for each in parts])
                made[self.holder(name)] = whole
        return made

    def _pieces(self, full: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What a tensor of the file holds, by our names."""
        name = self.names.ours(full.removeprefix(self.prefix))
        fused = next((one for one in self.fused if f".{one.name}." in f".{name}"), None)
        if fused is None:
            yield name, tensor
            return
        for part, piece in zip(fused.parts, fused.split(full, tensor), strict=True):
            yield name.replace(fused.name, part, 1), piece

    def holder(self, name: str) -> str:
        fused, part = self._holder(name)
        full = self.names.reference(name if fused is None else name.replace(part, fused.name, 1))
        return full if full.startswith(self.bare) else self.prefix + full

    def _holder(self, name: str) -> tuple[Fused | None, str]:
        """The fused tensor in which the reference keeps one of ours, and which of its parts that is."""
        held = ((one, part) for one in self.fused for part in one.parts if f".{part}." in f".{name}")
        return next(held, (None, ""))
