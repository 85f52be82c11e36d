"""What is trained: a checkpoint's network or a new one, with the tokenizer and template that belong to it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from kun.adaptation.lora import LoraConfig, add_lora
from kun.errors import BadRecipe
from kun.families import Family
from kun.hub.checkpoint import Checkpoint
from kun.hub.pull import locate
from kun.text.chat import ChatTemplate
from kun.training.fresh import find_family, new_config, new_network
from kun.training.recipe import Lora, Recipe

_ENDS = ("<|endoftext|>", "</s>", "<eos>", "[SEP]")
"""How tokenizers name the end of a document, the commonest first."""
_BEGINS = ("<s>", "<bos>", "[CLS]")
_PADS = ("<pad>", "<|pad|>", "[PAD]", "<|endoftext|>")
_CONTEXT = 1024


@dataclass
class Subject:
    """A network to train, and what goes with it. `origin` is the checkpoint that it came from, None for a new one."""

    net: Any
    family: Family
    tokenizer: Tokenizer
    context: int
    template: ChatTemplate | None = None
    origin: Checkpoint | None = None
    generation_config: dict[str, Any] = field(default_factory=dict)

    @property
    def end(self) -> int | None:
        """The token that ends a document."""
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
        found = self._first(_PADS, "pad_token")
        return 0 if found is None else found

    def _first(self, usual: tuple[str, ...], named: str) -> int | None:
        special = self.origin.special_tokens if self.origin else {}
        texts = [*usual, *([special[named]] if named in special else [])]
        ids = (self.tokenizer.token_to_id(text) for text in texts)
        return next((index for index in ids if index is not None), None)


def open_subject(recipe: Recipe, device: torch.device) -> Subject:
    """The network that a recipe names, in the precision that it computes in, on `device`.

    Raises `BadRecipe`, and what opening a checkpoint raises.
    """
    dtype = torch.bfloat16 if recipe.train.precision == "bf16" else torch.float32
    torch.manual_seed(recipe.seed)
    made = _continued(recipe, dtype, device) if recipe.model.source else _new(recipe, dtype, device)
    if recipe.lora:
        add_lora(made.net, _lora_config(recipe.lora))
        return made
    for parameter in made.net.parameters():
        parameter.requires_grad_()
    return made


def _lora_config(lora: Lora) -> LoraConfig:
    targets = {"targets": tuple(lora.targets)} if lora.targets else {}
    return LoraConfig(lora.rank, lora.alpha, dropout=lora.dropout, **targets)


def _continued(recipe: Recipe, dtype: torch.dtype, device: torch.device) -> Subject:
    assert recipe.model.source is not None
    checkpoint = Checkpoint.open(locate(recipe.model.source))
    config = checkpoint.family_config
    if recipe.lora and recipe.lora.quantize:
        net: Any = checkpoint.network(device=device, quantize=recipe.lora.quantize)
    else:
        net = checkpoint.network(dtype=dtype, device=device)
    if recipe.model.dropout is not None:
        net = _with_dropout(net, checkpoint, recipe.model.dropout)
    limit = config.context_length
    context = recipe.train.context or min(limit, _CONTEXT)
    if context > limit:
        raise BadRecipe(
            f"train.context = {context} is beyond the {limit} tokens that {recipe.model.source} reads."
        )
    return Subject(
        # weights mapped from a file that may change are copied, and each is written to from now on
        _owned(net),
        checkpoint.family,
        checkpoint.tokenizer,
        context,
        checkpoint.chat_template,
        checkpoint,
        checkpoint.generation_config,
    )


def _owned(net: nn.Module) -> nn.Module:
    for parameter in net.parameters():
        parameter.data = parameter.data.clone()
    return net


def _with_dropout(net: Any, checkpoint: Checkpoint, share: float) -> nn.Module:
    """The same weights in a network that drops `share` of its states in training."""
    config = net.config
    shares = {name for name, value in vars(config).items() if isinstance(value, float)}
    changed = {name: share for name in shares if name.endswith("dropout")}
    with torch.device("meta"):
        fresh: nn.Module = checkpoint.family.network_type(replace(config, **changed))
    fresh.load_state_dict(net.state_dict(), assign=True)
    return fresh


def _new(recipe: Recipe, dtype: torch.dtype, device: torch.device) -> Subject:
    assert recipe.model.family is not None
    tokenizer, template = tokenizer_of(recipe)
    context = recipe.train.context or _CONTEXT
    config = new_config(recipe.model, tokenizer, context)
    net = new_network(config, find_family(recipe.model.family)).to(device=device, dtype=dtype)
    made = Subject(net, find_family(recipe.model.family), tokenizer, context, template)
    ids = {"eos_token_id": made.end, "bos_token_id": made.begin, "pad_token_id": made.pad}
    made.generation_config = {name: index for name, index in ids.items() if index is not None}
    return made


def tokenizer_of(recipe: Recipe) -> tuple[Tokenizer, ChatTemplate | None]:
    """The tokenizer of a new network: "bytes", "characters" (of the training text), or a checkpoint's."""
    from kun.data.sources import Rows
    from kun.text.learn import byte_tokenizer, learn_tokenizer

    name = recipe.model.tokenizer or "bytes"
    if name == "bytes":
        return byte_tokenizer(), None
    if name == "characters":
        rows = Rows(recipe.data.train, recipe.data.format, recipe.data.skip_bad)
        return learn_tokenizer(texts_of(rows), "characters", 2**16, chat_template=None).tokenizer, None
    path = Path(name).expanduser()
    if (path / "tokenizer.json").is_file() and not (path / "config.json").is_file():
        from kun.hub.layout import read_json
        from kun.text.tokenizer import load_tokenizer

        said = read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
        source = said.get("chat_template")
        special = {
            key: value for key, value in said.items() if key.endswith("_token") and isinstance(value, str)
        }
        return load_tokenizer(path), ChatTemplate(source, special) if isinstance(source, str) else None
    checkpoint = Checkpoint.open(locate(name))
    return checkpoint.tokenizer, checkpoint.chat_template


def texts_of(rows: Any) -> Any:
    """Every text of rows of any kind."""
    from kun.data.rows import fields

    for row in rows:
        yield from _strings(fields(row)[1:])


def _strings(value: Any) -> Any:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(value.get("content"))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)
