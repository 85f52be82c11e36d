"""A tensor that is read when it is needed, so that a model larger than the memory can be converted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LazyTensor:
    """Shape and element type (as safetensors spells it) of what `read` gives: an array, its bytes in C order."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    dtype: str = "F32"


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
