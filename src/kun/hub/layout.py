"""The small files around the weights, as the Hugging Face layout has them, and what Kun adds to it."""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from tokenizers import Tokenizer

from kun.atomic_files import check_once, inside, sha256, unsealed
from kun.errors import BadInput, DamagedFile
from kun.families import kind_of
from kun.version import __version__

log = logging.getLogger(__name__)
LINEAGE = "kun.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PACKED = ("model.gguf", "model.e5")
PIPELINE_INDEX = "model_index.json"
_PIPELINES = {
    "MaskedLM": "fill-mask",
    "PreTraining": "fill-mask",
    "SequenceClassification": "text-classification",
    "TokenClassification": "token-classification",
    "QuestionAnswering": "question-answering",
}
POOLINGS = ("mean", "cls", "max")
"""Ways from the states of a text to one vector."""
_SMALL = "files"
"""The key of kun.json for the digests of configs, tokenizers and templates."""
_TOKENS = re.compile(r"tokenizer\.json|vocab\..*|merges\.txt|.*\.model")
"""The files of a tokenizer, which nobody edits."""
_SUFFIXES = (".json", ".jinja", ".txt", ".model")
_MODE = "pooling_mode_"
_LONGEST_JSON = 64 * 2**20


class Record(TypedDict):
    """What kun.json holds of one file."""

    sha256: str
    bytes: int


def weight_records(lineage: Mapping[str, object]) -> dict[str, Record]:
    """The files of weights that a lineage names, by their paths within the folder."""
    return _records(lineage, "weights")


def file_records(lineage: Mapping[str, object]) -> dict[str, Record]:
    """The small files that a lineage names, by their paths within the folder."""
    return _records(lineage, _SMALL)


def check_files(folder: Path, lineage: Mapping[str, object]) -> None:
    """Compare the small files that are there with what kun.json recorded of them.

    Raises `DamagedFile` for those of a tokenizer. A config or a template, which people edit, is named in the log.
    """
    for name, record in file_records(lineage).items():
        path = inside(folder, name)
        try:
            if path.is_file():
                check_once(path, record["sha256"])
        except DamagedFile as error:
            advice = f'If you changed it yourself, take its name out of "{_SMALL}" in {folder / LINEAGE}.'
            if _TOKENS.fullmatch(path.name):
                raise DamagedFile(f"{error} {advice}") from error
            log.warning("%s is not as it was written: it is damaged, or was edited. %s", path, advice)


def _records(lineage: Mapping[str, object], key: str) -> dict[str, Record]:
    stated = lineage.get(key)
    files = stated if isinstance(stated, dict) else {}
    return {name: _record(record) for name, record in files.items()}


def _record(stated: object) -> Record:
    known = stated if isinstance(stated, dict) else {}
    return Record(sha256=str(known.get("sha256")), bytes=int(known.get("bytes") or 0))


def parent_of(lineage: Mapping[str, object]) -> dict[str, object]:
    """What a lineage holds of the model that this one was made of first; nothing where it names none."""
    parents = lineage.get("parents")
    return parents[0] if isinstance(parents, list) and parents and isinstance(parents[0], dict) else {}


def reference_class(config: Mapping[str, object]) -> str:
    """The class that a config.json was written for: its only or first architecture, "" where it names none."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def packed_file(folder: Path) -> Path | None:
    """The packed file that holds a folder's weights in the place of safetensors; None where there is none."""
    found = [folder / name for name in PACKED if (folder / name).is_file()]
    return found[0] if found else None


def is_pipeline(folder: Path) -> bool:
    """Whether this is the folder of a pipeline, in diffusers' layout."""
    return (folder / PIPELINE_INDEX).is_file()


def is_adapter(folder: Path) -> bool:
    """Whether this is the folder of an adapter, in PEFT's layout."""
    return (folder / ADAPTER_CONFIG).is_file()


def read_json(path: Path) -> dict[str, object]:
    """An object from a JSON file, its seal checked if it has one. Raises `DamagedFile`."""
    try:
        if path.stat().st_size > _LONGEST_JSON:
            raise ValueError("it is too long")
        value = unsealed(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedFile(f"{path} is missing: pull or copy the model again.") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is no readable JSON ({error}): pull or copy the model again.") from error
    return value


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tokenizer(folder: Path, tokenizer: Tokenizer, config: dict[str, object]) -> None:
    """tokenizer.json, tokenizer_config.json, and chat_template.jinja where the config holds a template."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tokenizer_config(folder, config)


def write_tokenizer_config(folder: Path, config: dict[str, object]) -> None:
    """tokenizer_config.json, and chat_template.jinja where the config holds a template."""
    write_json(folder / "tokenizer_config.json", config)
    template = config.get("chat_template")
    if isinstance(template, str):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def write_sentence_layout(
    folder: Path, dimensions: int, max_tokens: int, pooling: str, prompts: dict[str, str]
) -> None:
    """The files by which sentence-transformers knows how a text becomes one vector of unit length.

    Raises `BadInput` for a pooling other than "mean", "cls" and "max", which these files could not tell.
    """
    if pooling not in POOLINGS:
        raise BadInput(f"Kun does not pool by {pooling}: it knows {', '.join(POOLINGS)}.")
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    for path, _ in modules[1:]:
        (folder / path).mkdir(exist_ok=True)
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": dimensions,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": pooling == "max",
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def read_pooling(folder: Path) -> str:
    """What a folder says of how a text becomes one vector: "mean" where it says nothing, "cls", "max", or another."""
    path = folder / "1_Pooling" / "config.json"
    said = read_json(path) if path.is_file() else {}
    modes = [name.removeprefix(_MODE) for name, on in said.items() if on is True and name.startswith(_MODE)]
    return " and ".join(mode.removesuffix("s").removesuffix("_token") for mode in modes) or "mean"


def write_lineage(folder: Path, lineage: dict[str, object], weights: dict[str, Record]) -> None:
    """kun.json: where the checkpoint comes from, and the digests of the files in its folder; written after them."""
    small = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    files = {
        name: Record(sha256=sha256(path), bytes=path.stat().st_size)
        for name, path in small.items()
        if path.suffix in _SUFFIXES and name not in weights and name != LINEAGE
    }
    write_json(folder / LINEAGE, {"kun": __version__, **lineage, "weights": weights, _SMALL: files})


def write_card(folder: Path, lineage: dict[str, object], config: dict[str, object]) -> None:
    """README.md: a model card with the header that the hub reads."""
    name = lineage.get("name") or folder.name
    head = ["---", "library_name: transformers"]
    if lineage.get("licence"):
        head.append(f"license: {json.dumps(str(lineage['licence']).lower())}")
    head += [
        f"pipeline_tag: {_pipeline(config)}",
        "---",
        "",
        f"# {name}",
        "",
    ]
    facts = {
        "Architecture": reference_class(config) or str(config.get("model_type")),
        "Licence": lineage.get("licence"),
        "Source": _in_words(lineage.get("source")),
        "Made from": _in_words(lineage.get("parents")),
        "Recipe": _in_words(lineage.get("recipe")),
        "Metrics": _in_words(lineage.get("metrics")),
    }
    body = [str(lineage["description"]), ""] if lineage.get("description") else []
    body += ["| | |", "|---|---|"]
    body += [f"| {key} | {_cell(value)} |" for key, value in facts.items() if value]
    body += [
        "",
        f"Written by Kun {__version__}; `{LINEAGE}` holds the whole lineage and the digests of the weights.",
    ]
    (folder / "README.md").write_text("\n".join(head + body) + "\n", encoding="utf-8")


def write_adapter_card(folder: Path, lineage: dict[str, object], base: str) -> None:
    """README.md of an adapter, with the header by which the hub knows its base."""
    head = ["library_name: peft", f"base_model: {json.dumps(base)}", "tags: [lora]"]
    facts = {"Adapter of": lineage.get("parents")}
    _write_short_card(folder, lineage, head, facts)


def write_pipeline_card(folder: Path, lineage: dict[str, object], index: Mapping[str, object]) -> None:
    """README.md of a pipeline whose model_index.json is `index`."""
    parts = {name: stated for name, stated in index.items() if not name.startswith("_")}
    facts = {"Pipeline": index["_class_name"], "Components": parts, "Made from": lineage.get("parents")}
    _write_short_card(folder, lineage, ["library_name: diffusers"], facts)


def write_vectors_card(folder: Path, lineage: dict[str, object], config: Mapping[str, object]) -> None:
    """README.md of word vectors, of which `config` says the method and the sizes."""
    _write_short_card(folder, lineage, ["tags: [word-vectors]"], {"Word vectors": dict(config)})


def _write_short_card(
    folder: Path, lineage: dict[str, object], head: list[str], facts: Mapping[str, object]
) -> None:
    name = lineage.get("name") or folder.name
    every = {**facts, "Recipe": lineage.get("recipe"), "Metrics": lineage.get("metrics")}
    words = {key: _in_words(value) for key, value in every.items()}
    lines = ["---", *head, "---", "", f"# {name}", ""]
    lines += [str(lineage["description"]), ""] if lineage.get("description") else []
    lines += ["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in words.items() if value)]
    lines += [
        "",
        f"Written by Kun {__version__}; `{LINEAGE}` holds the whole lineage and the digest of the weights.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pipeline(config: dict[str, object]) -> str:
    """What the hub calls the use of a model with this config.json."""
    head = reference_class(config).rpartition("For")[2]
    encoding = "sentence-similarity" if kind_of(config) == "encoder" else "text-generation"
    return _PIPELINES.get(head, encoding)


def _in_words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_in_words(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_words, value))
    return "" if value is None else str(value)


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
