"""The one way text comes out: sampling, a paged cache of keys and values, an engine that batches all callers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kun.generation.options import SamplingOptions
from kun.generation.results import Completion, Generation, Piece, TokenLogprob

if TYPE_CHECKING:
    from kun.generation.model import LanguageModel

__all__ = ["Completion", "Generation", "LanguageModel", "Piece", "SamplingOptions", "TokenLogprob"]


def __getattr__(name: str) -> Any:
    if name == "LanguageModel":  # it needs torch, which takes a second to import
        return import_module("kun.generation.model").LanguageModel
    raise AttributeError(f"module 'kun.generation' has no attribute {name!r}")
