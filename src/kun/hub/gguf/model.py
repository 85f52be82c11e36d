"""A GGUF file as a Hugging Face configuration and state dict, as the records of the families lay them out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kun.errors import DamagedFile, UnsupportedFormat
from kun.families import family_of
from kun.hub.gguf.file import GgufFile
from kun.hub.gguf.names import ROPE_FACTORS, file_names, layout_of, layouts, rope_factors, row_order, stem_of
from kun.hub.lazy import LazyTensor
from kun.networks.gguf_layout import Order, Present, RopeScaling, Rows, Size, Source

_POOLINGS = {0: "mean", 1: "mean", 2: "cls"}
"""Of `pooling_type`; 0 leaves it open."""


def hf_config(file: GgufFile) -> dict[str, Any]:
    """What transformers would write as config.json. Raises `UnsupportedFormat`, `DamagedFile`."""
    layout = layout_of(file.architecture)
    if layout is None or layout.architecture != file.architecture:
        raise UnsupportedFormat(
            f"{file.path} holds the architecture {file.architecture or 'unknown'!r}; from GGUF Kun reads "
            f"{', '.join(dict.fromkeys(each.architecture for each in layouts().values()))}."
        )
    if "token_embd.weight" not in file.tensors:
        raise DamagedFile(f"{file.path} has no tensor token_embd.weight: the file is incomplete.")
    _heads(file)
    config = {
        "torch_dtype": "float32",
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "architectures": [layout.reference],
        "model_type": file.architecture,
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
    }
    for key, source in layout.config.items():
        config[key] = _value(file, source, config)
    for name in ("bos", "eos"):
        config[f"{name}_token_id"] = file.field(f"tokenizer.ggml.{name}_token_id")
    config["pad_token_id"] = file.field("tokenizer.ggml.padding_token_id")
    return config


def _value(file: GgufFile, source: Source, config: Mapping[str, Any]) -> object:
    """What a key of config.json has; `config` holds those before it."""
    match source:
        case Size():
            return _size(file, source)
        case Rows(tensor, usual):
            return file.tensors[tensor].shape[0] if tensor in file.tensors else usual
        case Present(tensor):
            return tensor in file.tensors
        case RopeScaling():
            return _rope_scaling(file, config["head_dim"], config["rope_theta"])
        case _:
            return source


def _size(file: GgufFile, size: Size) -> object:
    match size.usual:
        case None:
            value = file.need(size.key)
        case str(key):
            value = file.setting(size.key, file.need(key))
        case (whole, parts):
            value = file.setting(size.key, file.need(whole) // file.need(parts))
        case usual:
            value = file.setting(size.key, usual)
    return round_float(value) if size.real else value


def _heads(file: GgufFile, stem: str = "attn_q") -> int:
    """How many heads there are, of keys and values for "attn_k". Raises `UnsupportedFormat`."""
    heads = file.need("attention.head_count")
    heads = file.setting("attention.head_count_kv", heads) if stem == "attn_k" else heads
    if not isinstance(heads, int) or heads < 1:
        raise UnsupportedFormat(
            f"{file.path} has {heads} heads; a number of heads for each layer is not read."
        )
    return heads


def generation_config(file: GgufFile, ends: list[int]) -> dict[str, Any]:
    """generation_config.json of a GGUF file: which tokens begin, end and pad; `ends` are those that end a turn."""
    named = {
        "bos_token_id": file.field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": ends if len(ends) > 1 else (ends[0] if ends else None),
        "pad_token_id": file.field("tokenizer.ggml.padding_token_id"),
    }
    return {name: value for name, value in named.items() if value is not None}


def pooling(file: GgufFile) -> str:
    """How an encoder's states become one vector: "mean" or "cls". Raises `UnsupportedFormat` for another way."""
    said = file.setting("pooling_type", 0)
    if said not in _POOLINGS:
        raise UnsupportedFormat(
            f"{file.path} pools by llama.cpp's type {said}: Kun pools by mean (1) and cls (2)."
        )
    return _POOLINGS[said]


def _rope_scaling(file: GgufFile, d_head: int, theta: float) -> dict[str, Any] | None:
    if ROPE_FACTORS in file.tensors:
        return _llama3_scaling(file, d_head, theta)
    kind = file.setting("rope.scaling.type", "none")
    factor = file.setting("rope.scaling.factor", 1.0)
    original = file.setting("rope.scaling.original_context_length", file.setting("context_length"))
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": round_float(factor)}
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": round_float(factor),
            "original_max_position_embeddings": original,
        }
    raise UnsupportedFormat(
        f"{file.path} scales its rotary positions by {kind!r}; linear, yarn and llama3 are read."
    )


def _llama3_scaling(file: GgufFile, d_head: int, theta: float) -> dict[str, Any]:
    """Llama 3's scaling back from the factors that llama.cpp made of it (one for each frequency)."""
    from kun.blocks.rotary import RotaryConfig

    factors = file.read(ROPE_FACTORS).reshape(-1)
    factor = round_float(float(factors.max()))
    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    expected = rope_factors(RotaryConfig(theta, "llama3", factor, 8192), d_head)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
        raise UnsupportedFormat(f"{file.path} scales its rotary positions by factors that are not Llama 3's.")
    return scaling


def round_float(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05, where the file's float32 reads 9.99999974e-06."""
    return float(str(np.float32(value)))


def hf_tensors(file: GgufFile) -> dict[str, LazyTensor]:
    """The state dict of the Hugging Face layout, each tensor float32 and read when asked for.

    Raises `DamagedFile` for a tensor of an unknown name.
    """
    import torch

    from kun.networks.meta import uninitialized
    from kun.networks.network import TextNetwork

    config = hf_config(file)
    family = family_of(config)
    layout = family.gguf[file.architecture]
    with torch.device("meta"), uninitialized():
        net = family.network(family.config.from_hf(config))
    assert isinstance(net, TextNetwork)
    names = {name: net.names.holder(parts[0]) for name, parts in file_names(net, layout).items()}
    tensors = {}
    for name in file.tensors:
        if name == ROPE_FACTORS:
            continue
        if name not in names:
            raise DamagedFile(
                f"{file.path} holds the tensor {name}, which a {file.architecture} model does not have."
            )
        tensors[names[name]] = _tensor(file, name, layout.orders.get(stem_of(name)))
    return tensors


def _tensor(file: GgufFile, name: str, order: Order | None) -> LazyTensor:
    """A tensor in the reference's order. Raises `DamagedFile` where its rows cannot be shared by the heads."""
    shape = file.tensors[name].shape
    if order == "transposed" and len(shape) == 2:
        return LazyTensor(shape[::-1], lambda: np.ascontiguousarray(file.read(name).T))
    if order not in ("pairs", "thirds"):
        return LazyTensor(shape, lambda: file.read(name))
    heads = _heads(file, stem_of(name))
    if shape[0] % (heads * (2 if order == "pairs" else 3)):
        raise DamagedFile(f"{file.path} gives {name} {shape[0]} rows, which {heads} heads cannot share.")
    rows = row_order(order, shape[0], heads)
    return LazyTensor(shape, lambda: file.read(name)[rows] if len(shape) == 1 else file.read(name, rows))
