"""A new network: the family's own config, with the sizes that a recipe sets."""

from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from tokenizers import Tokenizer

from kun.errors import BadInput, BadRecipe
from kun.networks.family import Family
from kun.training.resolving import find_family, model_type_of
from kun.training.tables import Model

_MULTIPLE = 64
"""Vocabularies are padded up to it, which suits the kernels of matrix products."""


def new_config(model: Model, tokenizer: Tokenizer, context: int) -> Any:
    """The config of a new network: published values, the recipe's sizes, and what follows from these.

    The width of the feed-forward part keeps its published ratio to `d_model`, and heads theirs to each other, where the
    recipe doesn't set them. There is no dropout unless it is asked for. Raises `BadRecipe`, which names the key.
    """
    assert model.family is not None
    family = find_family(model.family)
    base = published(family, model_type_of(model.family))
    known = {field.name for field in fields(base)} - {"model_type", "vocab_size"}
    for key in model.sizes:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean model.{near[0]}?" if near else f"it has {', '.join(sorted(known))}."
            raise BadRecipe(f"model.{key} is no size of {model.family}; {hint}")
    for key, value in model.sizes.items():
        usual = getattr(base, key)
        counts = isinstance(usual, int) and not isinstance(usual, bool)
        if counts and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise BadRecipe(f"model.{key} is {value!r}; it must be a whole number from 1.")
    sizes = {**_following(base, model.sizes, context), **model.sizes}
    sizes["vocab_size"] = _vocabulary(model.vocab_size, tokenizer)
    shares = {**dropouts(base, base, 0.0), **dropouts(base, base, model.dropout or 0.0)}
    sizes |= {name: share for name, share in shares.items() if name not in model.sizes}
    sizes |= _special(known, tokenizer)
    if "max_positions" not in model.sizes and hasattr(base, "first_position"):
        # the table of positions has rows before the first, as many as the id of padding says
        sizes["max_positions"] += replace(base, pad_id=sizes["pad_id"]).first_position
    try:
        return type(base).from_hf(replace(base, **sizes).to_hf())
    except (BadInput, TypeError, ValueError, AttributeError) as error:
        raise BadRecipe(f"These sizes of {model.family} do not fit together: {error}") from error


def published(family: Family, model_type: str) -> Any:
    """The first published config of a model_type."""
    return next(config for config in family.presets.values() if config.model_type == model_type)


def dropouts(config: Any, published: Any, share: float) -> dict[str, float]:
    """What `model.dropout` makes of the dropouts of a config.

    They become `share` where the network has some, else where the published one has some (the Transformer has none on
    its attention's weights), else everywhere; how often whole layers are left out has a key of its own. Zero ends them
    all. Raises `BadRecipe` for a family without dropout.
    """
    # what follows another (None) goes on to
    every = [
        field.name
        for field in fields(config)
        if field.name.endswith("dropout") and getattr(config, field.name) is not None
    ]
    if not share:
        return dict.fromkeys(every, 0.0)
    if not every:
        raise BadRecipe(f"model.dropout = {share}, but {config.model_type} has no dropout: leave it out.")
    within = [name for name in every if not name.endswith("layer_dropout")]
    for usual in (config, published):
        if places := [name for name in within if getattr(usual, name)]:
            return dict.fromkeys(places, share)
    return dict.fromkeys(within, share)


def _following(base: Any, given: dict[str, Any], context: int) -> dict[str, Any]:
    """Sizes that follow from the ones that a recipe sets."""
    known = {field.name for field in fields(base)}
    sizes: dict[str, Any] = {}
    d_model = given.get("d_model", base.d_model)
    n_heads = given.get("n_heads", getattr(base, "n_heads", 1))
    for name in ("d_ff", "d_decoder_ff"):
        if name in known:
            sizes[name] = _rounded(getattr(base, name) * d_model / base.d_model)
    if "d_head" in known and base.d_head is not None:
        sizes["d_head"] = max(1, d_model // n_heads)
    if "n_kv_heads" in known:
        sizes["n_kv_heads"] = n_heads
    for name, twin in (("n_decoder_layers", "n_layers"), ("n_decoder_heads", "n_heads")):
        if name in known and twin in given:
            sizes[name] = given[twin]
    n_layers = given.get("n_layers", base.n_layers)
    for name in ("n_sparse_layers", "n_sparse_decoder_layers"):
        if name in known:
            sizes[name] = max(1, round(getattr(base, name) * n_layers / base.n_layers))
    for name in ("sparse_step", "decoder_sparse_step"):
        if name in known:
            sizes[name] = min(getattr(base, name), n_layers)
    if "max_positions" in known:
        sizes["max_positions"] = context
    if "context_length" in known:
        sizes["context_length"] = context
    if "windows" in known:
        sizes |= {"window": None, "windows": ()}
    return sizes


def _rounded(width: float) -> int:
    return max(8, round(width / 8) * 8)


def _vocabulary(wanted: int | None, tokenizer: Tokenizer) -> int:
    has = tokenizer.get_vocab_size()
    if wanted is None:
        return -(-has // _MULTIPLE) * _MULTIPLE
    if wanted < has:
        raise BadRecipe(f"model.vocab_size = {wanted} is less than the {has} tokens that the tokenizer has.")
    return wanted


def _special(known: set[str], tokenizer: Tokenizer) -> dict[str, int]:
    """Ids that some families keep in their config."""
    pad = next((i for t in ("<pad>", "<|pad|>", "[PAD]") if (i := tokenizer.token_to_id(t)) is not None), 0)
    ids = {"pad_id": pad, "pad_token": pad, "pad_token_id": pad, "start_token": pad}
    return {name: value for name, value in ids.items() if name in known}
