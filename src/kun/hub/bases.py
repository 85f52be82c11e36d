"""Checkpoints that are whole by themselves, and the one among them that an adapter was trained on."""

from collections.abc import Mapping
from pathlib import Path

from kun.errors import BadInput, ModelNotFound, UnsupportedFormat
from kun.hub.catalog import catalog
from kun.hub.checkpoint import Checkpoint
from kun.hub.folder import FolderCheckpoint
from kun.hub.gguf.checkpoint import GgufCheckpoint
from kun.hub.layout import is_adapter, packed_file
from kun.hub.packed import PackedCheckpoint
from kun.hub.store import installed, resolve


def open_base(path: Path) -> Checkpoint:
    """Open a folder in the Hugging Face layout, or a `.gguf` file. Raises `DamagedFile`, `UnsupportedFormat`."""
    if path.is_file() and path.suffix == ".gguf":
        return GgufCheckpoint.open(path)
    if not (path / "config.json").is_file():
        raise UnsupportedFormat(f"{path} is no checkpoint: a folder with config.json, or a .gguf file, is.")
    return (PackedCheckpoint if packed_file(path) else FolderCheckpoint).open(path)


def find_base(
    adapter: Path, config: Mapping[str, object], parent: Mapping[str, object], base: str | Path | None
) -> Checkpoint:
    """The model that the adapter in a folder was trained on: `base` where it is named, else by name or identity.

    `config` is adapter_config.json, `parent` what the lineage names. Raises `ModelNotFound`, `BadInput`.
    """
    if base is not None:
        place = resolve(base)
        if is_adapter(place):
            raise BadInput(f"{place} is an adapter itself: name the model that {adapter} was trained on.")
        return open_base(place)
    named = config.get("base_model_name_or_path")
    known = [name for name, entry in catalog().items() if entry.hub is not None and entry.hub.repo == named]
    for name in [*known, *(str(name) for name in (named, parent.get("name")) if name)]:
        try:
            place = resolve(name)
        except (ModelNotFound, BadInput):
            continue
        if not is_adapter(place):
            return open_base(place)
    for model in installed() if "identity" in parent else []:
        if model.whole and model.kind not in ("pipeline", "vectors") and not is_adapter(model.path):
            found = open_base(model.path)
            if found.identity == parent["identity"]:
                return found
    wanted = known[0] if known else parent.get("name") or named
    raise ModelNotFound(
        f"{adapter} is an adapter of {wanted}, which is not here: fetch it first (kun pull {wanted})."
    )
