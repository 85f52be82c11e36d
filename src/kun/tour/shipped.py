"""Weights of Kun's own making that come with the tour: safetensors, each with its recipe and digest."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from kun.atomic_files import new_file, sha256
from kun.errors import DamagedFile

_LIST = "weights.toml"
LARGEST = 6_000_000
"""Bytes of all of them together."""


@dataclass(frozen=True)
class ShippedWeights:
    """One file: its digest, and the recipe that made it."""

    name: str
    digest: str
    recipe: str


def shipped() -> dict[str, ShippedWeights]:
    """All that ship, by name."""
    return _listed(files("kun.tour").joinpath("weights", _LIST).read_text(encoding="utf-8"))


def _listed(text: str) -> dict[str, ShippedWeights]:
    return {
        name: ShippedWeights(name, str(row["sha256"]), str(row["recipe"]))
        for name, row in tomllib.loads(text).items()
    }


def write_shipped(name: str, tensors: Mapping[str, Tensor], recipe: str, folder: Path) -> Path:
    """Write weights as they ship, of the types that they have; returns the file.

    Their digest and the recipe go into weights.toml of `folder`, in which what else ships keeps its entry.
    """
    path, listed = folder / f"{name}.safetensors", folder / _LIST
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    known = _listed(listed.read_text(encoding="utf-8")) if listed.is_file() else {}
    known[name] = ShippedWeights(name, sha256(path), recipe)
    entries = (
        f"[{one.name}]\nsha256 = {json.dumps(one.digest)}\nrecipe = {json.dumps(one.recipe)}\n"
        for one in known.values()
    )
    with new_file(listed) as fresh:
        fresh.write_text("\n".join(entries), encoding="utf-8")
    return path


def read_shipped(name: str, folder: Path | None = None) -> dict[str, Tensor]:
    """The tensors of shipped weights, as float32. Raises `DamagedFile` where they are not those that were shipped."""
    expected = shipped()[name].digest
    with as_file(files("kun.tour").joinpath("weights", f"{name}.safetensors")) as inside:
        path = inside if folder is None else folder / f"{name}.safetensors"
        if not path.is_file() or sha256(path) != expected:
            raise DamagedFile(
                f"{path} is damaged or missing: it ships with Kun, and its digest is not {expected[:12]}…: "
                f"install Kun again."
            )
        return {key: tensor.float() for key, tensor in load_file(path).items()}
