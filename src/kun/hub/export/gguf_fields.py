"""What a GGUF file has on a network next to its tensors: sizes, positions, pooling, origin.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and `gguf-py/gguf/constants.py` of llama.cpp.
"""

import json
from operator import attrgetter

from kun.blocks.rotary import RotaryConfig
from kun.errors import UnsupportedFormat
from kun.hub.checkpoint import Checkpoint
from kun.hub.export.gguf import check_network
from kun.hub.gguf.names import whole
from kun.networks.gguf_layout import FIELDS, GgufLayout, Size
from kun.networks.network import TextConfig, TextNetwork

LINEAGE_KEY = "kun.lineage"
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "BF16": 32}
_QUANTIZATION_VERSION = 2
_POOLING = {"mean": 1, "cls": 2}


def network_fields(
    net: TextNetwork, kind: str, checkpoint: Checkpoint, lineage: dict[str, object]
) -> dict[str, object]:
    """The metadata of a `net` that came from `checkpoint`, without its tokenizer's. Raises `UnsupportedFormat`."""
    layout = check_network(net)
    sizes = _sizes(net.config, layout)
    encodes: dict[str, object] = {}
    if checkpoint.kind == "encoder":
        sizes |= {"attention.causal": False, "pooling_type": _pooling(checkpoint)}
        encodes["tokenizer.ggml.token_type_count"] = whole(net.config, "token_types")
    return {
        "general.type": "model",
        "general.name": str(lineage.get("name") or checkpoint.path.stem),
        **({"general.license": str(lineage["licence"]).lower()} if lineage.get("licence") else {}),
        "general.file_type": _FILE_TYPES[kind],
        **({"general.quantization_version": _QUANTIZATION_VERSION} if kind.startswith("Q") else {}),
        **{f"{layout.architecture}.{key}": value for key, value in sizes.items()},
        **encodes,
        LINEAGE_KEY: json.dumps(lineage, ensure_ascii=False),
    }


def _sizes(config: TextConfig, layout: GgufLayout) -> dict[str, object]:
    """The keys of the architecture with their values."""
    sizes = [source for source in layout.config.values() if isinstance(source, Size)]
    real = [size.key for size in sizes if size.real]
    keys = {"vocab_size", *layout.written, *(size.key for size in sizes)}
    values = {key: attrgetter({**FIELDS, **layout.fields}[key])(config) for key in FIELDS if key in keys}
    rotary: RotaryConfig | None = getattr(config, "rotary", None)
    rounded = {key: float(value) if key in real else value for key, value in values.items()}
    return rounded | (_scaling(rotary) if rotary else {})


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


def _pooling(checkpoint: Checkpoint) -> int:
    """How the tokens' states become one vector. Raises `UnsupportedFormat` for what llama.cpp has no number for."""
    said = checkpoint.pooling
    if said not in _POOLING:
        raise UnsupportedFormat(
            f"{checkpoint.path} pools by {said}, and GGUF has {' and '.join(_POOLING)}: export it with --format hf."
        )
    return _POOLING[said]
