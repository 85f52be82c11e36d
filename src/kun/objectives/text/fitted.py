"""A network fitted to what it is to learn: with another head, more tokens, other dropout than its checkpoint has."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kun.errors import BadRecipe
from kun.families import records
from kun.families.bert.config import POOLINGS
from kun.hub.checkpoint import Checkpoint
from kun.networks.classifier import HEAD, Classifier, ClassifierConfig, reference_class, scoring
from kun.networks.family import Family
from kun.networks.network import load_state
from kun.objectives.text.fresh import dropouts, published
from kun.training.resolving import find_family


@dataclass(frozen=True)
class Head:
    """What an objective needs on a network: the head's name as in BERT's config, and for labels what they are.

    `pooling` is how an encoder's head makes one vector of a text; None: as the encoder was trained.
    """

    name: str
    labels: tuple[str, ...] = ()
    problem: str | None = None
    pooling: str | None = None


@dataclass(frozen=True)
class Fitted:
    """`fresh` are the parts whose weights were drawn, not read."""

    net: nn.Module
    family: Family
    fresh: tuple[str, ...] = ()


def with_head(config: Any, head: Head) -> Any:
    """An encoder's config with this head. Raises `BadRecipe` where the family has none such."""
    if head.name not in config.heads:
        raise BadRecipe(
            f"{config.stem} has no head for {head.name}; it has those for {', '.join(config.heads)}."
        )
    if head.name != HEAD:
        return replace(config, head=head.name)
    labels = {"labels": head.labels, "problem": head.problem, "pooling": head.pooling}
    return replace(config, head=head.name, **labels)


def as_trained(head: Head, checkpoint: Checkpoint) -> Head:
    """`head` with the pooling of an encoder's checkpoint, where no other is asked for.

    A classifier goes on as it is, a sentence encoder's texts are pooled as they were for its vectors, since that one
    state is what its training shaped; all others read the first token, as BERT's paper does.
    """
    if head.pooling is not None:
        return head
    if checkpoint.head == head.name:
        return replace(head, pooling=checkpoint.family_config.pooling)
    trained = checkpoint.is_sentence_encoder and checkpoint.pooling in POOLINGS
    return replace(head, pooling=checkpoint.pooling if trained else None)


def new(config: Any, family: Family, head: Head | None, pad: int) -> Fitted:
    """A new network of a family. The state of torch's generator decides its weights."""
    if head is None:
        return Fitted(family.network(config), family)
    if family.kind == "encoder":
        return Fitted(family.network(with_head(config, head)), family)
    return Fitted(_classifier(family.network(config), family, head, pad), scoring(family))


def continued(
    checkpoint: Checkpoint, *, head: Head | None, vocabulary: int, pad: int, dropout: float | None
) -> Fitted:
    """A checkpoint's network with its weights, `head` instead of its own, and at least `vocabulary` tokens.

    Parts that the checkpoint lacks are drawn by torch's generator. Raises `DamagedFile`, `BadRecipe`.
    """
    config, family = checkpoint.family_config, checkpoint.family
    judge = isinstance(config, ClassifierConfig)
    decoder = config.decoder if judge else config
    if dropout is not None:
        usual = published(find_family(decoder.model_type), decoder.model_type)
        decoder = replace(decoder, **dropouts(decoder, usual, dropout))
    grows = vocabulary > decoder.vocab_size
    if grows:
        decoder = replace(decoder, vocab_size=vocabulary)
    if head is None and not judge:
        with torch.device("cpu" if grows else "meta"):  # where nothing is drawn
            net = family.network(decoder)
        return _loaded(net, family, checkpoint)
    if judge:
        labels = config.labels if head is None else head.labels
        config = replace(config, decoder=decoder, labels=labels, pad_id=pad)
        return _loaded(family.network(config), family, checkpoint)
    assert head is not None
    if family.kind == "encoder":
        return _loaded(family.network(with_head(decoder, as_trained(head, checkpoint))), family, checkpoint)
    whole = _loaded(family.network(decoder), family, checkpoint)
    return Fitted(_classifier(whole.net, family, head, pad), scoring(family), ("score",))


def _classifier(net: Any, family: Family, head: Head, pad: int) -> Classifier:
    config = net.config
    if head.pooling is not None:
        raise BadRecipe(
            f"objective.pooling = {head.pooling!r} is for encoders: {config.model_type} reads the last token's state. "
            "Leave it out."
        )
    if HEAD not in family.heads or config.model_type not in family.heads[HEAD]:
        known = [
            kind for record in records() for kind in record.heads.get(HEAD, {}) if record.kind == "decoder"
        ]
        raise BadRecipe(
            f"{config.model_type} has no form that scores texts; those of {', '.join(known)} have one."
        )
    reference = reference_class(family, config.model_type)
    return Classifier(ClassifierConfig(config, head.labels, head.problem, pad, reference), net)


def _loaded(net: Any, family: Family, checkpoint: Checkpoint) -> Fitted:
    """The checkpoint's weights in a network that was drawn; what it lacks of the head stays as it was drawn."""
    drawn = net.state_dict()
    read = net.names.ours(checkpoint.state())
    state, fresh = {}, set()
    for name, tensor in drawn.items():
        found = read.get(name)
        if found is not None and found.shape == tensor.shape:
            state[name] = found.clone()  # the file may change while the network learns
        elif found is not None and _is_longer(tensor, found, net.config.vocab_size):
            state[name] = torch.cat((found, tensor[len(found) :].to(found.dtype)))
        elif name.startswith(_ADDED):
            state[name] = tensor.to(next(iter(read.values())).dtype)
            fresh.add(_part(name))
    surplus = {
        name: tensor for name, tensor in read.items() if name not in drawn and not name.startswith(_ADDED)
    }
    load_state(net, state | surplus)
    return Fitted(net, family, tuple(sorted(fresh)))


_ADDED = ("head.", "pooler.", "score.")
"""Parts that a checkpoint need not have, for they are of a head or serve one."""


def _part(name: str) -> str:
    return ".".join(name.split(".")[:2]) if name.startswith("head.") else name.split(".", maxsplit=1)[0]


def _is_longer(drawn: Tensor, read: Tensor, vocabulary: int) -> bool:
    """Whether a table of tokens has more rows than it was read with."""
    return len(drawn) == vocabulary > len(read) and drawn.shape[1:] == read.shape[1:]
