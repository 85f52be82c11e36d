"""The arithmetic of llama.cpp on a CPU, done by a network of ours, so that its rounding is not taken for a difference.

Its library, ggml, rounds what flows into a matrix to the company of the matrix's weights: to float16 or bfloat16 for
weights of those, to blocks of 32 neighbours in 8 bits with a scale for weights of few bits. GELU is always the tanh
form, looked up by float16. All else is float32.
https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-cpu/ggml-cpu.c (`type_traits_cpu`), `vec.h` beside it
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_BLOCK = 32
_TABLE_ENDS = 10.0


class LikeGgml(TorchFunctionMode):
    """Within it `net`, whose weights are float32, computes as ggml does with weights of these `kinds`.

    `kinds` are element types ("F16", "Q8_0", …) by the names of the parameters.
    """

    def __init__(self, net: nn.Module, kinds: Mapping[str, str]) -> None:
        super().__init__()
        self._kinds = {id(net.get_parameter(name)): kind for name, kind in kinds.items()}

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        if function is F.linear:
            x, weight, *bias = args
            return F.linear(rounded(x, self._kinds.get(id(weight), "F32")), weight, *bias, **(kwargs or {}))
        if function is F.gelu:
            return gelu(args[0])
        return function(*args, **(kwargs or {}))


def rounded(x: Tensor, kind: str) -> Tensor:
    """float32 `x` [..., d] as it meets weights of this `kind`; d is a multiple of 32 where those have few bits."""
    match kind:
        case "F32":
            return x
        case "F16":
            return x.half().float()
        case "BF16":
            return x.bfloat16().float()
    blocks = x.unflatten(-1, (-1, _BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    steps = (blocks / torch.where(scale > 0, scale, 1.0)).round()
    return (steps * scale.half().float()).flatten(-2)


def gelu(x: Tensor) -> Tensor:
    """The tanh form by a table over float16; beyond its ends, 0 and x."""
    inside = F.gelu(x.half().float(), approximate="tanh").half().float()
    return torch.where(x.abs() < _TABLE_ENDS, inside, x.clamp_min(0.0))
