"""What a GGUF file says of a network beside its tensors: sizes, positions, pooling, origin.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and `gguf-py/gguf/constants.py` of llama.cpp.
"""

import json
from typing import Any

from kun.blocks.rotary import RotaryConfig
from kun.errors import UnsupportedFormat
from kun.hub.checkpoint import Checkpoint
from kun.hub.export.gguf import check_network

LINEAGE_KEY = "kun.lineage"
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "BF16": 32}
_QUANTIZATION_VERSION = 2
_POOLING = {"mean": 1, "cls": 2}


def network_fields(
    net: Any, kind: str, checkpoint: Checkpoint, lineage: dict[str, object]
) -> dict[str, object]:
    """The metadata of a `net` that came from `checkpoint`, without its tokenizer's. Raises `UnsupportedFormat`."""
    architecture = check_network(net)
    sizes = {
        "decoder": _decoder_sizes,
        "encoder": _encoder_sizes,
    }[checkpoint.kind](net.config, checkpoint)
    return {
        "general.type": "model",
        "general.name": str(lineage.get("name") or checkpoint.path.stem),
        **({"general.license": str(lineage["licence"]).lower()} if lineage.get("licence") else {}),
        "general.file_type": _FILE_TYPES[kind],
        **({"general.quantization_version": _QUANTIZATION_VERSION} if kind.startswith("Q") else {}),
        **{f"{architecture}.{key}": value for key, value in sizes.items()},
        **(
            {"tokenizer.ggml.token_type_count": net.config.token_types}
            if checkpoint.kind == "encoder"
            else {}
        ),
        LINEAGE_KEY: json.dumps(lineage, ensure_ascii=False),
    }


def _decoder_sizes(config: Any, checkpoint: Checkpoint) -> dict[str, object]:
    del checkpoint
    sizes: dict[str, object] = {
        "vocab_size": config.vocab_size,
        "context_length": getattr(config, "max_positions", config.context_length),
        "embedding_length": config.d_model,
        "block_count": config.n_layers,
        "feed_forward_length": config.d_ff,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.n_kv_heads,
    }
    if getattr(config, "rotary", None) is None:
        return sizes | {"attention.layer_norm_epsilon": config.norm_eps}
    return sizes | {
        "attention.key_length": config.d_head,
        "attention.value_length": config.d_head,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.dimension_count": config.d_head,
        "rope.freq_base": float(config.rotary.theta),
        **_scaling(config.rotary),
    }


def _scaling(rotary: RotaryConfig) -> dict[str, object]:
    """Llama 3's scaling is not among them: it is a tensor of factors."""
    match rotary.scaling:
        case "linear":
            return {"rope.scaling.type": "linear", "rope.scaling.factor": float(rotary.factor)}
        case "yarn":
            return {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": float(rotary.factor),
                "rope.scaling.original_context_length": rotary.original,
            }
        case _:
            return {}


def _encoder_sizes(config: Any, checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "embedding_length": config.d_model,
        "block_count": config.n_layers,
        "feed_forward_length": config.d_ff,
        "attention.head_count": config.n_heads,
        "attention.layer_norm_epsilon": config.norm_eps,
        "attention.causal": False,
        "pooling_type": _pooling(checkpoint),
    }


def _pooling(checkpoint: Checkpoint) -> int:
    """How the tokens' states become one vector. Raises `UnsupportedFormat` for what llama.cpp has no number for."""
    said = checkpoint.pooling
    if said not in _POOLING:
        raise UnsupportedFormat(
            f"{checkpoint.path} pools by {said}, and GGUF has {' and '.join(_POOLING)}: export it with --format hf."
        )
    return _POOLING[said]
