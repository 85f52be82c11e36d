"""The models under KUN_HOME/models: found by name, listed, removed."""

import re
import shutil
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kun.atomic_files import check_once
from kun.errors import BadInput, DamagedFile, KunError, ModelNotFound
from kun.families import kind_of
from kun.hub.catalog import catalog
from kun.hub.layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    LINEAGE,
    PIPELINE_INDEX,
    check_files,
    is_adapter,
    is_pipeline,
    packed_file,
    read_json,
    weight_records,
)
from kun.hub.weights import Weights, check_sizes, read_header
from kun.hub.word_vectors import describes_vectors
from kun.settings import settings

_KINDS = {
    "SEQ_2_SEQ_LM": "encoder-decoder",
    "FEATURE_EXTRACTION": "encoder",
    "SEQ_CLS": "encoder",
    "TOKEN_CLS": "encoder",
    "QUESTION_ANS": "encoder",
}
"""What PEFT's `task_type` says of an adapter; most are for decoders."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


@dataclass(frozen=True)
class InstalledModel:
    """A model that is here. `bytes` is its size on the disk; `whole` is False where a file is missing or cut short.

    `base` is what an adapter is put beside, None for what is a model by itself.
    """

    name: str
    kind: str
    bytes: int
    licence: str | None
    source: str | None
    description: str
    path: Path
    whole: bool
    base: str | None = None


def folder_name(name: str) -> str:
    """The folder of a model: a hub id's "/" becomes "--". Raises `BadInput` for what is no name."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise BadInput(f"{name!r} is no name of a model: names are letters, digits, '.', '-' and '_'.")
    return name.replace("/", "--")


def model_folder(name: str) -> Path:
    """Where the model `name` lies, or would lie."""
    return settings().models / folder_name(name)


def resolve(name: str | Path, *, any_file: bool = False) -> Path:
    """The folder or `.gguf` file, or `any_file`, that `name` means: a model that is here, or a path.

    Raises `ModelNotFound`, which says how to pull it, or names the nearest names.
    """
    text = str(name)
    if not text.strip():
        raise not_found(text)
    if isinstance(name, str) and _NAME.fullmatch(name) and ".." not in name:
        folder = model_folder(name)
        if (folder / "config.json").is_file() or is_adapter(folder) or is_pipeline(folder):
            return folder
    try:
        path = Path(name).expanduser()
        if path.is_dir() or (path.is_file() and (any_file or path.suffix == ".gguf")):
            return path
        exists = path.exists()
    except (OSError, ValueError, RuntimeError):
        exists = False
    if exists:
        raise no_model(text)
    raise not_found(text)


def no_model(place: str | Path) -> BadInput:
    """The error for what is neither a folder nor a file that a model is read from."""
    return BadInput(f"{place} is no model: name a folder in the Hugging Face layout, or a .gguf file.")


def display_name(path: Path) -> str:
    """What the model at `path` is called: as its folder or file, and a run's checkpoint as the run."""
    path = path.absolute()
    if path.is_file():
        return path.stem
    return path.parent.name if path.name == "checkpoint" else path.name


def not_found(name: str) -> ModelNotFound:
    """The error for a model that is not here."""
    shown = name if len(name) <= 100 else name[:100] + "…"
    if name in catalog():
        return ModelNotFound(f"{name} is not here yet: kun pull {name}")
    names = list(dict.fromkeys([*(model.name for model in installed()), *catalog()]))
    near = get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "kun models lists what there is."
    return ModelNotFound(f"There is no model {shown!r} here or in the catalog: {hint}")


def installed() -> list[InstalledModel]:
    """The models under KUN_HOME, by name; damaged ones too."""
    home = settings().models
    if not home.is_dir():
        return []
    folders = (path for path in home.iterdir() if not path.name.startswith(".") and path.is_dir())
    return sorted((_describe(path) for path in folders), key=lambda model: model.name)


def _describe(path: Path) -> InstalledModel:
    lineage = _read_or_empty(path / LINEAGE)
    entry = catalog().get(path.name)
    name = lineage.get("name")
    base = _base(path, lineage) if is_adapter(path) else None
    described = f"An adapter of {base}." if base else str(lineage.get("description") or "")
    return InstalledModel(
        name=name if isinstance(name, str) and folder_name_or_none(name) == path.name else path.name,
        kind=_kind(path),
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        licence=lineage.get("licence") or (entry.licence if entry else None),
        source=_source_in_words(lineage.get("source")),
        description=entry.description if entry else described,
        path=path,
        whole=is_whole(path),
        base=base,
    )


def _kind(path: Path) -> str:
    """What a model is for; of an adapter as far as it says so itself."""
    if is_pipeline(path):
        return "pipeline"
    if is_adapter(path) and not (path / "config.json").is_file():
        return _KINDS.get(str(_read_or_empty(path / ADAPTER_CONFIG).get("task_type")), "decoder")
    config = _read_or_empty(path / "config.json")
    return "vectors" if describes_vectors(config) else kind_of(config)


def _base(path: Path, lineage: dict[str, Any]) -> str:
    parents = lineage.get("parents")
    first = parents[0] if isinstance(parents, list) and parents else None
    if isinstance(first, dict) and isinstance(first.get("name"), str):
        return str(first["name"])
    return str(_read_or_empty(path / ADAPTER_CONFIG).get("base_model_name_or_path"))


def folder_name_or_none(name: str) -> str | None:
    try:
        return folder_name(name)
    except BadInput:
        return None


def _read_or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except DamagedFile:
        return {}


def _source_in_words(source: Any) -> str | None:
    if not isinstance(source, dict):
        return None
    return f"{source.get('kind')}: {source.get('repo') or source.get('package')}"


def is_whole(path: Path, *, digests: bool = False) -> bool:
    """Whether a model is there with all its files: by sizes and headers, and by what they hold where `digests`."""
    try:
        lineage = _read_or_empty(path / LINEAGE)
        check_sizes(path, weight_records(lineage))
        for name, record in weight_records(lineage).items() if digests else ():
            check_once(path / name, record["sha256"])
        if digests:
            check_files(path, lineage)
        if is_adapter(path):
            read_json(path / ADAPTER_CONFIG)
            read_header(path / ADAPTER_WEIGHTS)
        elif is_pipeline(path):
            read_json(path / PIPELINE_INDEX)
        else:
            read_json(path / "config.json")
            if packed_file(path) is None:
                Weights.open(path)
    except KunError:
        return False
    return True


def remove(name: str) -> None:
    """Delete a model from KUN_HOME/models. Raises `ModelNotFound`, `BadInput` for what is no name."""
    folder = model_folder(name)
    if folder.is_symlink():
        folder.unlink()  # the link is ours, what it points at is not
        return
    if not folder.is_dir():
        raise not_found(name)
    # out of sight first, so that nobody opens a model that is half deleted
    grave = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(grave, ignore_errors=True)
    folder.rename(grave)
    shutil.rmtree(grave)
