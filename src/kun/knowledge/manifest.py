"""`kb.json`: what makes a folder a knowledge base, and which encoder its vectors are from."""

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from kun.atomic_files import new_file, sealed, unsealed
from kun.errors import DamagedFile, KnowledgeBaseNotFound

_FORMAT = 1
CUTTING = 2
"""The version of how documents are cut. 1 (and files without the number): many rows of a table were one passage."""


class _Encoder(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    identity: str
    dimensions: int = Field(ge=1, le=65_536)
    max_tokens: int = Field(ge=8)


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format: int = Field(ge=1, le=_FORMAT)
    name: str
    encoder: _Encoder
    generation: int = Field(ge=1)
    cutting: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Manifest:
    """The encoder of a knowledge base, which generation of its passages is in force, and how these were cut."""

    name: str
    encoder: str
    identity: str
    dimensions: int
    max_tokens: int
    generation: int = 1
    cutting: int = CUTTING

    @property
    def passages_table(self) -> str:
        return f"passages-{self.generation}"

    def after(self, other: "Manifest") -> "Manifest":
        """This one, as the generation that follows `other`."""
        return replace(self, generation=other.generation + 1)

    @staticmethod
    def file(folder: Path) -> Path:
        return folder / "kb.json"

    @classmethod
    def exists(cls, folder: Path) -> bool:
        return cls.file(folder).is_file()

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises `KnowledgeBaseNotFound` where there is none, `DamagedFile` where it cannot be understood."""
        try:
            parsed = _File.model_validate(unsealed(cls.file(folder).read_bytes()))
        except FileNotFoundError as error:
            raise KnowledgeBaseNotFound(f"There is no knowledge base in {folder}.") from error
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedFile(
                f"{cls.file(folder)} cannot be read: remove the knowledge base and add its documents again."
            ) from error
        encoder = parsed.encoder
        return cls(
            parsed.name,
            encoder.name,
            encoder.identity,
            encoder.dimensions,
            encoder.max_tokens,
            parsed.generation,
            parsed.cutting,
        )

    def write(self, folder: Path) -> None:
        """Replace the file in one step. Raises `NoSpace`, `NotWritable`."""
        encoder = _Encoder(
            name=self.encoder,
            identity=self.identity,
            dimensions=self.dimensions,
            max_tokens=self.max_tokens,
        )
        body = _File(
            format=_FORMAT,
            name=self.name,
            encoder=encoder,
            generation=self.generation,
            cutting=self.cutting,
        )
        with new_file(self.file(folder)) as fresh:
            fresh.write_bytes(sealed(body.model_dump()))
