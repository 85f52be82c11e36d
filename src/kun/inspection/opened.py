"""A model opened for looking at: a float32 network, its tokenizer, and how it reads a text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from kun.errors import BadInput, UnsupportedFormat
from kun.hub.checkpoint import Checkpoint
from kun.hub.pull import locate

LONGEST = 64
"""Tokens that are shown at once: a picture of more cannot be read."""


@dataclass(frozen=True)
class Opened:
    """A network of layers that each have an `attention`; `kind` says whether a token sees what follows it."""

    name: str
    net: Any
    tokenizer: Tokenizer
    kind: Literal["decoder", "encoder"]

    @classmethod
    def open(cls, name: str | Path) -> "Opened":
        """Raises what loading raises, and `UnsupportedFormat` for a network without layers of self-attention."""
        path = locate(name)
        checkpoint = Checkpoint.open(path)
        net = checkpoint.network(dtype="float32", device="cpu")
        return cls.of(path.name, net, checkpoint.tokenizer, checkpoint.kind)

    @classmethod
    def of(cls, name: str, net: nn.Module, tokenizer: Tokenizer, kind: str) -> "Opened":
        if kind == "decoder" and isinstance(getattr(net, "layers", None), nn.ModuleList):
            return cls(name, net, tokenizer, "decoder")
        if kind == "encoder" and isinstance(getattr(net, "layers", None), nn.ModuleList):
            return cls(name, net, tokenizer, "encoder")
        raise UnsupportedFormat(
            f"{name} is no single stack of layers with self-attention, so it is not shown."
        )

    def read(self, text: str) -> tuple[Tensor, list[str]]:
        """Token ids [1, t] and how they are shown. Raises `BadInput` for an empty text, or one too long to show."""
        encoding = self.tokenizer.encode(text, add_special_tokens=self.kind == "encoder")
        if not encoding.ids:
            raise BadInput("The text is empty: write a sentence.")
        if len(encoding.ids) > LONGEST:
            raise BadInput(f"The text has {len(encoding.ids)} tokens; {LONGEST} can be shown: shorten it.")
        shown = [
            text[start:end] if end > start else token
            for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True)
        ]
        return torch.tensor([encoding.ids]), [each.strip() or "␣" for each in shown]
