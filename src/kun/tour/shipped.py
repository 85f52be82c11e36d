"""Weights of Kun's own making that come with the tour: safetensors, each with its recipe and digest."""

import tomllib
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from kun.atomic_files import sha256
from kun.errors import DamagedFile

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
    text = files("kun.tour").joinpath("weights", "weights.toml").read_text(encoding="utf-8")
    return {
        name: ShippedWeights(name, str(row["sha256"]), str(row["recipe"]))
        for name, row in tomllib.loads(text).items()
    }


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
