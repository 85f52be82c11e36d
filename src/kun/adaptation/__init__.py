"""A network fitted to its use from outside: weights in few bits, low-rank adapters, a compiled step for decoding."""

from kun.adaptation.fuse import fuse
from kun.adaptation.lora import LoraConfig, add_lora, lora_pairs, merge
from kun.adaptation.native import available as native_available
from kun.adaptation.native import report as native_report
from kun.adaptation.quantize import (
    QuantizedEmbedding,
    QuantizedLinear,
    load_quantized,
    quantize,
    quantized_state,
)

__all__ = [
    "LoraConfig",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "add_lora",
    "fuse",
    "load_quantized",
    "lora_pairs",
    "merge",
    "native_available",
    "native_report",
    "quantize",
    "quantized_state",
]
