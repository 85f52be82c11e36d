"""The registry of architectures: the record that reads a config, loaded when it is asked for.

Nothing here imports torch before that. A package outside adds a family by an entry point of the group `kun.families`,
named as its `model_type` and leading to its record, or to a function that finds it by the whole config.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from kun.errors import BadInput, UnsupportedFormat

if TYPE_CHECKING:
    from kun.networks.family import Family, Kind

DECODERS: dict[str, str] = {
    "openai-gpt": "kun.families.gpt.gpt:FAMILY",
    "gpt2": "kun.families.gpt.gpt:FAMILY",
    "gpt_neo": "kun.families.gpt.gpt:FAMILY",
    "llama": "kun.families.llama.llama:FAMILY",
    "mistral": "kun.families.llama.llama:FAMILY",
    "qwen2": "kun.families.llama.llama:FAMILY",
    "qwen3": "kun.families.llama.llama:FAMILY",
    "ernie4_5": "kun.families.llama.llama:FAMILY",
    "bloom": "kun.families.bloom:FAMILY",
    "glm": "kun.families.glm:FAMILY",
    "chatglm": "kun.families.chatglm:family",
    "xlnet": "kun.families.xlnet.xlnet:FAMILY",
    "lstm": "kun.families.lstm:FAMILY",
}
ENCODERS: dict[str, str] = {
    "bert": "kun.families.bert.bert:FAMILY",
    "roberta": "kun.families.bert.roberta:FAMILY",
    "xlm-roberta": "kun.families.bert.roberta:FAMILY",
    "ernie": "kun.families.bert.ernie:FAMILY",
}
ENCODER_DECODERS: dict[str, str] = {
    "marian": "kun.families.transformer:FAMILY",
    "t5": "kun.families.t5:FAMILY",
    "switch_transformers": "kun.families.switch.switch:FAMILY",
    "nllb-moe": "kun.families.switch.gshard:FAMILY",
}
FAMILIES: dict[str, str] = DECODERS | ENCODERS | ENCODER_DECODERS
"""Where the record for each `model_type` is found, or a function that finds it by the whole config."""

SCORING = "ForSequenceClassification"
"""How the reference's class ends for a network that scores whole texts in the place of what its family does."""


def model_types() -> list[str]:
    """Every `model_type` that is known, those of packages outside last."""
    return [*FAMILIES, *(name for name in _outside() if name not in FAMILIES)]


def records() -> Iterator["Family"]:
    """The record of every family once; all of their files are loaded."""
    seen: dict[str, Family] = {}
    for model_type in model_types():
        family = family_of({"model_type": model_type})
        seen.setdefault(family.name, family)
    yield from seen.values()


def kind_of(hf_config: Mapping[str, object]) -> "Kind":
    """The kind of the model with this `config.json`, as far as that tells; imports no torch for our own families."""
    model_type = str(hf_config.get("model_type"))
    if model_type in ENCODERS or (model_type not in ENCODER_DECODERS and scores(hf_config)):
        return "encoder"
    if model_type in ENCODER_DECODERS:
        return "encoder-decoder"
    return family_of(hf_config).kind if model_type not in DECODERS and model_type in _outside() else "decoder"


def scores(hf_config: Mapping[str, object]) -> bool:
    """True for a network that was saved with a layer that scores whole texts."""
    named = hf_config.get("architectures")
    return isinstance(named, list) and bool(named) and str(named[0]).endswith(SCORING)


def family_of(hf_config: Mapping[str, object]) -> "Family":
    """The family that reads this `config.json`; UnsupportedFormat where none does."""
    model_type = hf_config.get("model_type")
    if not isinstance(model_type, str):
        raise BadInput("config.json has no model_type, so its architecture is unknown; add one.")
    family = _record(model_type, hf_config)
    if family.kind == "decoder" and scores(hf_config):
        from kun.networks.classifier import scoring

        return scoring(family)
    return family


def _record(model_type: str, hf_config: Mapping[str, object]) -> "Family":
    from kun.networks.family import Family

    if model_type in FAMILIES:
        module, name = FAMILIES[model_type].split(":")
        found = getattr(import_module(module), name)
    elif model_type in _outside():
        found = _outside()[model_type].load()
    else:
        known = ", ".join(sorted(model_types()))
        raise UnsupportedFormat(f"Kun does not read the architecture {model_type[:80]!r}; known are {known}.")
    # a model_type that two architectures share is told apart by the other fields
    family = found(hf_config) if callable(found) else found
    if not isinstance(family, Family):
        raise UnsupportedFormat(
            f"What is registered for {model_type!r} is no record of a family: {family!r}."
        )
    return family


@cache
def _outside() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="kun.families")}
