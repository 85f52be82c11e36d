"""A network fitted to its use from outside: weights in few bits, low-rank adapters, a compiled step for decoding."""

from kun.adaptation.lora import LoraConfig, add_lora

__all__ = ["LoraConfig", "add_lora"]
