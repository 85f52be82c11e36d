"""The pairs in a network, written as an adapter in PEFT's layout."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.atomic_files import new_folder
from kun.errors import BadInput
from kun.hub.adapter import PREFIX, AdapterCheckpoint
from kun.hub.checkpoint import Checkpoint
from kun.hub.layout import ADAPTER_CONFIG as CONFIG
from kun.hub.layout import ADAPTER_WEIGHTS as WEIGHTS
from kun.hub.layout import (
    is_adapter,
    reference_class,
    write_adapter_card,
    write_json,
    write_lineage,
    write_tokenizer,
)
from kun.hub.lazy import lazy_tensors
from kun.hub.store import display_name
from kun.hub.weights import write_file
from kun.text.chat import ChatTemplate

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from kun.adaptation.lora import Pair
    from kun.adaptation.lora_layout import Layout

_TASKS = {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM", "encoder": "FEATURE_EXTRACTION"}
_HEADS = {
    "SequenceClassification": "SEQ_CLS",
    "TokenClassification": "TOKEN_CLS",
    "QuestionAnswering": "QUESTION_ANS",
}


def save_adapter(
    folder: str | Path,
    net: Any,
    *,
    origin: Checkpoint,
    tokenizer: "Tokenizer | None" = None,
    chat_template: ChatTemplate | str | None = None,
    lineage: Mapping[str, object] | None = None,
) -> Path:
    """Write the pairs in `net`, and the parts that trained with them, so that `peft` loads them; returns the folder.

    `origin` is the checkpoint that `net` came from. Tokenizer and template are its, where they are not given. Where it
    is an adapter itself, what is written is one adapter of its base: the pairs of both, one below the other.
    Raises `BadInput` for a network without pairs, and for a folder that holds something other than an adapter.
    """
    from kun.adaptation.lora import lora_pairs, stacked
    from kun.adaptation.lora_layout import Layout

    folder = Path(folder).absolute()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not is_adapter(folder)):
        raise BadInput(f"{folder} holds other things: name a new or empty folder for the adapter.")
    own = lora_pairs(net)
    if not own:
        raise BadInput("The network has no adapter: put one beside its layers with add_lora.")
    layout = Layout.of(net)
    trained = {name: pair.pair for name, pair in own.items()}
    whole, base = _whole(net, layout), origin
    parents = [_as_parent(origin)]
    if isinstance(origin, AdapterCheckpoint):
        trained, whole, base = stacked(origin.pairs(net), trained), origin.whole | whole, origin.base
        parents = [_as_parent(base), *parents]
    pairs = layout.theirs(trained)
    dropout = next(iter(own.values())).dropout.p
    stated = _config(pairs, whole, layout, net.config.to_hf(), base, dropout)
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in whole.items()}
    for name, pair in pairs.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"], tensors[f"{PREFIX}{name}.lora_B.weight"] = pair.a, pair.b
    record = {"name": display_name(folder), "parents": parents, **dict(lineage or {})}
    given = chat_template or origin.chat_template
    source = given.source if isinstance(given, ChatTemplate) else given
    about = {name: value for name, value in origin.tokenizer_config.items() if name != "chat_template"}
    with new_folder(folder) as fresh:
        digest = write_file(fresh / WEIGHTS, lazy_tensors(tensors))
        write_json(fresh / CONFIG, stated)
        if whole:
            write_json(fresh / "config.json", net.config.to_hf())
        about |= {"chat_template": source} if source else {}
        write_tokenizer(fresh, tokenizer or origin.tokenizer, about)
        write_lineage(fresh, record, {WEIGHTS: {"sha256": digest, "bytes": (fresh / WEIGHTS).stat().st_size}})
        write_adapter_card(fresh, record, _name_of(base))
    return folder


def _as_parent(origin: Checkpoint) -> dict[str, object]:
    return {"name": origin.lineage.get("name", display_name(origin.path)), "identity": origin.identity}


def _whole(net: Any, layout: "Layout") -> "dict[str, torch.Tensor]":
    """The parts of `net` that train entirely, by the reference's names."""
    from kun.adaptation.lora import base_state

    state = base_state(net)
    trained = {
        name for name, parameter in net.named_parameters() if parameter.requires_grad and name in state
    }
    if not trained:
        return {}
    # what becomes of them is seen by what becomes of numbers that are none
    marked = {n: t.new_full(t.shape, float("nan")) if n in trained else t for n, t in state.items()}
    names = [name for name, tensor in net.names.reference(marked).items() if bool(tensor.isnan().any())]
    reference = net.names.reference(state)
    return {name: reference[name].detach() for name in names}


def _config(
    pairs: "Mapping[str, Pair]",
    whole: "Mapping[str, torch.Tensor]",
    layout: "Layout",
    config: Mapping[str, object],
    origin: Checkpoint,
    dropout: float,
) -> dict[str, object]:
    """adapter_config.json; pairs of another rank or scale than most have their own entries in it."""
    rank, scale = Counter((len(pair.a), pair.scale) for pair in pairs.values()).most_common(1)[0][0]
    others = {name: pair for name, pair in pairs.items() if (len(pair.a), pair.scale) != (rank, scale)}
    head = reference_class(config).rpartition("For")[2]
    return {
        "peft_type": "LORA",
        "task_type": _HEADS.get(head, _TASKS[origin.kind]),
        "base_model_name_or_path": _name_of(origin),
        "r": rank,
        "lora_alpha": scale * rank,
        "rank_pattern": {name: len(pair.a) for name, pair in others.items()},
        "alpha_pattern": {name: pair.scale * len(pair.a) for name, pair in others.items()},
        "target_modules": _shortest(pairs.keys(), layout),
        "modules_to_save": sorted({name.rpartition(".")[0] for name in whole}) or None,
        "lora_dropout": dropout,
        "bias": "none",
        "fan_in_fan_out": pairs.keys() <= layout.turned,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _shortest(targets: Any, layout: "Layout") -> list[str]:
    """The fewest ends of names that mean these layers and no other; the whole names where there are none."""
    modules = {name.rpartition(".")[0] for name in layout.names}
    for depth in (1, 2, 3):
        ends = {".".join(name.split(".")[-depth:]) for name in targets}
        if {name for name in modules if any(f".{name}".endswith(f".{end}") for end in ends)} == set(targets):
            return sorted(ends)
    return sorted(targets)


def _name_of(origin: Checkpoint) -> str:
    """Where `peft` finds the very weights: on the hub, where they came from there, else in their folder."""
    source = origin.lineage.get("source")
    hub = source.get("repo") if isinstance(source, dict) and source.get("kind") == "hub" else None
    return str(hub or origin.path.absolute())
