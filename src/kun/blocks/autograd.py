"""What functions with a backward pass of their own are handed, as torch's stubs leave it out."""

from typing import Protocol

from torch import Tensor


class Saved(Protocol):
    """The context of a `torch.autograd.Function`: what its forward pass keeps for the backward pass."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...

    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...
