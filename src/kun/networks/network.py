"""What the families share around their networks: results, input checks, names and loading."""

from collections.abc import Callable, Mapping
from functools import update_wrapper
from inspect import unwrap
from types import MappingProxyType, MethodType
from typing import Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

from kun.blocks.attention import numbers_documents
from kun.errors import BadInput, DamagedFile
from kun.networks.decoding import DecodingState
from kun.networks.names import NameMap, SameNames


class DecoderOutput(NamedTuple):
    """`logits` [b, t, vocabulary], or [1, m, vocabulary] for the m tokens asked for."""

    logits: Tensor


class EncoderOutput(NamedTuple):
    """`last_hidden_state` [b, t, d_model]; `pooler_output` [b, d_model] or None where there is no pooler."""

    last_hidden_state: Tensor
    pooler_output: Tensor | None


class Seq2SeqOutput(NamedTuple):
    """`logits` of the decoder's tokens as DecoderOutput's; the encoder's states [b, s, d_model], None over a cache."""

    logits: Tensor
    encoder_last_hidden_state: Tensor | None


class NetworkConfig(Protocol):
    """What everyone may ask of a network's config."""

    @property
    def model_type(self) -> str:
        """The name of the layout in `config.json`."""

    @property
    def architecture(self) -> str:
        """The reference's class, as `architectures` names it."""

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that the reference reads back to the same network."""


class TextConfig(NetworkConfig, Protocol):
    """What everyone may ask of the config of a network of text."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def d_model(self) -> int: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def context_length(self) -> int:
        """Tokens that a sequence may have."""


class Network(nn.Module):
    """A network with its config, and the map of its tensors' names to the reference's.

    `aliases` are tensors that a file may hold and the network has no place for, as they repeat another: name -> the
    one that it repeats. `optional` parts are taken out where a file lacks them; tensors of parts that are
    `left_behind` are for another job, where this network has no place for them. `bare_tensors` are patterns of layers
    that are no layers in the reference, so that nothing can be put next to them.
    """

    config: NetworkConfig
    names: NameMap = SameNames()
    aliases: Mapping[str, str] = MappingProxyType({})
    optional: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
    bare_tensors: tuple[str, ...] = ()


class TextNetwork(Network):
    """A network that reads text: `states` gives its last hidden states, and a head makes something of them."""

    config: TextConfig
    _compiled: Callable[..., Tensor] | None = None

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """The vectors [b, t, d_model] of tokens, as `inputs_embeds` takes them."""
        raise NotImplementedError

    def states(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """The last hidden states [b, t, d_model] of padded rows [b, t]; those of a family are `compilable`."""
        raise NotImplementedError

    def compile_states(self) -> None:
        """Have `states` run compiled, which losses call, for inputs of one shape; the forward pass goes through it."""
        self._compiled = torch.compile(MethodType(unwrap(type(self).states), self), dynamic=False)

    def uncompile(self) -> None:
        """Have `states` run as it is written again."""
        self._compiled = None

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_compiled": None}  # a copy is compiled anew


N = TypeVar("N", bound=TextNetwork)
P = ParamSpec("P")


def compilable(states: Callable[Concatenate[N, P], Tensor]) -> Callable[Concatenate[N, P], Tensor]:
    """The method `states` of a network, which runs compiled from the network's `compile` on."""

    def run(self: N, /, *inputs: P.args, **named: P.kwargs) -> Tensor:
        compiled = self._compiled
        return states(self, *inputs, **named) if compiled is None else compiled(*inputs, **named)

    return update_wrapper(run, states)


class LanguageNetwork(TextNetwork):
    """A network that writes: its head scores the words of the vocabulary, and it carries a state from step to step."""

    def head(self, states: Tensor) -> Tensor:
        """Logits [..., vocabulary] of last hidden states [..., d_model]."""
        raise NotImplementedError

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> DecodingState:
        """What it carries from step to step: keys and values in `n_pages` pages of `page_size` tokens, and more."""
        raise NotImplementedError


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """BadInput where a token id lies outside the vocabulary (an index error, or garbage, further in)."""
    if ids.dtype not in (torch.int64, torch.int32):
        raise BadInput(f"Token ids must be whole numbers, not {ids.dtype}.")
    if (
        not torch.compiler.is_compiling()
        and ids.numel()
        and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size
    ):
        wrong = int(ids.max()) if int(ids.max()) >= vocab_size else int(ids.min())
        raise BadInput(f"Token id {wrong} is outside the vocabulary of {vocab_size}.")


def check_positions(positions: Tensor, limit: int | None) -> None:
    """BadInput where a position lies beyond the `limit` that the network knows, if it has one."""
    if limit is None or torch.compiler.is_compiling() or not positions.numel():
        return
    if not 0 <= int(positions.min()) <= int(positions.max()) < limit:
        raise BadInput(f"Position {int(positions.max())} is beyond the {limit} positions of this network.")


def check_mask(
    attention_mask: Tensor | None, shape: torch.Size, *, documents: bool = False, branches: bool = False
) -> Tensor | None:
    """The mask as bool [b, t], None where it hides nothing; BadInput where its shape isn't the input's.

    With `documents`, whole numbers that go beyond one come back as they are: they number the documents that
    share a row. So does, with `branches`, bool [b, t, t], which says what each token sees (for both see
    `kun.blocks.attention.same_document`).
    """
    if attention_mask is None:
        return None
    if branches and attention_mask.shape == (*shape, shape[-1]) and attention_mask.dtype == torch.bool:
        return attention_mask
    if attention_mask.shape != shape:
        raise BadInput(f"attention_mask has shape {list(attention_mask.shape)}, the input {list(shape)}.")
    numbered = documents and numbers_documents(attention_mask)
    if torch.compiler.is_compiling():  # which looks at no values
        return attention_mask if numbered else attention_mask.bool()
    if numbered and int(attention_mask.max()) > 1:
        return attention_mask
    mask = attention_mask.bool()
    return None if bool(mask.all()) else mask


def initialize(net: nn.Module, std: float = 0.02) -> None:
    """Weights from N(0, std²), biases zero, norms one, as the papers start. Nothing on the meta device."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
            nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


def load_state(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put `state`, in our names, into `net` without copying; the tensors keep their dtype and device.

    Some files also hold a tied head, which `net.aliases` (name -> the tensor it repeats) allows, and some
    lack a part that `net.optional` names, which is then taken out. Tensors of the parts that
    `net.left_behind` names are for another job where this network has no place for them. Raises DamagedFile
    where a tensor is missing, is one too many, has the wrong shape, is not floating point or isn't what it
    repeats.
    """
    for name in getattr(net, "optional", ()):
        if not any(key.startswith(f"{name}.") for key in state):
            setattr(net, name, None)
    expected, state = net.state_dict(), dict(state)
    for name, repeated in getattr(net, "aliases", {}).items():
        copy = state.pop(name, None)
        if copy is not None and repeated in state and not torch.equal(copy, state[repeated]):
            raise DamagedFile(f"The config ties {name} to {repeated}, yet the weights differ.")
    others = tuple(f"{part}." for part in getattr(net, "left_behind", ()))
    state = {
        name: tensor for name, tensor in state.items() if name in expected or not name.startswith(others)
    }
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing:
        raise DamagedFile(f"The weights lack {_listing(missing)}; fetch the model again.")
    if surplus:
        raise DamagedFile(f"The weights hold {_listing(surplus)}, which this architecture has no place for.")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            found, wanted = list(tensor.shape), list(expected[name].shape)
            raise DamagedFile(f"The tensor {name} has shape {found}; the config asks for {wanted}.")
        if not tensor.is_floating_point():
            raise DamagedFile(f"The tensor {name} holds {tensor.dtype}; weights must be floating point.")
    net.load_state_dict(state, assign=True)


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tensors"
