"""A network and what belongs to it, written as a checkpoint that `transformers` loads as it stands."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.atomic_files import Progress, new_folder, silent
from kun.errors import BadInput
from kun.families import family_of
from kun.hub.checkpoint import Checkpoint
from kun.hub.layout import (
    LINEAGE,
    write_card,
    write_json,
    write_lineage,
    write_sentence_layout,
    write_tokenizer,
)
from kun.hub.lazy import lazy_tensors
from kun.hub.store import display_name
from kun.hub.weights import write_weights
from kun.networks.missing_head import missing_head
from kun.text.chat import ChatTemplate

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

_SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
_POOLING = "1_Pooling"
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def save_checkpoint(
    folder: str | Path,
    net: Any,
    *,
    tokenizer: "Tokenizer",
    chat_template: ChatTemplate | str | None = None,
    generation_config: Mapping[str, object] | None = None,
    lineage: Mapping[str, object] | None = None,
    origin: Checkpoint | None = None,
    dtype: "torch.dtype | None" = None,
    progress: Progress = silent,
    check: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write a checkpoint in the Hugging Face layout, whole or not at all; returns its folder.

    `origin` is the checkpoint that the network came from: special tokens, template, generation config and an
    encoder's pooling and prompts are its, where they are not given, and it becomes the parent in the lineage.
    `lineage` may hold name, licence, description, source, parents, recipe, data and metrics. Weights are
    written as `dtype`, each converted when its turn comes, or as they are where it is None. `check` is shown the
    written folder before it takes its name; if that raises, nothing is left.

    Raises `BadInput` for a quantized network, and for a folder that holds something other than a checkpoint;
    `NoSpace`.
    """
    folder = Path(folder).absolute()
    _check_target(folder)
    from kun.adaptation.lora import lora_pairs

    if lora_pairs(net):
        raise BadInput("The network has an adapter beside its weights: merge it first, or use save_adapter.")
    state = net.state_dict()
    quantized = next((name for name, tensor in state.items() if not tensor.is_floating_point()), None)
    if quantized is not None:
        raise BadInput(
            f"A quantized network cannot be saved ({quantized}): load it without quantize and save that."
        )
    sizes: Any = net.config
    config = _config(net, generation_config, origin, dtype)
    family = family_of(config)
    record = lineage_of(display_name(folder), lineage, origin)
    with new_folder(folder) as fresh:
        records = write_weights(fresh, lazy_tensors(net.names.reference(state), dtype), progress)
        write_json(fresh / "config.json", config)
        said_of_tokens = _tokenizer_config(config, tokenizer, chat_template, origin, sizes.context_length)
        write_tokenizer(fresh, tokenizer, said_of_tokens)
        if family.kind != "encoder":
            said = (
                generation_config
                if generation_config is not None
                else (origin.generation_config if origin else {})
            )
            write_json(fresh / "generation_config.json", dict(said))
        else:
            _write_sentence_files(fresh, sizes, origin)
        write_lineage(fresh, record, records)
        write_card(fresh, record, config)
        check(fresh)
    return folder


def _check_target(folder: Path) -> None:
    """Nothing but a checkpoint of ours is ever replaced."""
    if folder.is_file():
        raise BadInput(f"{folder} is a file: name a folder for the checkpoint.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LINEAGE).is_file():
        raise BadInput(f"{folder} holds other things: name a new or empty folder for the checkpoint.")


def _config(
    net: Any, generation: Mapping[str, object] | None, origin: Checkpoint | None, dtype: "torch.dtype | None"
) -> dict[str, object]:
    config: dict[str, object] = net.config.to_hf()
    missing = missing_head(net)
    config |= {"architectures": [missing.architecture]} if missing else {}
    known = {**(origin.config if origin else {}), **(generation or {})}
    ids = {name: known[name] for name in _TOKEN_IDS if known.get(name) is not None and name not in config}
    written = str(dtype or next(net.parameters()).dtype).removeprefix("torch.")
    return config | ids | {"torch_dtype": written}


def _tokenizer_config(
    config: dict[str, object],
    tokenizer: "Tokenizer",
    chat_template: ChatTemplate | str | None,
    origin: Checkpoint | None,
    limit: int,
) -> dict[str, object]:
    given = chat_template or (origin.chat_template if origin else None)
    source = given.source if isinstance(given, ChatTemplate) else given
    special = given.special_tokens if isinstance(given, ChatTemplate) else {}
    if not special:
        named = {name.removesuffix("_id"): _first(config.get(name)) for name in _TOKEN_IDS}
        texts = {name: tokenizer.id_to_token(index) for name, index in named.items() if index is not None}
        special = {name: text for name, text in texts.items() if text is not None}
    base = (
        origin.tokenizer_config
        if origin
        else {"clean_up_tokenization_spaces": False, "model_max_length": limit}
    )
    said = {**base, **special, "tokenizer_class": "PreTrainedTokenizerFast"}
    said.pop("chat_template", None)
    return said | ({"chat_template": source} if source else {})


def _first(value: Any) -> int | None:
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, int) else None


def _write_sentence_files(fresh: Path, config: Any, origin: Checkpoint | None) -> None:
    """How an encoder's states become one vector: as it was said, else by the mean where it has no other task."""
    source = origin.files_path if origin and origin.files_path.is_dir() else None
    if source is None or not (source / "modules.json").is_file():
        if config.head is None:
            pooling = origin.pooling if origin else "mean"
            write_sentence_layout(fresh, config.d_model, config.context_length, pooling, {})
        return
    for name in _SENTENCE_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, fresh / name)
    if (source / _POOLING / "config.json").is_file():
        (fresh / _POOLING).mkdir()
        shutil.copyfile(source / _POOLING / "config.json", fresh / _POOLING / "config.json")


def lineage_of(name: str, said: Mapping[str, object] | None, origin: Checkpoint | None) -> dict[str, object]:
    """What kun.json says of a model of this `name` that was made from `origin`; what is `said` goes before."""
    record: dict[str, object] = {"name": name}
    if origin is not None:
        record |= {key: origin.lineage[key] for key in ("licence",) if key in origin.lineage}
        record["parents"] = [
            {"name": origin.lineage.get("name", display_name(origin.path)), "identity": origin.identity}
        ]
    return record | dict(said or {})
