"""A network as GGUF, the format of llama.cpp: which tensor is which, in which order of rows, in which element type."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kun.atomic_files import Progress, silent
from kun.blocks.rotary import RotaryConfig
from kun.errors import BadInput, NoSpace, UnsupportedFormat
from kun.hub.gguf.names import (
    ROPE_FACTORS,
    file_names,
    layout_of,
    layouts,
    rope_factors,
    row_order,
    stem_of,
    whole,
)
from kun.networks.gguf_layout import GgufLayout, Order
from kun.networks.network import TextConfig, TextNetwork

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from torch import Tensor

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")
_BLOCK = 32
_ALWAYS_FLOAT = ("position_embd", "token_types")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of the file: `parts` are the network's, one below the other; `kind` is its element type."""

    name: str
    parts: tuple[str, ...]
    kind: str
    order: Order | None


def check_network(net: TextNetwork) -> GgufLayout:
    """How GGUF holds the network. Raises `UnsupportedFormat` for what it cannot hold."""
    model_type = net.config.model_type
    layout = layout_of(model_type)
    if layout is None:
        raise UnsupportedFormat(
            f"llama.cpp does not know the architecture {model_type}, so GGUF cannot hold it; "
            f"{', '.join(layouts())} can be exported to it: export this one with --format hf."
        )
    why = _hindrance(net.config, layout)
    if why is not None:
        raise UnsupportedFormat(f"GGUF cannot hold this {model_type}: {why}. Export it with --format hf.")
    return layout


def _hindrance(config: TextConfig, layout: GgufLayout) -> str | None:
    """What of this configuration llama.cpp would compute otherwise, or not at all."""
    if getattr(config, "windows", ()):
        return "some of its layers see a window only, and llama.cpp lets them see everything"
    rotary: RotaryConfig | None = getattr(config, "rotary", None)
    if rotary is not None and rotary.scaling == "dynamic":
        return "its rotary positions scale with the length of the text"
    if rotary is not None and rotary.scaling == "yarn":
        usual = replace(rotary, beta_fast=32.0, beta_slow=1.0, attention_factor=None, truncate=True)
        if rotary != replace(usual, mscale=None, mscale_all_dim=None):
            return "its YaRN scaling has other constants than the paper's"
    head: str | None = getattr(config, "head", None)
    if head is not None:
        return f"llama.cpp has no place for the head {head}"
    activation: str = getattr(config, "activation", "")
    if layout.activations and activation not in layout.activations:
        return f"its activation is {activation}, where llama.cpp has {layout.activation}"
    return None


def planned(net: TextNetwork, kind: str) -> list[StoredTensor]:
    """The tensors of the file, in its order. Raises `BadInput` for an element type that Kun does not write."""
    if kind not in KINDS:
        raise BadInput(f"The element type of a GGUF file is one of {', '.join(KINDS)}, not {kind!r}.")
    layout = check_network(net)
    return [
        StoredTensor(
            name, parts, _kind(name, net.get_parameter(parts[0]), kind), layout.orders.get(stem_of(name))
        )
        for name, parts in file_names(net, layout).items()
    ]


def _kind(name: str, tensor: "Tensor", wanted: str) -> str:
    """Vectors and small tables stay float32; of four-bit files the embedding and the head have eight."""
    stem = stem_of(name)
    if tensor.dim() < 2 or stem in _ALWAYS_FLOAT:
        return "F32"
    if wanted.startswith("Q") and tensor.shape[-1] % _BLOCK:
        return "F16"
    return "Q8_0" if wanted.startswith("Q4") and stem in ("token_embd", "output") else wanted


def write_gguf(
    path: Path,
    net: TextNetwork,
    kind: str,
    fields: Mapping[str, object],
    progress: Progress = silent,
) -> None:
    """Write `net` and the metadata `fields` (text, flag, number or list by key) to `path`.

    One tensor after the other is made, so that memory holds one of them next to the network.
    Raises `UnsupportedFormat`, `BadInput` for an unknown `kind` or weights that it cannot hold, `NoSpace`.
    """
    from gguf import GGUFWriter

    tensors = planned(net, kind)
    writer = GGUFWriter(path, check_network(net).architecture)
    try:
        for key, value in fields.items():
            _add(writer, key, value)
        sizes = [_declare(writer, tensor, net) for tensor in tensors]
        _check_room(path, sum(sizes))
        rotary: RotaryConfig | None = getattr(net.config, "rotary", None)
        factors = None
        if rotary is not None and rotary.scaling == "llama3":
            factors = rope_factors(rotary, whole(net.config, "d_head"))
        if factors is not None:
            writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, data in _data(tensors, net):
            writer.write_tensor_data(data)
            progress("writing", done, sum(sizes))
        if factors is not None:
            writer.write_tensor_data(factors)
    finally:
        writer.close()


def _add(writer: "GGUFWriter", key: str, value: object) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case Sequence():
            writer.add_array(key, value)


def _declare(writer: "GGUFWriter", tensor: StoredTensor, net: TextNetwork) -> int:
    """Announce a tensor to the writer; its bytes."""
    import numpy as np
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    parts = [net.get_parameter(part) for part in tensor.parts]
    rows = sum(part.shape[0] for part in parts) - _skipped(tensor, net)
    shape = (rows, *parts[0].shape[1:])
    quantization = GGMLQuantizationType[tensor.kind]
    block, size = GGML_QUANT_SIZES[quantization]
    n_bytes = int(np.prod(shape, dtype=np.int64)) // block * size
    writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), n_bytes, quantization)
    return n_bytes


def _check_room(path: Path, needed: int) -> None:
    import shutil

    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise NoSpace(f"{path.name} needs {needed} bytes, and {path.parent.parent} has {free} free.")


def _data(tensors: list[StoredTensor], net: TextNetwork) -> "Iterator[tuple[int, np.ndarray]]":
    """The stored bytes of each tensor, after how many there have been with it."""
    from kun.hub.gguf.gguf_quantize import quantize

    done = 0
    for tensor in tensors:
        rows = _rows(tensor, net)
        try:
            data = quantize(rows.reshape(rows.shape[0], -1) if rows.dim() > 1 else rows[None], tensor.kind)
        except BadInput as error:
            raise BadInput(f"{tensor.name}: {error}") from error
        done += data.nbytes
        yield done, data


def _rows(tensor: StoredTensor, net: TextNetwork) -> "Tensor":
    """The numbers of a tensor in llama.cpp's order, float32."""
    import torch

    parts = {part: net.get_parameter(part).detach().to("cpu", torch.float32) for part in tensor.parts}
    (rows,) = net.names.reference(parts).values()
    match tensor.order:
        case "transposed":
            return rows.t().contiguous() if rows.dim() == 2 else rows
        case "pairs" | "thirds" as order:
            heads = whole(net.config, "n_kv_heads" if stem_of(tensor.name) == "attn_k" else "n_heads")
            return rows[torch.from_numpy(row_order(order, rows.shape[0], heads)).argsort()]
        case _:
            return rows[_skipped(tensor, net) :]


def _skipped(tensor: StoredTensor, net: TextNetwork) -> int:
    """Rows of a position table before that of the first token; llama.cpp counts from zero."""
    return whole(net.config, "first_position") if tensor.order == "from_first" else 0


def as_stored(net: TextNetwork, kind: str) -> None:
    """Give every weight of a float32 `net` the value that a reader finds in a file of this `kind`, in place."""
    import torch

    from kun.hub.gguf.gguf_quantize import stored

    for tensor in planned(net, kind):
        for part in tensor.parts:
            weight = net.get_parameter(part)
            with torch.no_grad():
                weight.copy_(
                    stored(weight.detach().reshape(-1, weight.shape[-1]), tensor.kind).reshape(weight.shape)
                )
