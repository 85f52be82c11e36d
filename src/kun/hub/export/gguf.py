"""A network as GGUF, the format of llama.cpp: which tensor is which, in which order of rows, in which element type."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.atomic_files import Progress, silent
from kun.errors import BadInput, NoSpace, UnsupportedFormat

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "ernie4_5": "ernie4_5",
    "gpt2": "gpt2",
    "bloom": "bloom",
    "bert": "bert",
    "roberta": "bert",
    "xlm-roberta": "bert",
}
"""Our `model_type` -> llama.cpp's architecture."""

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")
ROPE_FACTORS = "rope_freqs.weight"
_BLOCK = 32

_DECODER = {
    "embed": "token_embd",
    "embed_norm": "token_embd_norm",
    "positions": "position_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "attention_norm": "attn_norm",
    "mlp_norm": "ffn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.o": "attn_output",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}
_ENCODER = _DECODER | {
    "embeddings.words": "token_embd",
    "embeddings.positions": "position_embd",
    "embeddings.types": "token_types",
    "embeddings.norm": "token_embd_norm",
    "attention_norm": "attn_output_norm",
    "mlp_norm": "layer_output_norm",
}
_FUSED = ("gpt2", "bloom")
"""Where query, key and value are one tensor, one below the other."""

_NEIGHBOURS = ("llama", "ernie4_5")
"""Where llama.cpp turns the pairs (2i, 2i + 1) of a head; elsewhere (i, i + d/2), as our networks do."""

_ALWAYS_FLOAT = ("position_embd", "token_types")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of the file: `parts` are the network's, one below the other; `kind` is its element type."""

    name: str
    parts: tuple[str, ...]
    kind: str


def check_network(net: Any) -> str:
    """The architecture's name in llama.cpp. Raises `UnsupportedFormat` for what GGUF cannot hold."""
    config = net.config
    if config.model_type not in ARCHITECTURES:
        raise UnsupportedFormat(
            f"llama.cpp does not know the architecture {config.model_type}, so GGUF cannot hold it; "
            f"{', '.join(ARCHITECTURES)} can be exported to it: export this one with --format hf."
        )
    why = _hindrance(config)
    if why is not None:
        raise UnsupportedFormat(
            f"GGUF cannot hold this {config.model_type}: {why}. Export it with --format hf."
        )
    return ARCHITECTURES[config.model_type]


def _hindrance(config: Any) -> str | None:
    """What of this configuration llama.cpp would compute otherwise, or not at all."""
    if getattr(config, "windows", ()):
        return "some of its layers see a window only, and llama.cpp lets them see everything"
    rotary = getattr(config, "rotary", None)
    if rotary is not None and rotary.scaling == "dynamic":
        return "its rotary positions scale with the length of the text"
    if rotary is not None and rotary.scaling == "yarn":
        usual = (rotary.beta_fast, rotary.beta_slow, rotary.attention_factor, rotary.truncate) == (
            32,
            1,
            None,
            True,
        )
        if not usual or rotary.mscale is not None or rotary.mscale_all_dim is not None:
            return "its YaRN scaling has other constants than the paper's"
    if config.model_type == "gpt2" and config.activation not in ("gelu_new", "gelu_pytorch_tanh"):
        return f"its activation is {config.activation}, where llama.cpp has the tanh form of GELU"
    if config.model_type in ("bert", "roberta", "xlm-roberta"):
        if config.head is not None:
            return f"llama.cpp has no place for the head {config.head}"
        if config.activation != "gelu":
            return f"its activation is {config.activation}, where llama.cpp has GELU"
    return None


def planned(net: Any, kind: str) -> list[StoredTensor]:
    """The tensors of the file, in its order. Raises `BadInput` for an element type that Kun does not write."""
    if kind not in KINDS:
        raise BadInput(f"The element type of a GGUF file is one of {', '.join(KINDS)}, not {kind!r}.")
    architecture, state = check_network(net), net.state_dict()
    stored = []
    for part, tensor in state.items():
        if part.startswith("pooler."):
            continue  # a next-sentence judgement: neither vectors nor text come from it
        name = _name(architecture, part)
        parts: tuple[str, ...] = (part,)
        if architecture in _FUSED and ".attention.q." in part:
            parts = tuple(part.replace(".q.", f".{each}.") for each in "qkv")
            name = name.replace("attn_q", "attn_qkv")
        elif architecture in _FUSED and (".attention.k." in part or ".attention.v." in part):
            continue
        stored.append(StoredTensor(name, parts, _kind(name, tensor, kind)))
    return stored


def _name(architecture: str, part: str) -> str:
    names = _ENCODER if architecture == "bert" else _DECODER
    stem, _, suffix = part.rpartition(".")
    layer = ""
    if stem.startswith("layers."):
        _, number, stem = stem.split(".", 2)
        layer = f"blk.{number}."
    return f"{layer}{names[stem]}.{suffix}"


def _kind(name: str, tensor: "Tensor", wanted: str) -> str:
    """Vectors and small tables stay float32; of four-bit files the embedding and the head have eight."""
    stem = name.split(".")[-2]
    if tensor.dim() < 2 or stem in _ALWAYS_FLOAT:
        return "F32"
    if wanted.startswith("Q") and tensor.shape[-1] % _BLOCK:
        return "F16"
    return "Q8_0" if wanted.startswith("Q4") and stem in ("token_embd", "output") else wanted


def write_gguf(
    path: Path,
    net: Any,
    kind: str,
    fields: Mapping[str, Any],
    progress: Progress = silent,
) -> None:
    """Write `net` and the metadata `fields` (text, flag, number or list by key) to `path`.

    One tensor after the other is made, so that memory holds one of them beside the network.
    Raises `UnsupportedFormat`, `BadInput` for an unknown `kind` or weights that it cannot hold, `NoSpace`.
    """
    from gguf import GGUFWriter

    architecture = check_network(net)
    tensors = planned(net, kind)
    writer = GGUFWriter(path, architecture)
    try:
        for key, value in fields.items():
            _add(writer, key, value)
        sizes = [_declare(writer, tensor, net) for tensor in tensors]
        _check_room(path, sum(sizes))
        factors = _rope_factors(net.config)
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


def _add(writer: Any, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _declare(writer: Any, tensor: StoredTensor, net: Any) -> int:
    """Announce a tensor to the writer; its bytes."""
    import numpy as np
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    parts = [net.get_parameter(part) for part in tensor.parts]
    rows = sum(part.shape[0] for part in parts) - _skipped(tensor.parts[0], net.config)
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


def _data(tensors: list[StoredTensor], net: Any) -> "Iterator[tuple[int, Any]]":
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


def _rows(tensor: StoredTensor, net: Any) -> "Tensor":
    """The numbers of a tensor in llama.cpp's order, float32."""
    import torch

    from kun.networks.rope_fields import interleaved

    parts = [net.get_parameter(part).detach().to("cpu", torch.float32) for part in tensor.parts]
    if ARCHITECTURES[net.config.model_type] in _NEIGHBOURS and tensor.parts[0].split(".")[-2] in ("q", "k"):
        parts = [interleaved(part, net.config.d_head) for part in parts]
    rows = torch.cat(parts)
    return rows[_skipped(tensor.parts[0], net.config) :]


def _skipped(part: str, config: Any) -> int:
    """Rows of a position table before that of the first token; llama.cpp counts from zero."""
    return config.first_position if part == "embeddings.positions.weight" else 0


def _rope_factors(config: Any) -> Any:
    """By how much each frequency of Llama 3's scaling is divided: float32 [d_head / 2], None for other scalings."""
    from dataclasses import replace

    from kun.blocks.rotary import RotaryConfig, frequencies

    rotary = getattr(config, "rotary", None)
    if rotary is None or rotary.scaling != "llama3":
        return None
    plain: RotaryConfig = replace(rotary, scaling="default", factor=1.0)
    factors = frequencies(plain, config.d_head) / frequencies(rotary, config.d_head)
    return factors.float().numpy()


def as_stored(net: Any, kind: str) -> None:
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
