"""The network that is optimized: a decoder, and a head that guesses what each state is worth.

One pass reads both. The reference shares the decoder where an adapter is trained: it is the decoder with the adapter
off. Else it is a frozen copy of the start.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kun.adaptation.lora import without_lora
from kun.alignment.branches import states_at
from kun.errors import DamagedFile
from kun.networks.network import LanguageNetwork
from kun.training.feed import Batch
from kun.training.log_probs import token_log_probs


class Read(NamedTuple):
    """Of the m learned tokens of a batch of trees: float32 [m] each; only the entropies have no gradient."""

    log_probs: Tensor
    values: Tensor
    entropies: Tensor


class Policy(nn.Module):
    """`decoder`, and `value`, which reads its last hidden states."""

    def __init__(self, decoder: LanguageNetwork) -> None:
        super().__init__()
        self.decoder = decoder
        one = next(decoder.parameters())
        self.value = nn.Linear(decoder.config.d_model, 1, device=one.device)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def resume_value(self, path: Path) -> None:
        """Go on with the value head of a training by rewards, where the start was one. Raises `DamagedFile`."""
        if not path.is_file():
            return
        try:
            head = load_file(path)
        except SafetensorError as error:
            raise DamagedFile(f"{path} cannot be read: delete it to begin with a new one.") from error
        wanted = {name: tensor.shape for name, tensor in self.value.state_dict().items()}
        if {name: tensor.shape for name, tensor in head.items()} != wanted:
            raise DamagedFile(f"{path} is no value head of this network: delete it to begin with a new one.")
        self.value.load_state_dict(head)

    def read(self, batch: Batch, temperature: float) -> Read:
        """What the policy says of a batch's tokens, and what it guesses each is worth before it is said."""
        states = tree_states(self.decoder, batch)
        log_probs, entropies = token_log_probs(
            self.decoder.head, states, batch["targets"], temperature=temperature
        )
        return Read(log_probs, self.value(states.float())[:, 0], entropies)


def tree_states(decoder: LanguageNetwork, batch: Batch, *, as_trained: bool = False) -> Tensor:
    """The states [m, d_model] from which the learned tokens of a batch of trees are predicted.

    With `as_trained` they have a gradient, though nothing of the decoder is trained.
    """
    embedded = decoder.embed_tokens(batch["input_ids"])
    if as_trained and not embedded.requires_grad:
        embedded = embedded.detach().requires_grad_()
    states = decoder.states(inputs_embeds=embedded, attention_mask=batch["attention_mask"])
    return states_at(states, batch["places"])


def reference_log_probs(
    trained: LanguageNetwork, copy: nn.Module | None, batch: Batch, temperature: float = 1.0
) -> Tensor:
    """log p by the reference of a batch's tokens, float32 [m]: by a `copy`, or by what is trained without its adapter.

    It is computed by the kernels of training, as if there were gradients: others round otherwise in bfloat16, and what
    is no divergence would look like one.
    """
    decoder = trained if copy is None else copy
    assert isinstance(decoder, LanguageNetwork)
    with torch.enable_grad(), without_lora(decoder) if copy is None else nullcontext():
        states = tree_states(decoder, batch, as_trained=True).detach()
    with torch.no_grad():
        return token_log_probs(decoder.head, states, batch["targets"], temperature=temperature).values
