"""The architectures, one file each, and how to find the one that a config names.

Nothing here imports torch: a family's file is loaded when it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal

from kun.errors import BadInput, UnsupportedFormat

Kind = Literal["decoder", "encoder", "encoder-decoder"]
"""What a network is for: to write, to read, or to read one text and write another."""


@dataclass(frozen=True)
class Family:
    """One architecture: its config, its network, and the `model_type`s in `config.json` that it reads."""

    name: str
    config_type: Any
    network_type: Any
    kind: Kind
    model_types: tuple[str, ...]


DECODERS: dict[str, str] = {
    "openai-gpt": "kun.families.gpt:FAMILY",
    "gpt2": "kun.families.gpt:FAMILY",
    "gpt_neo": "kun.families.gpt:FAMILY",
    "llama": "kun.families.llama:FAMILY",
    "qwen2": "kun.families.llama:FAMILY",
    "qwen3": "kun.families.llama:FAMILY",
    "ernie4_5": "kun.families.llama:FAMILY",
    "bloom": "kun.families.bloom:FAMILY",
    "glm": "kun.families.glm:FAMILY",
    "chatglm": "kun.families.chatglm:family",
    "xlnet": "kun.families.xlnet:FAMILY",
    "lstm": "kun.families.lstm:FAMILY",
}
ENCODERS: dict[str, str] = {
    "bert": "kun.families.bert:FAMILY",
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
"""Where the `Family` for each `model_type` is found, or a function that finds it by the whole config."""


JUDGES: dict[str, str] = {
    "openai-gpt": "OpenAIGPTForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
    "gpt_neo": "GPTNeoForSequenceClassification",
    "llama": "LlamaForSequenceClassification",
    "qwen2": "Qwen2ForSequenceClassification",
    "qwen3": "Qwen3ForSequenceClassification",
    "bloom": "BloomForSequenceClassification",
    "glm": "GlmForSequenceClassification",
}
"""The decoders that may judge a text, and what `architectures` says then."""


def judges(hf_config: Mapping[str, Any]) -> bool:
    """Whether a decoder was saved with a layer that judges a text in the place of its head."""
    named = hf_config.get("architectures")
    wanted = JUDGES.get(str(hf_config.get("model_type")))
    return isinstance(named, list) and bool(named) and named[0] == wanted


def kind_of(hf_config: Mapping[str, Any]) -> Kind:
    """The kind of the model with this `config.json`, as far as that tells; imports no torch."""
    model_type = hf_config.get("model_type")
    return (
        "encoder"
        if model_type in ENCODERS or judges(hf_config)
        else "encoder-decoder"
        if model_type in ENCODER_DECODERS
        else "decoder"
    )


def family_of(hf_config: Mapping[str, Any]) -> Family:
    """The family that reads this `config.json`; UnsupportedFormat where none does."""
    model_type = hf_config.get("model_type")
    if not isinstance(model_type, str):
        raise BadInput("config.json has no model_type, so its architecture is unknown; add one.")
    if model_type not in FAMILIES:
        near = get_close_matches(model_type, FAMILIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(FAMILIES))}."
        raise UnsupportedFormat(f"Kun does not read the architecture {model_type[:80]!r}; {hint}")
    module, name = FAMILIES[model_type].split(":")
    found: Any = getattr(import_module(module), name)
    # a model_type that two architectures share is told apart by the other fields
    family: Family = found if isinstance(found, Family) else found(hf_config)
    if judges(hf_config):
        judging: Family = import_module("kun.families.classifier").judging(family)
        return judging
    return family


def load_state(net: Any, state: Mapping[str, Any]) -> None:
    """Put tensors named as in `net.state_dict()` into `net`; see `kun.networks.network.load_state`."""
    from kun.networks.network import load_state as load

    load(net, state)
