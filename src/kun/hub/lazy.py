"""A tensor that is read when it is needed, so that a model larger than the memory can be converted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LazyTensor:
    """Shape and element type (as safetensors spells it) of what `read` gives: an array, its bytes in C order."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    dtype: str = "F32"
