"""Compiling a network where that pays, and saying so where it can't be done."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from kun.networks.network import TextNetwork

_WORTH = 1e14
"""Floating-point operations of a training below which compiling takes longer than it saves on a processor."""


def is_worth(wish: bool | Literal["auto"], operations: float, device: torch.device, *, even: bool) -> bool:
    """Whether a training of so many `operations` is to be compiled; the same on every start of it.

    `even`: whether its batches all have one shape, as each new one would be compiled again.
    """
    if wish != "auto":
        return wish
    return even and (device.type != "cpu" or operations >= _WORTH)


def compile_network(net: nn.Module, probe: Callable[[], None]) -> str | None:
    """Compile `net` in its place; `probe` then calls it once, forward and back.

    Returns None, or why it could not be done; then the network is as it was.
    """
    if next(net.parameters()).device.type == "cpu" and not _compiler():
        return "there is no C++ compiler here"
    if isinstance(net, TextNetwork):
        net.compile_states()
    else:
        net.compile(dynamic=False)
    try:
        probe()
    except Exception as error:  # whatever a compiler may say
        undo(net)
        return reason(error)
    return None


@contextmanager
def in_order(device: torch.device) -> Iterator[None]:
    """Within it, what is compiled for a processor adds up in the same order each time.

    Its threads would add to the gradient of a table of positions as they come, and the last bits would vary.
    """
    if device.type != "cpu":
        yield
        return
    asked = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked[0], warn_only=asked[1])
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


def undo(net: nn.Module) -> None:
    """Have the network run as it is written again."""
    net._compiled_call_impl = None
    if isinstance(net, TextNetwork):
        net.uncompile()
    torch._dynamo.reset()


def is_compilers(error: Exception) -> bool:
    """Whether an error came of compiling, not of what the network computes."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))
