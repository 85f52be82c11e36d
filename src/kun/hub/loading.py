"""Weights into networks: as they are, or quantized and kept so that the next start is quick."""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from kun.atomic_files import checking
from kun.errors import BadInput, DamagedFile
from kun.hub.cache import keep, kept
from kun.hub.lazy import LazyTensor, lazy_tensors
from kun.hub.weights import write_file

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kun.adaptation.quantize import Weights
    from kun.networks.family import Family
    from kun.networks.network import Network

#: raise it when the form of a quantized state changes: what older versions kept is then made anew
_CACHE_VERSION = 3
_DAY = 24 * 3600
_CACHE_BYTES = 16 * 2**30
Quantization = Literal["int4", "int8"]
_DTYPES = ("float32", "bfloat16", "float16")


class Source(Protocol):
    """What a network is built from: a checkpoint, or something that answers as one."""

    @property
    def path(self) -> Path: ...

    @property
    def config(self) -> Mapping[str, object]: ...

    @property
    def identity(self) -> str: ...

    @property
    def family(self) -> "Family": ...

    @property
    def family_config(self) -> Any: ...

    def state(self) -> "dict[str, torch.Tensor]": ...


class Quantizable(Source, Protocol):
    """A source that may lie in a packed file."""

    def packed_tensors(self) -> Mapping[str, LazyTensor] | None: ...

    def digests(self) -> Mapping[Path, str]: ...


def build(
    checkpoint: Source, dtype: "torch.dtype | str | None", device: "torch.device | str | None"
) -> "nn.Module":
    """The network of a checkpoint, in evaluation mode. Raises `DamagedFile`, `BadInput`."""
    wanted = _dtype(dtype)
    place = _device(device)
    from kun.networks.missing_head import leave_out_head
    from kun.networks.network import load_state

    net = _empty(checkpoint)
    try:
        state = net.names.ours(checkpoint.state())
        leave_out_head(net, checkpoint.config, state)
        load_state(net, state)
    except DamagedFile as error:
        raise DamagedFile(f"{checkpoint.path}: {error}") from error
    # a no-op for what is there already, so that weights stay mapped from the disk
    return net.to(device=place, dtype=wanted).eval()


def build_part(checkpoint: Quantizable, use: "Callable[[nn.Module], object]") -> "nn.Module":
    """The network in float32 on the CPU with the weights of those modules alone that `use` calls.

    `use` is given the network without memory for its weights, which the others stay. Raises `DamagedFile`.
    """
    import torch

    net, used = _empty(checkpoint), list["nn.Module"]()
    hooks = [
        module.register_forward_pre_hook(lambda each, given: used.append(each)) for module in net.modules()
    ]
    use(net)
    for hook in hooks:
        hook.remove()
    weights = {id(weight) for module in used for weight in module.parameters(recurse=False)}
    wanted = {name for name, weight in net.named_parameters() if id(weight) in weights}
    with checking(checkpoint.digests()):
        packed = checkpoint.packed_tensors()
        state = checkpoint.state() if packed is None else {}
        made: dict[str, torch.Tensor] = {}
        for full in state if packed is None else packed:
            shape = state[full].shape if packed is None else packed[full].shape
            if wanted & net.names.ours({full: torch.empty(shape, device="meta")}).keys():
                tensor = state[full] if packed is None else torch.from_numpy(packed[full].read())
                made |= net.names.ours({full: tensor})
    kept = {name: tensor.float() for name, tensor in made.items() if name in wanted}
    if not wanted or kept.keys() != wanted:  # a network that looks up in its own way
        return build(checkpoint, "float32", "cpu")
    net.load_state_dict(kept, strict=False, assign=True)
    return net.eval()


def _empty(checkpoint: Source) -> "Network":
    """The network without memory for its weights, and without the values that they would start with.

    Drawing values for tensors without memory would import torch's tracer: 80 MB and a second.
    """
    import torch

    from kun.networks.meta import uninitialized

    config = checkpoint.family_config
    with torch.device("meta"), uninitialized():
        net = checkpoint.family.network(config)
    return net.eval()


def _dtype(dtype: "torch.dtype | str | None") -> "torch.dtype | None":
    import torch

    if isinstance(dtype, str):
        if dtype not in _DTYPES:
            raise BadInput(f"dtype is {dtype!r}; it is one of {', '.join(_DTYPES)}.")
        named: torch.dtype = getattr(torch, dtype)
        return named
    if dtype is not None and not dtype.is_floating_point:
        raise BadInput(f"dtype is {dtype}; weights are floating point, one of {', '.join(_DTYPES)}.")
    return dtype


def _device(device: "torch.device | str | None") -> "torch.device":
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BadInput(f"device is {str(device)!r}, which torch does not know.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise BadInput("device is 'cuda', but torch sees no CUDA here: leave it out, or use 'cpu'.")
    return chosen


def build_quantized(checkpoint: Quantizable, kind: str, device: "torch.device | str | None") -> "nn.Module":
    """The network with int4 or int8 weights, taken from KUN_HOME/cache where it was made before."""
    from kun.adaptation.quantize import quantized_state

    if kind not in ("int4", "int8"):
        raise BadInput(f"quantize is {kind!r}; it is None, 'int4' or 'int8'.")
    place = _device(device)
    key = f"{checkpoint.family.name}-{checkpoint.identity[:32]}-{kind}-v{_CACHE_VERSION}"
    for path in kept("quantized", key, ".safetensors"):
        try:
            return _from_kept(checkpoint, path).to(place).eval()
        except (DamagedFile, BadInput, KeyError, ValueError, RuntimeError):
            path.unlink(missing_ok=True)  # a cache: made anew below
    made = _quantized(checkpoint, cast(Quantization, kind))
    state = quantized_state(made)
    if target := keep("quantized", key, ".safetensors", lambda path: _write_kept(path, state)):
        _make_room(target)
        # mapped from the disk, as at the next start
        return _from_kept(checkpoint, target).to(place).eval()
    return made.to(place).eval()


def _from_kept(checkpoint: Source, path: Path) -> "nn.Module":
    """The quantized network of a kept file, without the parts that the checkpoint lacked."""
    from kun.adaptation.quantize import load_quantized
    from kun.networks.missing_head import leave_out_head

    state, net = _read_kept(path), _empty(checkpoint)
    names = {name.replace(".codes", ".weight") for name in state}
    for part in net.optional:
        if not any(name.startswith(f"{part}.") for name in names):
            setattr(net, part, None)
    leave_out_head(net, checkpoint.config, names)
    return load_quantized(net, state)


def _quantized(checkpoint: Quantizable, kind: Quantization) -> "nn.Module":
    """The network quantized anew; the floats of two matrices at most take memory, what is mapped aside."""
    from kun.adaptation.quantize import quantize

    tensors = checkpoint.packed_tensors()
    if tensors is None:
        return quantize(build(checkpoint, None, "cpu"), kind)
    with checking(checkpoint.digests()):
        net, weights = _without_matrices(checkpoint, tensors)
        return quantize(net, kind, weights=weights)


def _without_matrices(checkpoint: Source, tensors: Mapping[str, LazyTensor]) -> "tuple[Network, Weights]":
    """The network with all numbers but those of its matrices, which the readers give. Raises `DamagedFile`."""
    import torch

    from kun.adaptation.quantize import matrices
    from kun.networks.missing_head import leave_out_head
    from kun.networks.network import load_state

    net = _empty(checkpoint)
    state: dict[str, torch.Tensor] = {}
    readers: dict[str, Callable[[], torch.Tensor]] = {}

    def read(full: str, name: str) -> torch.Tensor:
        return net.names.ours({full: torch.from_numpy(tensors[full].read())})[name]

    for full, tensor in tensors.items():
        for name, empty in net.names.ours({full: torch.empty(tensor.shape, device="meta")}).items():
            state[name], readers[name] = empty, partial(read, full, name)
    leave_out_head(net, checkpoint.config, state)
    compared = {name for pair in net.aliases.items() if pair[0] in state for name in pair}
    later = {f"{name}.weight" for name, _ in matrices(net)} - compared
    try:
        load_state(net, {name: each if name in later else readers[name]() for name, each in state.items()})
    except DamagedFile as error:
        raise DamagedFile(f"{checkpoint.path}: {error}") from error
    return net, {name: read for name, read in readers.items() if name in later}


def _read_kept(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except SafetensorError as error:
        raise DamagedFile(f"{path} cannot be read.") from error
    if time.time() - path.stat().st_mtime > _DAY:  # the least recently used goes first
        os.utime(path)  # once a day: after it the digest is compared anew
    return state


def _write_kept(path: Path, state: "dict[str, torch.Tensor]") -> None:
    write_file(path, lazy_tensors(state))


def _make_room(newest: Path) -> None:
    files = sorted(newest.parent.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > _CACHE_BYTES and path != newest:
            path.unlink(missing_ok=True)
