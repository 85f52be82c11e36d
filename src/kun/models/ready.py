"""What every ready model has, and the base of those in which one network reads text."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import nn

    from kun.hub.checkpoint import Checkpoint
    from kun.networks.family import Family
    from kun.text.chat import ChatTemplate

LONGEST_TOKEN = 64
"""Characters: no text averages more a token, so one longer than the limit times this is never tokenized."""


@runtime_checkable
class ReadyModel(Protocol):
    """What `kun.load` makes of whatever lies at a path: it has a name, and `kun.save` writes it."""

    name: str

    def save(self, folder: str | Path) -> Path:
        """Write the model as a folder that `kun.load` opens again; return the folder."""
        ...


class TextModel:
    """A network that reads text, with its tokenizer; ready for callers from several threads.

    `net` is the torch module, `config` its family's config, `checkpoint` what it was opened from (None for one
    that was made in memory). The tokenizer may be given as a function that reads it.
    """

    def __init__(
        self,
        net: "nn.Module",
        tokenizer: "Tokenizer | Callable[[], Tokenizer]",
        *,
        name: str,
        family: "Family | None" = None,
        checkpoint: "Checkpoint | None" = None,
        template: "ChatTemplate | None" = None,
    ) -> None:
        self.net, self.name, self.checkpoint = net, name, checkpoint
        if callable(tokenizer):
            self._read_tokenizer = tokenizer
        else:
            self.tokenizer = tokenizer
        self.config: Any = net.config
        self.template = template
        self._family = family

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The whole tokenizer, read when it is first asked for."""
        return self._read_tokenizer()

    @cached_property
    def family(self) -> "Family":
        """The architecture."""
        from kun.families import family_of

        if self._family is not None:
            return self._family
        return self.checkpoint.family if self.checkpoint else family_of(self.config.to_hf())

    @property
    def device(self) -> "torch.device":
        """Where the weights lie."""
        import torch

        tensor = next(self.net.parameters(), None)
        return torch.device("cpu") if tensor is None else tensor.device

    def save(self, folder: str | Path) -> Path:
        """Write the model as a folder in the Hugging Face layout, which `transformers` loads as it stands.

        Raises `BadInput` for a quantized model and for a folder that holds other things, `NoSpace`.
        """
        from kun.hub.saving import save_checkpoint

        return save_checkpoint(
            folder, self.net, tokenizer=self.tokenizer, chat_template=self.template, origin=self.checkpoint
        )
