"""A network fitted to its use from outside: weights in few bits, a compiled step for decoding."""

from kun.adaptation.fuse import fuse
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
    "QuantizedEmbedding",
    "QuantizedLinear",
    "fuse",
    "load_quantized",
    "native_available",
    "native_report",
    "quantize",
    "quantized_state",
]
