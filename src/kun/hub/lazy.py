"""A tensor that is read when it is needed, so that a model larger than the memory can be converted."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class LazyTensor:
    """Shape and element type (as safetensors spells it) of what `read` gives: an array, its bytes in C order."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    dtype: str = "F32"

    @property
    def bytes(self) -> int:
        """What it takes in a file."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def lazy_tensors(
    state: "dict[str, torch.Tensor]", dtype: "torch.dtype | None" = None
) -> dict[str, LazyTensor]:
    """Tensors of torch in the form in which they are written, converted to `dtype` as each is read."""
    return {name: _lazy(tensor, dtype or tensor.dtype) for name, tensor in state.items()}


def _lazy(tensor: "torch.Tensor", dtype: "torch.dtype") -> LazyTensor:
    import torch

    names = {
        torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
        torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
        torch.uint8: "U8", torch.bool: "BOOL",
    }  # fmt: skip

    def read() -> np.ndarray:
        flat = tensor.detach().to("cpu", dtype).contiguous().reshape(-1)
        data: np.ndarray = flat.view(torch.uint8).numpy()
        return data

    return LazyTensor(tuple(tensor.shape), read, names[dtype])
