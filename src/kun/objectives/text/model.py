"""What is trained: a checkpoint's network or a new one, with the tokenizer and template that belong to it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from kun.adaptation.lora import LoraConfig, add_lora
from kun.adaptation.quantize import quantize
from kun.errors import BadRecipe, ModelNotFound
from kun.hub.checkpoint import Checkpoint
from kun.hub.opening import open_checkpoint
from kun.hub.pull import locate
from kun.networks.family import Family
from kun.objectives.text.fitted import Head, continued, new
from kun.objectives.text.fresh import new_config
from kun.objectives.text.vocabulary import (
    PAD,
    judging_tokenizer,
    padding_apart,
    plain_template,
    sentinel,
    with_tokens,
)
from kun.text.chat import ChatTemplate
from kun.training.job import Job
from kun.training.memory import A_NETWORK, enough_memory
from kun.training.opening import Opener
from kun.training.tables import Data, Lora, Model

_ENDS = ("<|endoftext|>", "</s>", "<eos>", "[SEP]")
"""How tokenizers name the end of a document, the commonest first."""
_TURN_END = "<|im_end|>"
"""How ChatML's assistant ends what it says."""
_PADS = ("<pad>", PAD, "[PAD]", "<|endoftext|>")
_MASKS = ("[MASK]", "<mask>")
CONTEXT = 1024


@dataclass(frozen=True)
class HeadRequirements:
    """What an objective asks of a network next to its body: a head, a token for the mask, tokens for left-out spans.

    `tokenizer` is that of a new network where the objective has one of its own.
    What `talks` is given conversations, also where the checkpoint has no template for them. What is `still` has no
    dropout where the recipe asks for none, whatever the checkpoint's config says.
    """

    head: Head | None = None
    mask: bool = False
    sentinels: int = 0
    tokenizer: Tokenizer | None = None
    talks: bool = False
    still: bool = False


@dataclass
class TrainingModel:
    """A network to train, and what goes with it.

    `origin` is the checkpoint that it came from, None for a new one; `fresh` the parts that it had no weights for.
    """

    net: Any
    family: Family
    tokenizer: Tokenizer
    context: int
    template: ChatTemplate | None = None
    origin: Checkpoint | None = None
    generation_config: dict[str, Any] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()

    @property
    def end(self) -> int | None:
        """The token that ends a document: the checkpoint's own, else one that is usually called so."""
        return self._first(_ENDS, "eos_token")

    @property
    def begin(self) -> int | None:
        """The token that begins a document, where the tokenizer would put one there."""
        added = self.tokenizer.encode("a", add_special_tokens=True).ids
        plain = self.tokenizer.encode("a", add_special_tokens=False).ids
        return added[0] if added and added != plain and added[0] != plain[0] else None

    @property
    def pad(self) -> int:
        """The token that fills rows; what it is does not matter where nothing looks at it."""
        found = first_token(self.tokenizer, _PADS)
        return (self._first((), "pad_token") or 0) if found is None else found

    @property
    def mask(self) -> int | None:
        """The token for a masked word: the checkpoint's own, else one that is usually called so."""
        return self._first(_MASKS, "mask_token")

    @property
    def special(self) -> frozenset[int]:
        """The tokens that are no text."""
        added = self.tokenizer.get_added_tokens_decoder()
        return frozenset(index for index, token in added.items() if token.special)

    def _first(self, usual: tuple[str, ...], named: str) -> int | None:
        own = self.origin.special_tokens.get(named) if self.origin else None
        return first_token(self.tokenizer, ((own,) if own else ()) + usual)


def first_token(tokenizer: Tokenizer, texts: tuple[str, ...]) -> int | None:
    """The id of the first of `texts` that is a token."""
    ids = (tokenizer.token_to_id(text) for text in texts)
    return next((index for index in ids if index is not None), None)


def open_model(open: Opener, needs: HeadRequirements) -> TrainingModel:
    """The network that a job names, with what is needed of it, in the precision that it computes in, on the device.

    Raises `BadRecipe`, `NoMemory`, and what opening a checkpoint raises.
    """
    job = open.job
    torch.manual_seed(job.seed)
    with enough_memory(*A_NETWORK):
        made = _continued(job, needs) if job.model.source else _new(job, needs)
        if job.lora and job.lora.quantize:
            made.net = quantize(made.net, job.lora.quantize, keep=made.fresh).to(device=open.device)
        else:
            made.net = open.placed(made.net)
        if job.lora:
            if job.model.frozen:
                raise BadRecipe(
                    "model.frozen and lora are both given, but an adapter freezes all: leave one out."
                )
            add_lora(made.net, _lora_config(job.lora, made))
            return made
        _freeze(made.net, job.model.frozen)
        return made


def _freeze(net: nn.Module, frozen: list[str]) -> None:
    """Let all parameters learn but those whose names begin so. Raises `BadRecipe` for a beginning that none has."""
    names = [name for name, _ in net.named_parameters()]
    for beginning in frozen:
        if not any(_is_within(name, beginning) for name in names):
            parts = sorted({name.rpartition(".")[0] for name in names if not re.search(r"\.\d", name)})
            raise BadRecipe(
                f"model.frozen: no part is called {beginning!r}; there are {', '.join(parts)}, layers.0 …"
            )
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not any(_is_within(name, beginning) for beginning in frozen))
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise BadRecipe("model.frozen leaves nothing to learn: leave a part out of it.")


def _is_within(name: str, part: str) -> bool:
    """Whether a parameter belongs to a part of the network."""
    return name == part or name.startswith(f"{part}.")


def _lora_config(lora: Lora, model: TrainingModel) -> LoraConfig:
    """Parts whose weights are new train entirely."""
    targets = {"targets": tuple(lora.targets)} if lora.targets else {}
    return LoraConfig(lora.rank, lora.alpha, dropout=lora.dropout, whole=model.fresh, **targets)


def _continued(job: Job, needs: HeadRequirements) -> TrainingModel:
    assert job.model.source is not None
    checkpoint = open_checkpoint(locate(job.model.source))
    config = checkpoint.family_config
    limit = config.context_length
    context = job.train.context or min(limit, CONTEXT)
    if context > limit:
        raise BadRecipe(
            f"train.context = {context} is beyond the {limit} tokens that {job.model.source} reads."
        )
    mask = checkpoint.special_tokens.get("mask_token")
    template = _template(checkpoint.tokenizer, checkpoint.chat_template, needs, checkpoint.special_tokens)
    tokenizer, pad = _fitting(checkpoint.tokenizer, checkpoint.family, needs, mask, template)
    fitted = continued(
        checkpoint,
        head=needs.head,
        vocabulary=tokenizer.get_vocab_size(),
        pad=pad,
        dropout=0.0 if needs.still and job.model.dropout is None else job.model.dropout,
    )
    return TrainingModel(
        fitted.net,
        fitted.family,
        tokenizer,
        context,
        _with_padding(template, tokenizer, pad, needs),
        checkpoint,
        checkpoint.generation_config,
        fitted.fresh,
    )


def _new(job: Job, needs: HeadRequirements) -> TrainingModel:
    family = job.family
    assert family is not None
    given, own = (needs.tokenizer, None) if needs.tokenizer else tokenizer_of(job.model, job.data)
    template = _template(given, own, needs, {})
    tokenizer, pad = _fitting(given, family, needs, None, template)
    context = job.train.context or CONTEXT
    config = new_config(job.model, tokenizer, context)
    fitted = new(config, family, needs.head, pad)
    template = _with_padding(template, tokenizer, pad, needs)
    made = TrainingModel(fitted.net, fitted.family, tokenizer, context, template)
    ends = [end for end in (made.end, tokenizer.token_to_id(_TURN_END)) if end is not None]
    ids: dict[str, Any] = {
        "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None),
        "bos_token_id": made.begin,
        "pad_token_id": made.pad,
    }
    made.generation_config = {name: index for name, index in ids.items() if index is not None}
    return made


def _template(
    tokenizer: Tokenizer, own: ChatTemplate | None, needs: HeadRequirements, special: Mapping[str, str]
) -> ChatTemplate | None:
    """How conversations are written: the model's own way, else a plain one where they are needed."""
    if own is not None or not needs.talks:
        return own
    usual = (special.get("eos_token", ""), *_ENDS)
    return plain_template(next((end for end in usual if end and tokenizer.token_to_id(end) is not None), ""))


def _with_padding(
    template: ChatTemplate | None, tokenizer: Tokenizer, pad: int, needs: HeadRequirements
) -> ChatTemplate | None:
    """The template with the name of padding, which is saved with it, where a head must tell padding from the rest."""
    if template is None or not needs.talks or needs.head is None:
        return template
    named = {**template.special_tokens, "pad_token": tokenizer.id_to_token(pad) or ""}
    return ChatTemplate(template.source, named)


def _fitting(
    tokenizer: Tokenizer,
    family: Family,
    needs: HeadRequirements,
    mask: str | None,
    template: ChatTemplate | None,
) -> tuple[Tokenizer, int]:
    """The tokenizer with the tokens that are needed, and the id of padding."""
    if needs.head is not None and needs.talks and template is not None:
        return padding_apart(tokenizer, template)
    if needs.head is not None and "next_token" in family.objectives:  # it scores as GPT-1 did
        return judging_tokenizer(tokenizer)
    wanted = [sentinel(number) for number in range(needs.sentinels)]
    if needs.mask and first_token(tokenizer, (*_MASKS, *([mask] if mask else []))) is None:
        wanted.append(_MASKS[0])
    pads = _PADS if family.kind == "decoder" else _PADS[:-1]
    if first_token(tokenizer, pads) is None and family.kind != "decoder":
        wanted.append(PAD)
    made = with_tokens(tokenizer, wanted)[0] if wanted else tokenizer
    return made, first_token(made, _PADS) or 0


def tokenizer_of(model: Model, data: Data) -> tuple[Tokenizer, ChatTemplate | None]:
    """The tokenizer of a new network: "bytes", "characters" (of the training text), or a checkpoint's.

    Raises `BadRecipe` where there is no such checkpoint.
    """
    from kun.data.corpus import texts_of
    from kun.data.sources import Rows
    from kun.text.learn import byte_tokenizer, learn_tokenizer

    name = model.tokenizer or "bytes"
    if name == "bytes":
        return byte_tokenizer(), None
    if name == "characters":
        rows = Rows(data.train, data.format, data.skip_bad, data.limit)
        texts = (text for row in rows for text in texts_of(row))
        return learn_tokenizer(texts, "characters", 2**16, chat_template=None).tokenizer, None
    path = Path(name).expanduser()
    if (path / "tokenizer.json").is_file() and not (path / "config.json").is_file():
        from kun.hub.layout import read_json
        from kun.text.tokenizer import load_tokenizer

        settings = (
            read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
        )
        source = settings.get("chat_template")
        special = {
            key: value for key, value in settings.items() if key.endswith("_token") and isinstance(value, str)
        }
        return load_tokenizer(path), ChatTemplate(source, special) if isinstance(source, str) else None
    try:
        checkpoint = open_checkpoint(locate(name))
    except ModelNotFound as error:
        raise BadRecipe(
            f"model.tokenizer = {name!r} names neither a tokenizer nor a model that is here: a recipe with "
            f'stage = "tokenizer" makes one (examples/recipes/tokenizer.toml), in the checkpoint/ of its run.'
        ) from error
    return checkpoint.tokenizer, checkpoint.chat_template
